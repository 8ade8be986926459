// What a crowd of unmodified clients does behind any balancer that gives requests to nodes at random.
import assert from "node:assert/strict";

import { Crowd, settled, sum } from "./crowd.mjs";

const CLIENTS = 500;

// exchange connects 500 clients through url to nodes that nobody used before, while they join rooms, talk and upgrade, and
// checks that every message came once and in order, that nobody noticed anything, and that in the end nothing is relayed.
export async function exchange(t, nodes, url, balancing) {
  const crowd = await Crowd.gather(t, { nodes, size: CLIENTS });
  await crowd.connect({ url, times: 4 });
  await crowd.use("websocket");
  const wait = await settled(nodes);
  await crowd.fence();
  const deliveries = await crowd.exact();
  assert.ok(deliveries >= 20_000, `only ${deliveries} deliveries`);
  await crowd.calm("websocket");

  const requests = await sum(nodes, "edge_relayed_requests_total");
  const moved = await sum(nodes, 'edge_moves_total{result="moved"}');
  assert.ok(requests > 0 && moved > 0, `${requests} requests were relayed, ${moved} conns moved`);
  assert.equal(await sum(nodes, 'edge_moves_total{result="failed"}'), 0);

  const frames = await sum(nodes, "edge_relayed_frames_total");
  await crowd.narrate(5); // to the 25 members of each room
  await crowd.fence();
  assert.equal((await crowd.exact()) - deliveries, 6 * CLIENTS);
  assert.equal(await sum(nodes, "edge_relayed_frames_total"), frames, "frames are relayed although all conns have moved");
  await crowd.calm("websocket");
  console.log(
    `${balancing}, ${CLIENTS} clients: ${deliveries} deliveries; ${requests / CLIENTS} relayed requests and ${moved / CLIENTS} moves per client; ` +
      `${frames} frames relayed in all; the last move ended ${wait} ms after the last upgrade`,
  );
}
