// Unmodified clients behind nginx with its ip_hash, where no request goes to another node than the session's; and what it
// costs Redis that they do elsewhere.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { connected } from "../fixtures/node-server.mjs";
import { Crowd, settled, sum } from "../lib/crowd.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";
import { eventually } from "../lib/wait.mjs";

const skip = lacking("nginx");
const cluster = await Cluster.start(3);
const { nodes } = cluster;
const redis = await connected(cluster.redis.url);
after(async () => {
  await redis.disconnect();
  await cluster.stop();
});

const CLIENTS = 200;

// spent is what Redis did for the nodes from now on until done() is called.
async function spent() {
  const number = (text, name) => Number(new RegExp(`^${name}(\\d+)`, "m").exec(text)?.[1] ?? 0);
  const read = async () => {
    const [stats, calls] = [await redis.info("stats"), await redis.info("commandstats")];
    return {
      commands: number(stats, "total_commands_processed:"), // those inside scripts as well
      scripts: number(calls, "cmdstat_evalsha:calls="),
      bytes: number(stats, "total_net_input_bytes:") + number(stats, "total_net_output_bytes:"),
      ms: performance.now(),
    };
  };
  const begin = await read();
  return async () => {
    const end = await read();
    return Object.fromEntries(Object.entries(end).map(([what, value]) => [what, value - begin[what]]));
  };
}

// resting is what Redis does for nodes whose clients do nothing.
async function resting() {
  const done = await spent();
  await delay(1_000); // a time to measure over
  return done();
}

// connecting lets a crowd connect, join and upgrade through a balancer, and returns it and what Redis did for it.
async function connecting(t, url) {
  await eventually("the clients of the last case to be gone", async () => (await sum(nodes, "edge_sockets")) === 0 && (await sum(nodes, "edge_presence_dirty")) === 0);
  const crowd = await Crowd.gather(t, { nodes, size: CLIENTS, far: true });
  const idle = await resting();
  const done = await spent();
  await crowd.connect({ url });
  await crowd.use("websocket");
  await settled(nodes);
  const cost = await done();
  for (const what of ["commands", "scripts", "bytes"]) cost[what] -= idle[what] * (cost.ms / idle.ms);
  return { crowd, cost };
}

let sticky; // what the first case cost

test("behind nginx's ip_hash clients connect, upgrade and talk, and nothing is relayed", { skip }, async (t) => {
  const nginx = await Nginx.start(nodes.map(({ address }) => address), { sticky: true });
  t.after(() => nginx.stop());
  const { crowd, cost } = await connecting(t, nginx.url);
  sticky = cost;
  await crowd.ask("say", { times: 3 });
  await crowd.fence();
  await crowd.exact();
  await crowd.calm("websocket");
  for (const node of nodes) assert.ok((await node.metric('edge_conns{transport="websocket"}')) > CLIENTS / 10, "the clients are on one node");
  for (const name of ["edge_relayed_requests_total", "edge_relayed_frames_total", "edge_moves_total"]) assert.equal(await sum(nodes, name), 0, name);
});

// The same clients once more, with nothing but the balancing changed: the difference is what moving costs Redis.
test("behind round robin the same clients move, at a price for Redis that is known", { skip }, async (t) => {
  const nginx = await Nginx.start(nodes.map(({ address }) => address));
  t.after(() => nginx.stop());
  const { crowd, cost } = await connecting(t, nginx.url);
  await crowd.calm("websocket");
  const moved = await sum(nodes, 'edge_moves_total{result="moved"}');
  assert.ok(moved > CLIENTS / 3, `${moved} of ${CLIENTS} conns moved`);
  const per = (what) => ((cost[what] - sticky[what]) / moved).toFixed(1);
  console.log(
    `Redis, ${CLIENTS} clients that connect, join and upgrade: ${moved} moved, for ${per("scripts")} calls of scripts, ${per("commands")} commands ` +
      `(those in scripts counted) and ${per("bytes")} bytes each; a client with ip_hash costs ${(sticky.scripts / CLIENTS).toFixed(1)}, ${(sticky.commands / CLIENTS).toFixed(1)} and ${(sticky.bytes / CLIENTS).toFixed(0)}`,
  );
});
