// The server of socket.io-client's own tests, driven by socket.io-client.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { io } from "socket.io-client";

import { Conformance } from "../lib/conformance.mjs";
import { DEADLINE, Inbox, within } from "../lib/wait.mjs";

const server = await Conformance.start("client");
after(() => server.stop());

// With connection state recovery every event without an acknowledgement ends with an offset.
const offset = /^[\w-]{8}\.\d+-\d+$/;
function withoutOffset(event) {
  const last = event.at(-1);
  if (typeof last === "function") return event;
  assert.match(String(last), offset, `the end of ${event[0]}`);
  return event.slice(0, -1);
}

// open returns a socket whose events are kept in socket.events, each [name, ...args].
function open(t, namespace = "/", options = {}) {
  const socket = io(server.url + namespace, { forceNew: true, reconnection: false, ...options });
  t.after(() => {
    socket.io.reconnection(false);
    socket.io.engine?.close();
  });
  socket.events = new Inbox();
  socket.onAny((...event) => socket.events.push(withoutOffset(event)));
  socket.failed = new Promise((resolve) => socket.once("connect_error", resolve));
  socket.up = new Promise((resolve) => socket.once("connect", resolve));
  return socket;
}

async function connect(t, namespace, options) {
  const socket = open(t, namespace, options);
  await within("the socket to connect", Promise.race([socket.up, socket.failed.then((err) => Promise.reject(err))]));
  return socket;
}

// event waits for an event and returns its arguments.
async function event(socket, name) {
  const [, ...args] = await socket.events.wait(name, ([n]) => n === name);
  return args;
}

const ack = (socket, ...args) => socket.timeout(DEADLINE).emitWithAck(...args);
const bytes = Buffer.from("asdfasdf");
const isoDate = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
// now tells whether a date on the wire is about now.
const now = (text) => isoDate.test(text) && Math.abs(Date.parse(text) - Date.now()) < 60_000;

