// Rooms and messages of unmodified clients on three nodes.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, everywhere, open } from "../lib/client.mjs";
import { Cluster } from "../lib/process.mjs";
import { raw } from "../lib/raw.mjs";
import { unique, within } from "../lib/wait.mjs";

const cluster = await Cluster.start(3);
after(() => cluster.stop());
const [url] = cluster.urls;

test("a client connects and is given a socket id of 20 characters", async (t) => {
  const client = await connect(t, url);
  assert.match(client.id, /^[A-Za-z0-9_-]{20}$/);
});

test("the open packet has the five fields and nothing else", async (t) => {
  const r = await raw(t, url);
  const open = await r.handshake();
  assert.deepEqual(Object.keys(open), ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]);
  assert.match(open.sid, /^[A-Za-z0-9_-]{20}$/);
  assert.deepEqual({ ...open, sid: "" }, { sid: "", upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000 });
  const id = await r.connect();
  assert.notEqual(id, open.sid, "the public socket id must not be the private Engine.IO session id");
});

test("a message reaches every member on every node, the sender included, and is acknowledged", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const before = Date.now();
  await clients[0].ok("message", room, "hello", 1, 1.5, -7, true, null, { b: [1, { a: "x" }], a: {} }, []);
  for (const client of clients) {
    const [r, meta, ...args] = await client.message(room);
    assert.equal(r, room);
    assert.equal(meta.from, clients[0].userId);
    assert.ok(Math.abs(meta.ts - before) < 60_000, `ts is not the time in milliseconds: ${JSON.stringify(meta)}`);
    assert.deepEqual(args, ["hello", 1, 1.5, -7, true, null, { b: [1, { a: "x" }], a: {} }, []]);
  }
});

test("a message that wants no acknowledgement is delivered", async (t) => {
  const room = unique("room");
  const [sender, receiver] = await everywhere(t, cluster, room);
  sender.socket.emit("message", room, null);
  const [, meta, ...args] = await receiver.message(room);
  assert.equal(meta.from, sender.userId);
  assert.deepEqual(args, [null]);
});

test("a message without content is refused as payload_invalid", async (t) => {
  const room = unique("room");
  const [sender, receiver] = await everywhere(t, cluster, room);
  await sender.fails("payload_invalid", "message", room);
  sender.socket.emit("message", room);
  await sender.ok("message", room, "fence");
  await receiver.message(room);
  assert.deepEqual(receiver.messages(room), [[sender.userId, "fence"]]);
});

test("numbers and key order pass unchanged", async (t) => {
  const room = unique("room");
  const [sender, ...receivers] = await everywhere(t, cluster, room);
  const value = { z: 0, a: 9007199254740991, m: -9007199254740991, e: 1e21, s: 5e-324, h: 0.1, "10": 1, "2": 2, n: 4294967296, f: 1.7976931348623157e308 };
  await sender.ok("message", room, value);
  for (const client of receivers) {
    const [, , got] = await client.message(room);
    assert.equal(JSON.stringify(got), JSON.stringify(value));
  }
});

test("binary arguments arrive as buffers on every node", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  await clients[0].ok("message", room, all, "between", new Uint8Array([1, 2, 3]), Buffer.alloc(0));
  for (const client of clients) {
    const [, , a, between, b, empty] = await client.message(room);
    assert.deepEqual([Buffer.isBuffer(a), Buffer.isBuffer(b), Buffer.isBuffer(empty)], [true, true, true]);
    assert.deepEqual(a, all);
    assert.equal(between, "between");
    assert.deepEqual(b, Buffer.from([1, 2, 3]));
    assert.equal(empty.length, 0);
  }
});

test("nested binary arrives in its place", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const value = { list: [Buffer.from("one"), { deep: { er: Buffer.from("two") } }], text: "t", last: Buffer.from("three") };
  await clients[1].ok("message", room, value, [[Buffer.from("four")]]);
  for (const client of clients) {
    const [, , got, list] = await client.message(room);
    assert.deepEqual(got, value);
    assert.deepEqual(list, [[Buffer.from("four")]]);
  }
});

test("a large binary message arrives whole", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const big = Buffer.alloc(200_000, "0123456789abcdef");
  await clients[2].ok("message", room, big);
  for (const client of clients) {
    const [, , got] = await client.message(room);
    assert.ok(big.equals(got), `${got.length} bytes arrived, and not those sent`);
  }
});

