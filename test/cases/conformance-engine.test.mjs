// Engine.IO, revision 4, as its public suite asks for it: an echo server with pings every 300 ms that must be answered
// within 200 ms. What is not about the heartbeat is asked of servers that do not end who is a little slow.
import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Socket } from "engine.io-client";

import { Conformance, Poller, request } from "../lib/conformance.mjs";
import { Raw } from "../lib/raw.mjs";
import { Inbox, within } from "../lib/wait.mjs";

const strict = await Conformance.start("protocol");
const server = await Conformance.start("protocol", "-ping-interval", "25s", "-ping-timeout", "5s"); // no ping comes in between
const pinging = await Conformance.start("protocol", "-ping-timeout", "2s");
const base = `${server.url}/engine.io/`;
const strictBase = `${strict.url}/engine.io/`;
after(() => Promise.all([strict, server, pinging].map((one) => one.stop())));

const websocket = (t, query = "EIO=4&transport=websocket", { url } = server) => new Raw(t, url, { path: "/engine.io/", query });
// beating is one with the short heartbeat.
const beating = (t) => websocket(t, undefined, strict);
// candidate is a WebSocket for a session that polls.
const candidate = (t, { sid }) => websocket(t, `EIO=4&transport=websocket&sid=${sid}`);
const gone = { status: 400, text: '{"code":1,"message":"Session ID unknown"}' };
const answer = ({ status, text }) => ({ status, text });

// upgraded takes a polling session over to WebSocket.
async function upgraded(t) {
  const poller = await Poller.open(base);
  const ws = candidate(t, poller);
  await within("the WebSocket to open", new Promise((resolve) => ws.ws.once("open", resolve)));
  ws.send("2probe");
  await ws.frames.wait("the probe's answer", (f) => f === "3probe");
  ws.send("5");
  return { poller, ws };
}

// client is an engine.io-client that echoes are collected from.
async function client(t, transports) {
  const socket = new Socket(pinging.url, { path: "/engine.io/", transports });
  socket.binaryType = "nodebuffer";
  t.after(() => socket.close());
  const inbox = new Inbox();
  const closed = new Inbox();
  socket.on("message", (data) => inbox.push(data));
  socket.on("close", (reason) => closed.push(reason));
  await within("the client to open", new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject)));
  return { socket, inbox, closed };
}

// --- handshake

test("a polling session opens with all five values and nothing else", async () => {
  const { status, text, headers } = await request(`${strictBase}?EIO=4&transport=polling`);
  assert.equal(status, 200);
  assert.equal(text[0], "0");
  const open = JSON.parse(text.slice(1));
  assert.match(open.sid, /^[A-Za-z0-9_-]{20}$/);
  assert.deepEqual({ ...open, sid: "" }, { sid: "", upgrades: ["websocket"], pingInterval: 300, pingTimeout: 200, maxPayload: 1_000_000 });
  assert.equal(headers.get("content-type"), "text/plain; charset=UTF-8");
  assert.equal(headers.get("access-control-allow-origin"), "*");
});

const refused = [
  ["GET", "transport=polling", 5, "Unsupported protocol version"],
  ["GET", "EIO=abc&transport=polling", 5, "Unsupported protocol version"],
  ["GET", "EIO=4", 0, "Transport unknown"],
  ["GET", "EIO=4&transport=abc", 0, "Transport unknown"],
  ["POST", "EIO=4&transport=polling", 2, "Bad handshake method"],
  ["PUT", "EIO=4&transport=polling", 2, "Bad handshake method"],
  ["GET", "EIO=4&transport=websocket", 3, "Bad request"],
  ["GET", "EIO=4&transport=polling&sid=abc", 1, "Session ID unknown"],
  ["POST", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", 1, "Session ID unknown"],
];
for (const [method, query, code, message] of refused) {
  test(`${method} ?${query} is error ${code}`, async () => {
    const reply = await request(`${base}?${query}`, method, method === "GET" ? undefined : "4x");
    assert.deepEqual(answer(reply), { status: 400, text: JSON.stringify({ code, message }) });
    assert.match(reply.headers.get("content-type"), /^application\/json/);
  });
}

test("a WebSocket opens a session of its own", async (t) => {
  const open = await websocket(t).handshake();
  assert.deepEqual(Object.keys(open), ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]);
  assert.deepEqual(open.upgrades, []);
});

