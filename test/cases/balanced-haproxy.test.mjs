// Unmodified clients behind HAProxy, which gives each request to the node with the fewest connections.
import { after, test } from "node:test";

import { exchange } from "../lib/exchange.mjs";
import { HAProxy } from "../lib/haproxy.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";

const skip = lacking("haproxy");
const cluster = await Cluster.start(3);
const { nodes } = cluster;
after(() => cluster.stop());

test("500 clients connect, join, talk and upgrade behind leastconn, and every message comes once and in order", { skip }, async (t) => {
  const haproxy = await HAProxy.start(nodes.map(({ address }) => address));
  t.after(() => haproxy.stop());
  await exchange(t, nodes, haproxy.url, "leastconn");
});
