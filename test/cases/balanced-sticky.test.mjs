// Unmodified clients behind nginx with its ip_hash: no request goes to another node than the session's.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Crowd, sum } from "../lib/crowd.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Cluster } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";

const skip = lacking("nginx");
const cluster = await Cluster.start(3, { PEER_ADDR: "127.0.0.1:0" });
const { nodes } = cluster;
after(() => cluster.stop());

test("with nginx's ip_hash clients connect, upgrade and talk, and nothing is relayed", { skip }, async (t) => {
  const nginx = await Nginx.start(nodes.map(({ address }) => address), { sticky: true });
  t.after(() => nginx.stop());
  const crowd = await Crowd.gather(t, { nodes, size: 200, far: true });
  await crowd.connect({ url: nginx.url, times: 3 });
  await crowd.use("websocket");
  await crowd.fence();
  await crowd.exact();
  await crowd.calm("websocket");
  for (const node of nodes) assert.ok((await node.metric('edge_conns{transport="websocket"}')) > 20, "the clients are on one node");
  for (const name of ["edge_relayed_requests_total", "edge_relayed_frames_total", "edge_moves_total"]) assert.equal(await sum(nodes, name), 0, name);
});