test("text of every kind arrives unchanged", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const texts = ["", "Ä ä Ü ü ß", "てすと", "Я Б Г Д Ж Й", "👩‍👩‍👧‍👦 😀", "\u0000\u0001\u001e\u001f\u007f", '"\\/\b\f\n\r\t', "<&>\u2028\u2029", "\u{10ffff}\ufffe", "e\u0301"];
  await clients[0].ok("message", room, ...texts, Object.fromEntries(texts.map((text) => [text, text])));
  for (const client of clients) {
    const [, , ...got] = await client.message(room);
    assert.deepEqual(got.slice(0, -1), texts);
    assert.deepEqual(got.at(-1), Object.fromEntries(texts.map((text) => [text, text])));
  }
});

test("a lone surrogate arrives as U+FFFD and closes nobody", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  await clients[0].ok("message", room, "a\ud800b", { "\udc00": "\udfff" });
  for (const client of clients) {
    const [, , text, object] = await client.message(room);
    assert.equal(text, "a\ufffdb");
    assert.deepEqual(object, { "\ufffd": "\ufffd" });
  }
  await clients[0].ok("message", room, "after");
  for (const client of clients) await client.message(room, (text) => text === "after");
});

test("ten attachments pass", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const ten = Array.from({ length: 10 }, (_, i) => Buffer.from([i]));
  await clients[0].ok("message", room, ...ten);
  for (const client of clients) {
    const [, , ...got] = await client.message(room);
    assert.deepEqual(got, ten);
  }
});

test("eleven attachments hurt only the client that sends them", async (t) => {
  const room = unique("room");
  const [healthy, other, sender] = await everywhere(t, cluster, room);
  const eleven = Array.from({ length: 11 }, (_, i) => Buffer.from([i]));
  const refused = new Promise((resolve) => sender.socket.emit("message", room, ...eleven, resolve));
  const outcome = await within("eleven attachments to be refused", Promise.race([refused, sender.disconnected()]));
  if (typeof outcome === "object") assert.equal(outcome.ok, false, `eleven attachments were acknowledged ${JSON.stringify(outcome)}`);
  await healthy.ok("message", room, "still here");
  for (const client of [healthy, other]) {
    assert.deepEqual(await client.allMessages(room, 1), [[healthy.userId, "still here"]]);
    assert.equal(client.socket.connected, true);
  }
});

test("a client that does not read is closed, and nobody else misses anything", async (t) => {
  const room = unique("room");
  const [sender, ...receivers] = await everywhere(t, cluster, room);
  const slow = await raw(t, url);
  await slow.connect({ userId: unique("user") });
  slow.send(`421["join",${JSON.stringify(room)}]`);
  await slow.frames.wait("the ack of the join", (f) => String(f).startsWith("431["));
  const series = 'edge_closes_total{reason="slow_reader"}';
  const before = await cluster.nodes[0].metric(series);
  slow.socket.pause();
  const big = Buffer.alloc(500_000);
  let sent = 0;
  while ((await cluster.nodes[0].metric(series)) === before) {
    assert.ok(sent < 400, `${sent} messages of ${big.length} bytes were kept for a client that does not read`);
    await sender.ok("message", room, sent++, big);
  }
  await sender.ok("message", room, "end");
  for (const client of receivers) {
    await client.message(room, (text) => text === "end");
    assert.deepEqual(client.messages(room).map(([, n]) => n), [...Array(sent).keys(), "end"]);
  }
});

test("one member's 500 messages arrive in order, exactly once, at members on all nodes", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  for (let i = 0; i < 500; i++) clients[0].socket.emit("message", room, i);
  await clients[0].ok("message", room, "end");
  const want = [...Array(500).keys(), "end"].map((i) => [clients[0].userId, i]);
  for (const client of clients) {
    await client.message(room, (arg) => arg === "end");
    assert.deepEqual(client.messages(room), want);
  }
});

test("members on all nodes see the messages of concurrent senders in one order", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const each = 200;
  for (let i = 0; i < each; i++) for (const sender of clients) sender.socket.emit("message", room, i, Buffer.from([i]));
  const sequences = await Promise.all(clients.map((client) => client.allMessages(room, each * clients.length)));
  for (const sequence of sequences) assert.deepEqual(sequence, sequences[0]);
  for (const sender of clients) {
    const own = sequences[0].filter(([from]) => from === sender.userId).map(([, i]) => i);
    assert.deepEqual(own, [...Array(each).keys()], `the messages of ${sender.userId} are not in the order it sent them`);
  }
});