// Everything that the main namespace answers, over each transport.
for (const transports of [["polling"], ["websocket"]]) {
  const way = transports[0];
  const main = (t) => connect(t, "/", { transports });

  test(`${way}: hi, false and utf8 are emitted back`, async (t) => {
    const socket = await main(t);
    socket.emit("hi");
    assert.deepEqual(await event(socket, "hi"), []);
    socket.emit("false");
    assert.deepEqual(await event(socket, "false"), [false]);
    socket.emit("getUtf8");
    const texts = await socket.events.count("takeUtf8", 5, ([name]) => name === "takeUtf8");
    assert.deepEqual(texts.map(([, text]) => text), ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"]);
  });

  test(`${way}: acknowledgements go both ways`, async (t) => {
    const socket = await main(t);
    for (const value of ["x", { a: [1, null] }, 0, ""]) assert.deepEqual(await ack(socket, "echo", value), value);
    socket.on("ack", (answer) => answer(5, { test: true }));
    socket.emit("ack");
    await event(socket, "got it");
  });

  test(`${way}: an acknowledgement with other values is another answer`, async (t) => {
    const socket = await main(t);
    socket.on("ack", (answer) => answer(5, { test: false }));
    socket.emit("ack");
    await event(socket, "ack");
    assert.equal(await ack(socket, "echo", "fence"), "fence");
    assert.ok(!socket.events.items.some(([name]) => name === "got it"));
  });

  test(`${way}: dates are ISO 8601 with milliseconds`, async (t) => {
    const socket = await main(t);
    assert.ok(now(await ack(socket, "getAckDate", { test: true })));
    socket.emit("getDate");
    assert.ok(now((await event(socket, "takeDate"))[0]));
    socket.emit("getDateObj");
    assert.ok(now((await event(socket, "takeDateObj"))[0].date));
  });

  test(`${way}: binary comes`, async (t) => {
    const socket = await main(t);
    socket.emit("doge");
    assert.deepEqual(await event(socket, "doge"), [bytes]);
    socket.emit("getbin");
    assert.deepEqual(await event(socket, "takebin"), [bytes]);
  });

  test(`${way}: binary goes, and text and binary keep their order`, async (t) => {
    const socket = await main(t);
    const object = { hello: "lol", message: bytes, goodbye: "gotcha" };
    for (const [sent, args, answer] of [
      ["buffa", [bytes], "buffack"],
      ["jsonbuff", [object], "jsonbuff-ack"],
      ["blob", [bytes], "back"],
      ["jsonblob", [object], "jsonblob-ack"],
    ]) {
      socket.emit(sent, ...args);
      await event(socket, answer);
    }
    socket.emit("abuff1", bytes);
    socket.emit("abuff2", "please arrive second");
    await event(socket, "abuff2-ack");
    socket.emit("blob1", bytes);
    socket.emit("blob2", "second");
    socket.emit("blob3", bytes);
    await event(socket, "blob3-ack");
  });

  test(`${way}: order is checked: another one is not answered`, async (t) => {
    const socket = await main(t);
    socket.emit("abuff2", "first");
    socket.emit("abuff1", bytes);
    socket.emit("buffa", "no binary");
    assert.equal(await ack(socket, "echo", "fence"), "fence");
    assert.deepEqual(socket.events.items, []);
  });

  test(`${way}: ids`, async (t) => {
    const socket = await main(t);
    assert.equal(await ack(socket, "getId"), socket.id);
    const foo = await connect(t, "/foo", { transports });
    assert.equal(await ack(foo, "getId"), foo.id);
    assert.notEqual(foo.id, socket.id);
  });

  test(`${way}: the handshake object`, async (t) => {
    const begin = Date.now();
    const socket = await connect(t, "/", { transports, query: { key1: "a b", key2: "&é" }, auth: { token: "t" }, extraHeaders: { "X-Test": "yes" } });
    const handshake = await ack(socket, "getHandshake");
    assert.deepEqual(Object.keys(handshake).sort(), ["address", "auth", "headers", "issued", "query", "secure", "time", "url", "xdomain"]);
    assert.match(handshake.address, /^127\.0\.0\.1$|^::1$/);
    assert.deepEqual(handshake.auth, { token: "t" });
    assert.equal(handshake.headers["x-test"], "yes");
    assert.equal(handshake.headers.host, new URL(server.url).host);
    assert.ok(Math.abs(handshake.issued - begin) < 60_000);
    assert.ok(Math.abs(Date.parse(handshake.time) - handshake.issued) < 1000, `${handshake.time} is not ${handshake.issued}`);
    assert.deepEqual([handshake.secure, handshake.xdomain], [false, false]);
    assert.match(handshake.url, /^\/socket\.io\/\?/);
    const { EIO, transport, key1, key2 } = handshake.query;
    assert.deepEqual({ EIO, transport, key1, key2 }, { EIO: "4", transport: way, key1: "a b", key2: "&é" });
  });
}

test("/abc tells its handshake on connection", async (t) => {
  const socket = await connect(t, "/abc", { query: { a: "b" } });
  const [handshake] = await event(socket, "handshake");
  assert.equal(handshake.query.a, "b");
});

test("the query may be part of the URL, also of a namespace's", async (t) => {
  const main = open(t, "/?key=value");
  await within("the socket to connect", main.up);
  assert.equal((await ack(main, "getHandshake")).query.key, "value");
  const abc = open(t, "/abc?b=c&d=e");
  const [handshake] = await event(abc, "handshake");
  assert.deepEqual([handshake.query.b, handshake.query.d], ["c", "e"]);
});

for (const namespace of ["/foo", "/timeout_socket", "/valid", "/asd", "/abc"]) {
  test(`${namespace} is a namespace`, async (t) => {
    assert.match((await connect(t, namespace)).id, /^[A-Za-z0-9_-]{20}$/);
  });
}

test("/invalid is none", async (t) => {
  assert.equal((await within("the error", open(t, "/invalid").failed)).message, "Invalid namespace");
});

test("middleware refuses, with its own text, in the main namespace and in others", async (t) => {
  const main = await within("the error", open(t, "/", { query: { fail: true } }).failed);
  assert.deepEqual([main.message, main.data], ["Auth failed (main namespace)", undefined]);
  const no = await within("the error", open(t, "/no").failed);
  assert.deepEqual([no.message, no.data], ["Auth failed (custom namespace)", undefined]);
});

test("a refused namespace leaves the others of its connection alone", async (t) => {
  const main = await connect(t, "/", { transports: ["websocket"] });
  const no = main.io.socket("/no");
  const err = await within("the error", new Promise((resolve) => no.once("connect_error", resolve)));
  assert.equal(err.message, "Auth failed (custom namespace)");
  const foo = main.io.socket("/foo");
  await within("/foo to connect", new Promise((resolve) => foo.once("connect", resolve)));
  assert.equal(await ack(foo, "getId"), foo.id);
  assert.equal(await ack(main, "echo", 1), 1);
});

test("several namespaces share one connection, and one is left alone", async (t) => {
  const main = await connect(t);
  const others = ["/foo", "/asd"].map((name) => main.io.socket(name));
  for (const socket of others) await within(`${socket.nsp} to connect`, new Promise((resolve) => (socket.connected ? resolve() : socket.once("connect", resolve))));
  others[0].disconnect();
  assert.equal(await ack(main, "getId"), main.id);
  assert.ok(others[1].connected);
});

test("a client with the default transports upgrades, and goes on", async (t) => {
  const socket = await connect(t);
  const { engine } = socket.io;
  if (engine.transport.name !== "websocket") await within("the upgrade", new Promise((resolve) => engine.once("upgrade", resolve)));
  assert.equal(await ack(socket, "echo", "after"), "after");
});

test("a client that is cut off comes back by itself", async (t) => {
  const socket = await connect(t, "/", { reconnection: true, reconnectionDelay: 10 });
  const before = socket.id;
  const back = new Promise((resolve) => socket.once("connect", resolve));
  socket.io.engine.close();
  await within("the reconnection", back);
  assert.match(socket.id, /^[A-Za-z0-9_-]{20}$/);
  assert.equal(socket.id, before);
  assert.equal(socket.recovered, true);
  assert.equal(await ack(socket, "getId"), socket.id);
});
