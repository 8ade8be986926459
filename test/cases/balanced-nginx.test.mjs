// Unmodified clients behind nginx, which gives each request to the next node.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Crowd, settled, sum } from "../lib/crowd.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";

const skip = lacking("nginx");
const cluster = await Cluster.start(3, { PEER_ADDR: "127.0.0.1:0" });
const { nodes } = cluster;
const nginx = skip || (await Nginx.start(nodes.map(({ address }) => address)));
after(async () => {
  if (!skip) await nginx.stop();
  await cluster.stop();
});

test("500 clients connect, join, talk and upgrade behind round robin, and every message comes once and in order", { skip }, async (t) => {
  const crowd = await Crowd.gather(t, { nodes, size: 500 });
  await crowd.connect({ url: nginx.url, times: 3 });
  await crowd.use("websocket");
  const relayed = await sum(nodes, "edge_relayed_requests_total");
  const wait = await settled(nodes);
  await crowd.fence();
  const deliveries = await crowd.exact();
  assert.ok(deliveries >= 20_000, `only ${deliveries} deliveries`);
  await crowd.calm("websocket");

  const moved = await sum(nodes, 'edge_moves_total{result="moved"}');
  assert.ok(moved > 0, "no conn has moved");
  assert.equal(await sum(nodes, 'edge_moves_total{result="failed"}'), 0);
  const frames = await sum(nodes, "edge_relayed_frames_total");
  await crowd.narrate(5); // to 25 members of 20 rooms
  await crowd.fence();
  assert.equal((await crowd.exact()) - deliveries, 6 * 500);
  assert.equal(await sum(nodes, "edge_relayed_frames_total"), frames, "frames are relayed although all conns have moved");
  await crowd.calm("websocket");
  console.log(`round robin, 500 clients: ${deliveries} deliveries; ${relayed / 500} relayed requests and ${moved / 500} moves per client, ${frames} frames relayed; the last move ended ${wait} ms after the last upgrade`);
});

test("clients that only poll talk behind round robin, and every message comes once and in order", { skip }, async (t) => {
  const before = await sum(nodes, "edge_relayed_requests_total");
  const crowd = await Crowd.gather(t, { nodes, size: 100 });
  await crowd.connect({ url: nginx.url, times: 5, transports: ["polling"] });
  await crowd.ask("say", { times: 5 });
  await crowd.fence();
  const deliveries = await crowd.exact();
  await crowd.calm("polling");
  const relayed = (await sum(nodes, "edge_relayed_requests_total")) - before;
  assert.ok(relayed > 0, "nothing was relayed");
  console.log(`round robin, 100 clients that only poll: ${deliveries} deliveries, ${relayed / 100} relayed requests per client`);
});