for (const query of ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc", "EIO=4&transport=websocket&sid=abc", "EIO=4&transport=polling"]) {
  test(`a WebSocket for ?${query} is refused`, async (t) => {
    assert.equal(await websocket(t, query).closeCode(), 1006);
  });
}

test("every address of localhost answers", async () => {
  const loopback = Object.values(networkInterfaces()).flat().filter((a) => a.internal);
  assert.equal(server.addresses.length, loopback.some((a) => a.address === "::1") ? 2 : 1, server.child.log());
  for (const address of server.addresses) {
    const { status, text } = await request(`http://${address}/engine.io/?EIO=4&transport=polling`);
    assert.equal(status, 200, `${address}: ${text}`);
  }
});

// --- messages

const payloads = {
  "one packet": ["4hello"],
  "several packets": ["4test1", "4test2", "4test3"],
  "text and binary": ["4test1", "4test2", "bAQIDBA=="],
  "an empty binary packet between texts": ["4a", "b", "4é€😀"],
};
for (const [what, packets] of Object.entries(payloads)) {
  test(`polling: ${what} in one payload come back in order`, async () => {
    const poller = await Poller.open(base);
    assert.deepEqual(answer(await poller.post(packets.join("\u001e"))), { status: 200, text: "ok" });
    assert.deepEqual(await poller.packets(packets.length), packets);
  });
}

test("polling: a packet that is none ends the session", async () => {
  const poller = await Poller.open(base);
  const { status } = await poller.post("abc");
  assert.ok(status === 400 || status === 0, `status ${status}`);
  assert.deepEqual(answer(await poller.get()), gone);
});

test("polling: two polls at a time end the session", async () => {
  const poller = await Poller.open(base);
  const [first, second] = await Promise.all([poller.get(), poller.get()]);
  assert.deepEqual([first.status, second.status].sort(), [200, 400]);
  assert.equal(first.status === 200 ? first.text : second.text, "1");
  assert.deepEqual(answer(await poller.get()), gone);
});

test("websocket: text and binary come back", async (t) => {
  const ws = websocket(t);
  await ws.handshake();
  ws.send("4hello");
  ws.send(Buffer.from([1, 2, 3, 4]));
  ws.send("4é€😀");
  const echoes = await ws.frames.count("echo", 3, (f) => Buffer.isBuffer(f) || f.startsWith("4"));
  assert.deepEqual(echoes, ["4hello", Buffer.from([1, 2, 3, 4]), "4é€😀"]);
});

test("websocket: a packet that is none closes it", async (t) => {
  const ws = websocket(t);
  await ws.handshake();
  ws.send("abc");
  await ws.closeCode();
});

for (const transports of [["polling"], ["polling", "websocket"], ["websocket"]]) {
  test(`engine.io-client with ${transports.join(" and ")}: text and binary come back in order, and pings are answered`, async (t) => {
    const { socket, inbox, closed } = await client(t, transports);
    const sent = Array.from({ length: 60 }, (_, i) => (i % 3 === 2 ? Buffer.from([i, 0, 255]) : `text ${i} é€😀`));
    for (const data of sent) socket.send(data);
    assert.deepEqual(await inbox.count("echo", sent.length, () => true), sent);
    let pings = 0; // the second and the third come only after an answer
    await within("three pings", new Promise((resolve) => socket.on("ping", () => ++pings === 3 && resolve())));
    socket.send("after");
    await inbox.wait("the echo after the pings", (data) => data === "after");
    assert.deepEqual(closed.items, []);
    assert.equal(socket.transport.name, transports.at(-1));
    socket.close();
    assert.equal(await closed.wait("the close", () => true), "forced close");
  });
}

// --- heartbeat

test("polling: pings are answered with pongs", async () => {
  const poller = await Poller.open(strictBase);
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(answer(await poller.get()), { status: 200, text: "2" });
    assert.deepEqual(answer(await poller.post("3")), { status: 200, text: "ok" });
  }
});

test("polling: a silent session is gone when asked 500 ms after it opened", async () => {
  // The server's clock began a little earlier than this one. On a busy machine its timer may be late, but not always.
  const late = [];
  for (let i = 0; i < 5; i++) {
    const poller = await Poller.open(strictBase);
    await delay(500);
    const reply = answer(await poller.get());
    if (reply.status === 400) return assert.deepEqual(reply, gone);
    late.push(reply);
  }
  assert.fail(`still there: ${JSON.stringify(late)}`);
});

