// A node that is taken out of service: the balancer notices first, then its clients go, one after the other.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { HAProxy } from "../lib/haproxy.mjs";
import { Cluster, get } from "../lib/process.mjs";
import { lacking } from "../lib/shipped.mjs";
import { eventually, unique } from "../lib/wait.mjs";

const skip = lacking("haproxy");
// HAProxy looks once a second, and wants to see a node down twice.
const cluster = await Cluster.start(3, { DRAIN_DELAY: "2700ms", DRAIN_WINDOW: "1s", ADMIN_TOKEN: "operator" });
after(() => cluster.stop());

const post = (node, query = "") => fetch(`${node.admin}/drain${query}`, { method: "POST", headers: { authorization: "Bearer operator" } });

test("behind HAProxy a node leaves without an error for anybody, and its clients miss nothing", { skip }, async (t) => {
  const haproxy = await HAProxy.start(cluster.nodes.map(({ address }) => address));
  t.after(() => haproxy.stop());
  const room = unique("room");
  const options = (i) => ({ reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200, transports: [i % 3 ? "websocket" : "polling"] });
  const clients = await Promise.all(Array.from({ length: 30 }, (_, i) => connect(t, haproxy.url, options(i))));
  await Promise.all(clients.map((client) => client.join(room)));
  const ids = clients.map(({ id }) => id);
  const leaving = cluster.nodes[0];
  const conns = await leaving.metrics();
  const there = [...conns].filter(([name]) => name.startsWith("edge_conns{")).reduce((n, [, v]) => n + v, 0);
  assert.ok(there >= 5, `${there} of 30 clients are on the node that leaves`);

  const sender = await connect(t, cluster.nodes[1].url);
  await sender.join(room);
  let sent = 0;
  let over = false;
  const sending = (async () => {
    while (!over) await sender.ok("message", room, sent++);
  })();
  leaving.child.signal("SIGTERM");
  await leaving.readinessIs(503);
  assert.equal((await get(`${leaving.url}/healthz`)).status, 200);
  await connect(t, leaving.url); // a balancer that has not noticed
  assert.deepEqual(await leaving.child.ended(), { code: 0, signal: null }, leaving.child.log());
  await eventually("all to be back", () => clients.every(({ socket }) => socket.connected));
  over = true;
  await sending;

  let returned = 0;
  for (const [i, client] of clients.entries()) {
    const numbers = (await client.allMessages(room, sent)).map(([, n]) => n);
    const wrong = numbers.findIndex((n, at) => n !== at);
    assert.equal(wrong, -1, `client ${i}, by ${options(i).transports}, got ${numbers.slice(wrong - 2, wrong + 3)} instead of ${wrong - 2} and so on, of ${sent}`);
    assert.equal(numbers.length, sent, `messages of client ${i}`);
    const trouble = client.lifecycle.items.filter(([what]) => what === "connect_error");
    assert.deepEqual(trouble, [], `client ${i} was refused`);
    const connects = client.lifecycle.items.filter(([what]) => what === "connect").length;
    assert.ok(connects <= 2, `client ${i} connected ${connects} times`);
    if (connects === 1) continue;
    returned++;
    assert.deepEqual([client.id, client.socket.recovered], [ids[i], true], `client ${i} is not recovered`);
  }
  assert.equal(returned, there, "clients that came back");
  for (const node of cluster.nodes.slice(1)) {
    assert.equal(await node.metric('edge_closes_total{reason="drain"}'), 0);
    assert.equal(await node.metric('edge_refusals_total{reason="max_conns"}'), 0);
  }
});

test("an operator drains a node, looks on, and lets it go", async (t) => {
  const node = await cluster.add({ DRAIN_DELAY: "0s", DRAIN_WINDOW: "300ms" });
  const client = await connect(t, node.url, { reconnection: true, reconnectionDelay: 50 });
  const { id } = client;
  client.moveTo(cluster.nodes[1].url);
  assert.equal((await fetch(`${node.admin}/drain`, { method: "POST" })).status, 401, "without a token");
  assert.equal((await post(node, "?exit=false")).status, 202);
  assert.equal(await client.disconnected(), "transport close");
  await client.connected(2);
  assert.deepEqual([client.id, client.socket.recovered], [id, true]);
  const state = async () => (await fetch(`${node.admin}/drain`, { headers: { authorization: "Bearer operator" } })).json();
  await eventually("it to be drained", async () => (await state()).phase === "drained");
  const refused = await get(`${node.url}/socket.io/?EIO=4&transport=polling`);
  assert.deepEqual([refused.status, refused.headers.get("retry-after")], [503, "1"]);
  assert.equal(await node.metric('edge_closes_total{reason="drain"}'), 1);
  assert.equal(node.child.exit, null, node.child.log());
  await post(node);
  assert.deepEqual(await node.child.ended(), { code: 0, signal: null }, node.child.log());
});

test("a connection that is old is closed, and its client recovered", async (t) => {
  const node = await cluster.add({ MAX_CONN_AGE: "1s" });
  const client = await connect(t, node.url, { reconnection: true, reconnectionDelay: 50 });
  const { id } = client;
  client.moveTo(cluster.nodes[1].url);
  assert.equal(await client.disconnected(), "transport close");
  await client.connected(2);
  assert.deepEqual([client.id, client.socket.recovered], [id, true]);
  assert.equal(await node.metric('edge_closes_total{reason="max_age"}'), 1);
});
