// Compression of WebSockets: unmodified clients with and without it in the same rooms, on two nodes that offer it.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Cluster, Edge } from "../lib/process.mjs";
import { Raw, raw } from "../lib/raw.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

const cluster = await Cluster.start(2, { DEFLATE: "on" });
const [a, b] = cluster.nodes;
after(() => cluster.stop());

const MAX = 1_000_000; // MAX_PAYLOAD, by default
const large = (what) => `${what}: ${"the quick brown fox jumps over the lazy dog; ".repeat(400)}`; // 18 KB
const WebSocketOf = (client) => client.socket.io.engine.transport.ws;
const received = (client) => WebSocketOf(client)._socket.bytesRead;
const without = { perMessageDeflate: false };
// Every message counts, however small.
const all = { perMessageDeflate: { threshold: 0 } };

test("the official client offers the extension, and gets it", async (t) => {
  const client = await connect(t, a.url);
  assert.equal(WebSocketOf(client).extensions, "permessage-deflate");
  assert.equal(WebSocketOf(await connect(t, a.url, without)).extensions, "");
});

test("messages of every size go both ways, text and attachments", async (t) => {
  for (const options of [{}, all, without]) {
    const room = unique("room");
    const client = await connect(t, a.url, options);
    await client.join(room);
    const noise = randomBytes(50_000);
    const values = ["small", "", large("text"), { list: Array.from({ length: 500 }, (_, i) => ({ i, name: `é${i}` })) }, Buffer.from(large("binary")), noise, Buffer.alloc(0)];
    for (const value of values) await client.ok("message", room, value);
    await client.ok("message", room, ...values); // 4 attachments, some of them compressed
    const got = (await client.allMessages(room, values.length + 1)).map(([, ...args]) => args);
    assert.deepEqual(got, [...values.map((value) => [value]), values]);
  }
});

test("a crowd with and without the extension gets the same, and each message is compressed once on each node", async (t) => {
  const room = unique("room");
  const crowd = await Promise.all(
    Array.from({ length: 12 }, (_, i) => connect(t, cluster.urls[i % 2], i % 3 === 0 ? without : {})),
  );
  await Promise.all(crowd.map((client) => client.join(room)));
  await crowd[0].ok("message", room, "fence");
  for (const client of crowd) await client.message(room, (value) => value === "fence");
  const before = crowd.map(received);
  const counted = await Promise.all(cluster.nodes.map((node) => node.metrics()));
  const N = 20;
  const attachment = Buffer.from(large("attachment"));
  const size = large("0").length + attachment.length;
  for (let i = 0; i < N; i++) {
    await crowd[i % crowd.length].ok("message", room, large(i), attachment);
    await crowd[i % crowd.length].ok("message", room, i); // below DEFLATE_FROM
  }
  for (const [i, client] of crowd.entries()) {
    const got = (await client.allMessages(room, 2 * N + 1)).slice(1);
    assert.deepEqual(
      got.map(([, ...args]) => args),
      Array.from({ length: N }, (_, n) => [[large(n), attachment], [n]]).flat(),
    );
    const bytes = received(client) - before[i];
    if (i % 3 === 0) assert.ok(bytes > N * size, `${bytes} bytes came uncompressed for ${N * size}`);
    else assert.ok(bytes < (N * size) / 10, `${bytes} bytes came compressed for ${N * size}`);
  }
  for (const [i, node] of cluster.nodes.entries()) {
    const metrics = await node.metrics();
    const more = (name) => metrics.get(`edge_deflate_${name}_total`) - counted[i].get(`edge_deflate_${name}_total`);
    assert.equal(more("messages"), N);
    assert.ok(more("input_bytes") > N * size && more("input_bytes") > 10 * more("output_bytes"));
  }
});

test("nothing is compressed where nobody takes it", async (t) => {
  const edge = await Edge.start({ ...cluster.env });
  t.after(() => edge.stop());
  const room = unique("room");
  const client = await connect(t, edge.url, without);
  await client.join(room);
  await client.ok("message", room, large("alone"));
  await client.message(room);
  const metrics = await edge.metrics();
  assert.equal(metrics.get("edge_deflate_messages_total") + metrics.get("edge_deflate_futile_total") + metrics.get("edge_deflate_conns_total"), 0);
});

