// Unmodified clients behind nginx's round robin where conns cannot move: without connection state recovery.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Crowd, sum } from "../lib/crowd.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";

const skip = lacking("nginx");
const cluster = await Cluster.start(3, { RECOVERY: "off" });
const { nodes } = cluster;
after(() => cluster.stop());

test("with RECOVERY=off clients upgrade behind round robin, and what they send and receive is relayed, once and in order", { skip }, async (t) => {
  const nginx = await Nginx.start(nodes.map(({ address }) => address));
  t.after(() => nginx.stop());
  const crowd = await Crowd.gather(t, { nodes, size: 100 });
  await crowd.connect({ url: nginx.url, times: 3 });
  await crowd.use("websocket");
  const before = await sum(nodes, "edge_relayed_frames_total");
  await crowd.ask("say", { times: 3 });
  await crowd.fence();
  await crowd.exact();
  await crowd.calm("websocket");
  assert.equal(await sum(nodes, 'edge_moves_total{result="moved"}'), 0);
  const held = await sum(nodes, "edge_relayed_websockets");
  assert.ok(held > 0, "no WebSocket is held for another node");
  const frames = (await sum(nodes, "edge_relayed_frames_total")) - before;
  assert.ok(frames >= 6 * held, `${frames} frames were relayed for ${held} WebSockets`); // 3 messages there, each before the next its answer back
});
