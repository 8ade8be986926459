// A node that is killed with -9 behind nginx's round robin.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Crowd, narrating, settled } from "../lib/crowd.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Cluster } from "../lib/process.mjs";
import { owner } from "../lib/session.mjs";
import { lacking } from "../lib/shipped.mjs";

const skip = lacking("nginx");
const cluster = await Cluster.start(3);
const { nodes } = cluster;
const alive = nodes.slice(0, 2);
const nginx = skip ? undefined : await Nginx.start(nodes.map(({ address }) => address));
after(async () => {
  await nginx?.stop();
  await cluster.stop();
});

const gone = ({ disconnects }) => disconnects.length > 0;

test("after kill -9 of a node its clients come back by themselves, recovered, and miss nothing; other WebSockets stay", { skip }, async (t) => {
  const doomed = nodes[2];
  const upgraded = await Crowd.gather(t, { nodes: alive, size: 90, perRoom: 15, processes: 1 });
  const polling = await Crowd.gather(t, { nodes: alive, size: 45, perRoom: 15, processes: 1 });
  await Promise.all([upgraded.connect({ url: nginx.url, times: 1 }), polling.connect({ url: nginx.url, times: 1, transports: ["polling"] })]);
  await upgraded.use("websocket");
  await settled(nodes);
  for (const crowd of [upgraded, polling]) await crowd.fence();
  await upgraded.calm("websocket");
  await polling.calm("polling");

  const held = await doomed.metric('edge_conns{transport="websocket"}'); // no witness is there
  const name = await owner(doomed);
  const owned = (await polling.states()).filter(({ conn }) => conn.startsWith(name)).map(({ user }) => user);
  assert.ok(held > 0 && owned.length > 0, `the node has ${held} WebSockets and ${owned.length} polling clients`);

  await narrating([upgraded, polling], async (sent) => {
    await sent(10);
    await doomed.stop();
    await upgraded.ask("until", { back: held });
    await polling.ask("until", { back: owned.length });
  });
  for (const crowd of [upgraded, polling]) {
    await crowd.fence();
    await crowd.ask("say", { times: 1 });
    await crowd.fence();
    await crowd.exact();
  }

  const states = await upgraded.states();
  assert.equal(states.filter(gone).length, held, "clients that were disconnected, and WebSockets that the node had");
  const pollers = await polling.states();
  const away = pollers.filter(gone).map(({ user }) => user);
  assert.deepEqual(owned.filter((user) => !away.includes(user)), [], "polling clients of the dead node that noticed nothing");
  for (const s of [...states, ...pollers]) {
    assert.equal(s.recovered.length, 1 + s.disconnects.length, JSON.stringify(s));
    assert.ok(s.recovered.slice(1).every(Boolean), `not recovered: ${JSON.stringify(s)}`);
    assert.deepEqual(s.errors, [], JSON.stringify(s));
  }
  console.log(`kill -9: ${held} of 90 WebSocket clients and ${away.length} of 45 polling clients were disconnected (the node had ${owned.length} of these), all were recovered`);
});