test("messages of one room do not reach another, nor those who left", async (t) => {
  const [room, elsewhere] = [unique("room"), unique("room")];
  const [sender, gone, stranger] = await everywhere(t, cluster, room);
  await stranger.join(elsewhere);
  await stranger.ok("leave", room);
  await gone.ok("leave", room);
  await gone.join(elsewhere);
  await sender.join(elsewhere);
  await sender.ok("message", room, "not for you");
  await sender.ok("message", elsewhere, "fence"); // comes later on the same way
  for (const client of [gone, stranger]) {
    await client.message(elsewhere, (text) => text === "fence");
    assert.deepEqual(client.messages(room), []);
  }
});

test("a message to, or the leaving of, a room one is not in is refused as room_unknown", async (t) => {
  const room = unique("room");
  const [member] = await everywhere(t, cluster, room);
  const stranger = await connect(t, url);
  await stranger.fails("room_unknown", "message", room, "let me in");
  await stranger.fails("room_unknown", "message", unique("nowhere"), "anyone?");
  await member.ok("message", room, "fence");
  await member.message(room);
  assert.deepEqual(member.messages(room), [[member.userId, "fence"]]);
});

test("after leaving, a message to the room is refused, after joining again it passes", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  await client.join(room);
  await client.ok("leave", room);
  await client.fails("room_unknown", "message", room, "x");
  await client.join(room);
  await client.ok("message", room, "y");
  await client.message(room, (text) => text === "y");
});

test("joining twice is one membership", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  await client.join(room);
  await client.join(room);
  await client.ok("message", room, "once");
  await client.ok("message", room, "end");
  await client.message(room, (text) => text === "end");
  assert.deepEqual(client.messages(room).map(([, text]) => text), ["once", "end"]);
  await client.ok("leave", room);
  await client.fails("room_unknown", "message", room, "gone");
});

test("requests sent in one breath are handled in order", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  const answers = await Promise.all([
    client.request("message", room, "early"),
    client.request("join", room),
    client.request("message", room, "member"),
    client.request("leave", room),
    client.request("message", room, "late"),
  ]);
  assert.deepEqual(answers.map(({ ok, code }) => code ?? ok), ["room_unknown", true, true, true, "room_unknown"]);
});

test("a room name shaped like a socket id is refused as room_reserved", async (t) => {
  const client = await connect(t, url);
  await client.fails("room_reserved", "join", "abcdefghijklmnopqrst");
  await client.fails("room_reserved", "join", client.id);
});

test("the room name of a user is refused as room_reserved", async (t) => {
  const client = await connect(t, url);
  await client.fails("room_reserved", "join", `user:${client.userId}`);
  await client.fails("room_reserved", "join", "user:42");
});

for (const [what, room] of [
  ["that is empty", ""],
  ["of 256 bytes", "r".repeat(256)],
  ["of 256 bytes in 64 characters", "😀".repeat(64)],
  ["with braces", "a{b}"],
  ["with a control character", "a\nb"],
  ["that is no string", 42],
  ["that is missing", null],
]) {
  test(`a room name ${what} is refused as room_invalid`, async (t) => {
    const client = await connect(t, url);
    await client.fails("room_invalid", "join", room);
  });
}

for (const room of ["r".repeat(255), "with space", "#", "a#b", "*?[x]\\", "raum ä 😀", "a,b", "socket.io#/#", "0"]) {
  test(`the room name ${JSON.stringify(room.slice(0, 20))} works on all nodes`, async (t) => {
    const [sender, ...receivers] = await everywhere(t, cluster, room);
    const text = unique("text");
    await sender.ok("message", room, text);
    for (const client of receivers) await client.message(room, (arg) => arg === text);
  });
}

test("an unknown event is ignored", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  client.socket.emit("no such event", 1, { a: Buffer.from([1]) });
  await client.join(room);
  assert.equal(client.socket.connected, true);
});

test("another namespace is refused as Invalid namespace", async (t) => {
  const client = open(t, url, { namespace: "/admin" });
  const error = await client.refused();
  assert.equal(error.message, "Invalid namespace");
});

test("an invalid namespace leaves the connection's other sockets alone", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  const other = client.socket.io.socket("/admin");
  t.after(() => other.close());
  const error = await within("connect_error of /admin", new Promise((resolve) => other.once("connect_error", resolve)));
  assert.equal(error.message, "Invalid namespace");
  await client.join(room);
});

test("without auth the user is the socket", async (t) => {
  const room = unique("room");
  const client = await connect(t, url, { auth: {} });
  await client.join(room);
  await client.ok("message", room, "me");
  const [, meta] = await client.message(room);
  assert.equal(meta.from, client.id);
});
