// More clients than the limits of connecting let in: all of them come in by themselves, and nobody else is hurt.
import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";

import { connect, open } from "../lib/client.mjs";
import { Cluster, get } from "../lib/process.mjs";
import { DEADLINE, unique, within } from "../lib/wait.mjs";

const refusals = (node, reason) => node.metric(`edge_refusals_total{reason="${reason}"}`);

// limited is a node of its own, for limits count everybody.
async function limited(t, env) {
  const cluster = await Cluster.start(1, env);
  t.after(() => cluster.stop());
  return cluster.nodes[0];
}

// from makes a client connect from an address of the loopback network.
const from = (address) => ({ agent: new http.Agent({ localAddress: address }) });

for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
  test(`a crowd over CONNECT_RATE comes in by itself, by ${transports}`, async (t) => {
    const node = await limited(t, { CONNECT_RATE: "20", CONNECT_BURST: "5" });
    const room = unique("room");
    const crowd = Array.from({ length: 40 }, () =>
      open(t, node.url, { transports, reconnection: true, reconnectionDelay: 200, reconnectionDelayMax: 1000 }),
    );
    await within("all to connect", Promise.all(crowd.map((client) => client.connected())), 3 * DEADLINE);
    const refused = await refusals(node, "rate_limited");
    assert.ok(refused >= 1, `${refused} refusals: the crowd was never over the limit`);
    assert.equal(await node.metric("edge_connects_total"), 40, "a refused client counts as a conn");
    await Promise.all(crowd.map((client) => client.join(room)));
    await crowd[0].ok("message", room, "all there");
    await Promise.all(crowd.map((client) => client.message(room)));
  });
}

test("one address over its limit is refused, and neither its sessions nor another address notice", async (t) => {
  const node = await limited(t, { CONNECT_RATE_PER_IP: "0.01", CONNECT_BURST_PER_IP: "3" });
  const room = unique("room");
  const [ws, polls, upgrades] = await Promise.all([
    connect(t, node.url),
    connect(t, node.url, { transports: ["polling"] }),
    connect(t, node.url, { transports: ["polling", "websocket"] }),
  ]);
  const refused = open(t, node.url, { transports: ["polling"], reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 50 });
  const { status, headers } = await get(`${node.url}/socket.io/?EIO=4&transport=polling`);
  assert.equal(status, 429);
  assert.ok(Number(headers.get("retry-after")) >= 1, `Retry-After: ${headers.get("retry-after")}`);
  await refused.refused();

  const other = await connect(t, node.url, from("127.0.0.2"));
  for (const client of [ws, polls, upgrades, other]) await client.join(room);
  for (const client of [ws, polls, upgrades, other]) {
    const text = unique("text");
    await client.ok("message", room, text);
    for (const receiver of [ws, polls, upgrades, other]) await receiver.message(room, (got) => got === text);
  }
  assert.ok((await refusals(node, "rate_limited_source")) >= 2);
  assert.equal(await refusals(node, "rate_limited"), 0);
  assert.equal(refused.socket.connected, false);
});