test("websocket: pings are answered with pongs", async (t) => {
  const ws = beating(t);
  await ws.handshake();
  for (let i = 1; i <= 3; i++) {
    await ws.frames.count("ping", i, (f) => f === "2");
    ws.send("3");
  }
  assert.equal(ws.closed, null);
});

test("websocket: a silent session is closed", async (t) => {
  const ws = beating(t);
  await ws.handshake();
  await ws.closeCode();
  assert.ok(ws.frames.items.includes("2"), "closed without a ping");
});

// --- close

test("polling: a client that closes ends its poll, and the session is gone", async () => {
  const poller = await Poller.open(base);
  const [poll, post] = await Promise.all([poller.get(), poller.post("1")]);
  assert.deepEqual(answer(post), { status: 200, text: "ok" });
  // The poll may have come after the close.
  if (poll.status !== 400) assert.deepEqual(answer(poll), { status: 200, text: "6" });
  assert.deepEqual(answer(await poller.get()), gone);
});

test("websocket: the close packet closes it", async (t) => {
  const ws = websocket(t);
  await ws.handshake();
  ws.send("1");
  await ws.closeCode();
  assert.ok(!ws.frames.items.includes("2"), "only closed after a ping");
});

// --- upgrade

test("upgrade: the probe is answered, and messages come back on the WebSocket", async (t) => {
  const { ws } = await upgraded(t);
  ws.send("4hello");
  ws.send(Buffer.from([1, 2]));
  const echoes = await ws.frames.count("echo", 2, (f) => Buffer.isBuffer(f) || f.startsWith("4"));
  assert.deepEqual(echoes, ["4hello", Buffer.from([1, 2])]);
  assert.ok(!ws.frames.items.some((f) => f[0] === "0"), "an open packet on the WebSocket");
});

test("upgrade: a parked poll is ended with a noop after the probe", async (t) => {
  const poller = await Poller.open(base);
  const ws = candidate(t, poller);
  await within("the WebSocket to open", new Promise((resolve) => ws.ws.once("open", resolve)));
  const poll = poller.get();
  ws.send("2probe");
  await ws.frames.wait("the probe's answer", (f) => f === "3probe");
  assert.deepEqual(answer(await poll), { status: 200, text: "6" });
  ws.send("5");
  ws.send("4hello");
  await ws.frames.wait("the echo", (f) => f === "4hello");
});

test("upgrade: HTTP requests of the session are refused afterwards, and do it no harm", async (t) => {
  const { poller, ws } = await upgraded(t);
  ws.send("4before");
  await ws.frames.wait("an echo", (f) => f === "4before"); // the upgrade packet was handled
  for (const reply of [await poller.get(), await poller.post("4x")]) {
    assert.deepEqual(answer(reply), { status: 400, text: '{"code":3,"message":"Bad request"}' });
  }
  ws.send("4after");
  await ws.frames.wait("an echo", (f) => f === "4after");
});

test("upgrade: a second WebSocket for the session is refused, and does it no harm", async (t) => {
  const { poller, ws } = await upgraded(t);
  ws.send("4before");
  await ws.frames.wait("an echo", (f) => f === "4before");
  const second = candidate(t, poller);
  await second.closeCode();
  assert.deepEqual(second.frames.items, []);
  ws.send("4after");
  await ws.frames.wait("an echo", (f) => f === "4after");
});

test("upgrade: a WebSocket for a session that began on WebSocket is refused", async (t) => {
  const ws = websocket(t);
  const { sid } = await ws.handshake();
  const second = candidate(t, { sid });
  await second.closeCode();
  assert.deepEqual(second.frames.items, []);
  ws.send("4after");
  await ws.frames.wait("an echo", (f) => f === "4after");
});

for (const probe of ["2", "2abc", "3probe", "4hello", "", "abc", Buffer.from("2probe")]) {
  test(`upgrade: ${JSON.stringify(String(probe))}${Buffer.isBuffer(probe) ? " in binary" : ""} is no probe: the WebSocket is closed and the session goes on polling`, async (t) => {
    const poller = await Poller.open(base);
    const ws = candidate(t, poller);
    await within("the WebSocket to open", new Promise((resolve) => ws.ws.once("open", resolve)));
    ws.send(probe);
    await ws.closeCode();
    assert.deepEqual(answer(await poller.post("4hello")), { status: 200, text: "ok" });
    assert.deepEqual(await poller.packets(1), ["4hello"]);
  });
}
