// A node that is killed with -9 while clients connect, upgrade and move, behind nginx's round robin.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Crowd, narrating, sum } from "../lib/crowd.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";
import { eventually } from "../lib/wait.mjs";

const skip = lacking("nginx");
// A client whose WebSocket breaks after the probe was answered, and before it has said that it upgrades, has paused its
// polling for good: socket.io-client hears nothing until its ping timeout. That is why pings are frequent here.
const cluster = await Cluster.start(3, { PING_INTERVAL: "2s", PING_TIMEOUT: "3s" });
const [a, b, doomed] = cluster.nodes;
after(() => cluster.stop());

const CLIENTS = 150;

test("clients that connect, upgrade and move while a node is killed with -9 come back recovered and miss nothing", { skip }, async (t) => {
  const nginx = await Nginx.start(cluster.nodes.map(({ address }) => address));
  t.after(() => nginx.stop());
  const crowd = await Crowd.gather(t, { nodes: [a, b], size: CLIENTS, perRoom: 15 });
  await narrating([crowd], async () => {
    const connecting = crowd.connect({ url: nginx.url, times: 2, rate: 300 });
    await eventually("the node to have some of them", async () => (await sum([doomed], "edge_conns")) >= 15);
    await doomed.stop();
    await connecting;
    await crowd.ask("until", {});
  });
  await crowd.fence();
  await crowd.ask("say", { times: 1 });
  await crowd.fence();
  await crowd.exact({ unsure: true });
  const states = await crowd.states();
  const away = states.filter(({ disconnects }) => disconnects.length > 0);
  assert.ok(away.length > 0, "nobody noticed anything");
  assert.deepEqual(away.filter(({ recovered }) => !recovered.slice(1).every(Boolean)), [], "not recovered");
  console.log(`kill -9 while clients connect and move: ${away.length} of ${CLIENTS} were disconnected, all were recovered`);
});
