// Unmodified clients behind HAProxy, which gives each request to the node with the fewest connections.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Crowd, settled, sum } from "../lib/crowd.mjs";
import { HAProxy } from "../lib/haproxy.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";

const skip = lacking("haproxy");
const cluster = await Cluster.start(3, { PEER_ADDR: "127.0.0.1:0" });
const { nodes } = cluster;
after(() => cluster.stop());

test("500 clients connect, join, talk and upgrade behind leastconn, and every message comes once and in order", { skip }, async (t) => {
  const haproxy = await HAProxy.start(nodes.map(({ address }) => address));
  t.after(() => haproxy.stop());
  const crowd = await Crowd.gather(t, { nodes, size: 500 });
  await crowd.connect({ url: haproxy.url, times: 3 });
  await crowd.use("websocket");
  const relayed = await sum(nodes, "edge_relayed_requests_total");
  const wait = await settled(nodes);
  await crowd.fence();
  const deliveries = await crowd.exact();
  assert.ok(deliveries >= 20_000, `only ${deliveries} deliveries`);
  await crowd.calm("websocket");
  const moved = await sum(nodes, 'edge_moves_total{result="moved"}');
  assert.ok(moved > 0, "no conn has moved");
  const frames = await sum(nodes, "edge_relayed_frames_total");
  await crowd.narrate(5);
  await crowd.fence();
  assert.equal((await crowd.exact()) - deliveries, 6 * 500);
  assert.equal(await sum(nodes, "edge_relayed_frames_total"), frames, "frames are relayed although all conns have moved");
  await crowd.calm("websocket");
  console.log(`leastconn, 500 clients: ${deliveries} deliveries; ${relayed / 500} relayed requests and ${moved / 500} moves per client, ${frames} frames relayed; the last move ended ${wait} ms after the last upgrade`);
});