test("without DEFLATE nothing is agreed to, and a compressed frame is a violation", async (t) => {
  const edge = await Edge.start({ AUTH: "none" });
  t.after(() => edge.stop());
  const client = await connect(t, edge.url);
  assert.equal(WebSocketOf(client).extensions, "");
  const r = await raw(t, edge.url);
  await r.connect();
  r.socket.write(Buffer.from([0xc1, 0x81, 0, 0, 0, 0, 0]));
  assert.equal(await r.closeCode(), 1002);
  await eventually("the reason", async () => (await edge.metric('edge_closes_total{reason="protocol_error"}')) === 1);
});

test("a bomb is closed with 1009, and the node stays as it was", async (t) => {
  const witness = await connect(t, a.url);
  const room = unique("room");
  await witness.join(room);
  const before = await a.metric('edge_closes_total{reason="message_too_big"}');
  const memory = await a.metric("process_resident_memory_bytes");
  for (let i = 0; i < 5; i++) {
    const r = new Raw(t, a.url, { perMessageDeflate: true });
    await r.connect({ userId: unique("user") });
    assert.equal(r.ws.extensions, "permessage-deflate");
    r.ws.send(Buffer.alloc(200 * MAX)); // about 200 KB of frames
    assert.equal(await r.closeCode(), 1009);
  }
  await eventually("the reasons", async () => (await a.metric('edge_closes_total{reason="message_too_big"}')) === before + 5);
  const grown = (await a.metric("process_resident_memory_bytes")) - memory;
  assert.ok(grown < 100 * MAX, `${grown} bytes more than before`);
  await witness.ok("message", room, large("after")); // and serves its clients
  await witness.message(room);
});

test("what cannot be inflated is closed with 1007", async (t) => {
  const r = await raw(t, a.url);
  await r.connect({ userId: unique("user") });
  const before = await a.metric('edge_closes_total{reason="protocol_error"}');
  r.socket.write(Buffer.from([0xc1, 0x81, 0, 0, 0, 0, 0x06])); // a block of a type that does not exist
  assert.equal(await r.closeCode(), 1007);
  await eventually("the reason", async () => (await a.metric('edge_closes_total{reason="protocol_error"}')) === before + 1);
});

// Wherever the upgrade goes: polls are never compressed, the WebSocket after them is.
for (const [where, to] of [
  ["on the node of its session", () => a],
  ["on another node, to which its session moves", () => b],
]) {
  test(`a client that begins with long-polling compresses after its upgrade ${where}`, async (t) => {
    const room = unique("room");
    const client = await connect(t, a.url, { transports: ["polling"] });
    await client.join(room);
    await client.ok("message", room, large("polled"));
    await client.message(room);
    const sid = client.socket.io.engine.id;
    const r = new Raw(t, to().url, { query: `EIO=4&transport=websocket&sid=${sid}`, perMessageDeflate: { threshold: 0 } });
    assert.ok(await r.answered());
    assert.equal(r.ws.extensions, "permessage-deflate");
    r.send("2probe");
    await r.frames.wait("the answer to the probe", (f) => f === "3probe");
    r.send("5"); // the poll that is parked is answered by it
    const digest = createHash("sha256").update(large("upgraded")).digest("hex");
    r.send(`420["message","${room}","${large("upgraded")}","${digest}"]`);
    await within("the acknowledgement", r.frames.wait("the acknowledgement", (f) => String(f).startsWith("430[")));
    const event = JSON.parse((await r.frames.wait("the message", (f) => String(f).startsWith('42["message"'))).slice(2));
    assert.deepEqual(event.slice(3, 5), [large("upgraded"), digest]);
    await eventually("the compression to be counted", async () => (await to().metric("edge_deflate_conns_total")) > 0);
    assert.ok(r.socket.bytesRead < large("upgraded").length / 5, `${r.socket.bytesRead} bytes came`);
  });
}
