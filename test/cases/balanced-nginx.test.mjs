// Unmodified clients behind nginx, which gives each request to the next node.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Crowd, sum } from "../lib/crowd.mjs";
import { exchange } from "../lib/exchange.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";

const skip = lacking("nginx");
const cluster = await Cluster.start(3);
const { nodes } = cluster;
const nginx = skip ? undefined : await Nginx.start(nodes.map(({ address }) => address));
after(async () => {
  await nginx?.stop();
  await cluster.stop();
});

test("500 clients connect, join, talk and upgrade behind round robin, and every message comes once and in order", { skip }, (t) =>
  exchange(t, nodes, nginx.url, "round robin"));

test("500 clients that only poll talk behind round robin, and every message comes once and in order", { skip }, async (t) => {
  const relayed = () => sum(nodes, "edge_relayed_requests_total");
  const before = await relayed();
  const crowd = await Crowd.gather(t, { nodes, size: 500 });
  await crowd.connect({ url: nginx.url, times: 1, transports: ["polling"] });
  await crowd.ask("say", { times: 2 });
  await crowd.fence();
  const deliveries = await crowd.exact();
  await crowd.calm("polling");
  const requests = (await relayed()) - before;
  assert.ok(requests > 0, "nothing was relayed");
  console.log(`round robin, 500 clients that only poll: ${deliveries} deliveries, ${requests / 500} relayed requests per client`);
});
