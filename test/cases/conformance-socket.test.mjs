// Socket.IO, revision 5, as its public suite asks for it, in raw packets over both transports. Strings are compared as
// they are: what the server sends is compact JSON with the client's own bytes in it. What is not about times is asked of a
// server that does not end who is a little slow.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { io } from "socket.io-client";

import { Conformance, Poller } from "../lib/conformance.mjs";
import { Raw, raw } from "../lib/raw.mjs";
import { Inbox, within } from "../lib/wait.mjs";

const strict = await Conformance.start("protocol");
const server = await Conformance.start("protocol", "-ping-interval", "25s", "-ping-timeout", "5s"); // no ping comes in between
const pinging = await Conformance.start("protocol", "-ping-timeout", "2s");
const base = `${server.url}/socket.io/`;
after(() => Promise.all([strict, server, pinging].map((one) => one.stop())));

// Wire is a WebSocket of which everything but pings is kept, and pings are answered.
class Wire {
  static async open(t, at = server) {
    const wire = new Wire();
    wire.raw = await raw(t, at.url);
    wire.raw.ws.on("message", (data, binary) => !binary && data.toString() === "2" && wire.raw.send("3"));
    wire.read = 1; // the open packet
    return wire;
  }

  // joined opens one, joins a namespace and takes the reply and the auth event.
  static async joined(t, connect = "40", auth = "{}", at = server) {
    const wire = await Wire.open(t, at);
    wire.send(connect);
    const namespace = /^40(\/[^,{]*)/.exec(connect)?.[1];
    const prefix = namespace ? `${namespace},` : "";
    const [reply, event] = await wire.next(2);
    assert.match(reply, new RegExp(`^40${prefix}\\{"sid":"[A-Za-z0-9_-]{20}"\\}$`));
    assert.equal(event, `42${prefix}["auth",${auth}]`);
    wire.sid = JSON.parse(reply.slice(2 + prefix.length)).sid;
    return wire;
  }

  send(...packets) {
    for (const packet of packets) this.raw.send(packet);
  }

  // next returns the next n frames.
  async next(n) {
    const frames = (items) => items.slice(this.read).filter((f) => f !== "2");
    const result = await this.raw.frames.until(`${n} frames`, () => (frames(this.raw.frames.items).length >= n ? frames(this.raw.frames.items).slice(0, n) : undefined));
    for (let left = n; left > 0; this.read++) if (this.raw.frames.items[this.read] !== "2") left--;
    return result;
  }

  async expect(...frames) {
    assert.deepEqual(await this.next(frames.length), frames);
  }

  closed() {
    return this.raw.closeCode();
  }
}

// --- connect

for (const [connect, auth] of [
  ["40", "{}"],
  ['40{"token":"123"}', '{"token":"123"}'],
  ['40{"b":1.0,"a":[{}],"z":"<&>é\u2028"}', '{"b":1.0,"a":[{}],"z":"<&>é\u2028"}'],
  ["40/custom", "{}"],
  ["40/custom,", "{}"],
  ['40/custom,{"token":"abc"}', '{"token":"abc"}'],
]) {
  test(`${connect} is answered with a socket id and the auth object`, async (t) => {
    await Wire.joined(t, connect, auth);
  });
}

for (const name of ["/random", "/custom?a=b", "/cust", "/custom/"]) {
  test(`${name} is no namespace; the connection stays`, async (t) => {
    const wire = await Wire.open(t);
    wire.send(`40${name}`);
    await wire.expect(`44${name},{"message":"Invalid namespace"}`);
    wire.send("40/custom");
    assert.match((await wire.next(2))[0], /^40\/custom,\{"sid":/);
  });
}

test("both namespaces on one connection have ids of their own, and their packets keep apart", async (t) => {
  const wire = await Wire.joined(t);
  wire.send("40/custom,");
  const [reply] = await wire.next(2);
  assert.notEqual(JSON.parse(reply.slice("40/custom,".length)).sid, wire.sid);
  wire.send('42/custom,["message",1]', '42["message",2]'); // only the main namespace answers
  await wire.expect('42["message-back",2]');
});

test("a WebSocket that joins no namespace is closed within a second", async (t) => {
  // Twice the time it should take: the machine may be busy, but not always.
  const late = [];
  for (let i = 0; i < 5; i++) {
    const wire = await Wire.open(t, strict); // its pings are answered
    const begin = Date.now();
    await wire.closed();
    if (Date.now() - begin < 2000) return;
    late.push(Date.now() - begin);
  }
  assert.fail(`closed after ${late} ms`);
});

test("a joined namespace keeps the connection beyond that time, and leaving it does as well", async (t) => {
  const wire = await Wire.joined(t, "40", "{}", pinging);
  wire.send("41");
  await wire.raw.frames.count("ping", 5, (f) => f === "2"); // 1.5 s
  assert.equal(wire.raw.closed, null);
});

// --- disconnect

test("41 leaves the main namespace and no other", async (t) => {
  const wire = await Wire.joined(t);
  wire.send("40/custom");
  await wire.next(2);
  wire.send("41", '42/custom,["message"]', "40");
  const [reply, auth] = await wire.next(2);
  assert.match(reply, /^40\{"sid":/);
  assert.notEqual(JSON.parse(reply.slice(2)).sid, wire.sid);
  assert.equal(auth, '42["auth",{}]');
});

test("41/custom, leaves the custom namespace and no other", async (t) => {
  const wire = await Wire.joined(t);
  wire.send("40/custom");
  await wire.next(2);
  wire.send("41/custom,", '42["message","message to main namespace"]');
  await wire.expect('42["message-back","message to main namespace"]');
});

// --- messages

const echoes = [
  ['42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'],
  ['42["message",{"b":1.50,"a":1e2,"10":0,"9":[]},"<>&\\u00e9é😀"]', '42["message-back",{"b":1.50,"a":1e2,"10":0,"9":[]},"<>&\\u00e9é😀"]'],
  ['42["message",9007199254740993,-0.0,null,false]', '42["message-back",9007199254740993,-0.0,null,false]'],
  ['42["message"]', '42["message-back"]'],
  ['42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'],
  ['420["message-with-ack"]', "430[]"],
  ['4299999999["message-with-ack",[]]', "4399999999[[]]"],
];
for (const [event, answer] of echoes) {
  test(`websocket: ${event} is answered ${answer}`, async (t) => {
    const wire = await Wire.joined(t);
    wire.send(event);
    await wire.expect(answer);
  });
}

const placeholders = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
const [one, two] = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];

test("websocket: binary comes back with its event, in order", async (t) => {
  const wire = await Wire.joined(t);
  wire.send(`452-["message",${placeholders}]`, one, two);
  await wire.expect(`452-["message-back",${placeholders}]`, one, two);
  wire.send(`451-["message",{"deep":[{"_placeholder":true,"num":0}]}]`, Buffer.alloc(0));
  await wire.expect('451-["message-back",{"deep":[{"_placeholder":true,"num":0}]}]', Buffer.alloc(0));
});

test("websocket: binary is acknowledged with binary", async (t) => {
  const wire = await Wire.joined(t);
  wire.send(`452-789["message-with-ack",${placeholders}]`, one, two);
  await wire.expect(`462-789[${placeholders}]`, one, two);
});

test("websocket: pings between attachments harm nothing", async (t) => {
  const wire = await Wire.joined(t, "40", "{}", pinging);
  wire.send(`452-["message",${placeholders}]`, one);
  const pings = wire.raw.frames.items.filter((f) => f === "2").length;
  await wire.raw.frames.count("ping", pings + 1, (f) => f === "2");
  wire.send(two);
  await wire.expect(`452-["message-back",${placeholders}]`, one, two);
});

test("websocket: packets keep their order", async (t) => {
  const wire = await Wire.joined(t);
  const events = Array.from({ length: 200 }, (_, i) => `42["message",${i}]`);
  wire.send(...events);
  await wire.expect(...events.map((e) => e.replace('"message"', '"message-back"')));
});

test("polling: the same, in payloads", async () => {
  const poller = await Poller.open(base);
  assert.deepEqual(poller.handshake, { sid: poller.sid, upgrades: ["websocket"], pingInterval: 25_000, pingTimeout: 5_000, maxPayload: 1_000_000 });
  assert.equal((await poller.post('40{"token":"123"}')).text, "ok");
  const [reply, auth] = await poller.packets(2);
  assert.match(reply, /^40\{"sid":"[A-Za-z0-9_-]{20}"\}$/);
  assert.equal(auth, '42["auth",{"token":"123"}]');
  for (const [event, answer] of echoes) {
    assert.equal((await poller.post(event)).text, "ok");
    assert.deepEqual(await poller.packets(1), [answer]);
  }
  const payload = [`452-["message",${placeholders}]`, "bAQID", "bBAUG", `452-7["message-with-ack",${placeholders}]`, "b", "b//79"];
  assert.equal((await poller.post(payload.join("\u001e"))).text, "ok");
  const packets = await poller.packets(6);
  assert.deepEqual(packets, [`452-["message-back",${placeholders}]`, "bAQID", "bBAUG", `462-7[${placeholders}]`, "b", "b//79"]);
  await poller.post("40/random");
  assert.deepEqual(await poller.packets(1), ['44/random,{"message":"Invalid namespace"}']);
});

test("a session that polls, joins and upgrades keeps its socket", async (t) => {
  const poller = await Poller.open(base);
  await poller.post("40");
  await poller.packets(2);
  const ws = new Raw(t, server.url, { query: `EIO=4&transport=websocket&sid=${poller.sid}` });
  await within("the WebSocket to open", new Promise((resolve) => ws.ws.once("open", resolve)));
  ws.send("2probe");
  await ws.frames.wait("the probe's answer", (f) => f === "3probe");
  ws.send("5");
  ws.send('42["message","over WebSocket"]');
  await ws.frames.wait("the answer", (f) => f === '42["message-back","over WebSocket"]');
});

// --- what closes a connection

const bad = {
  "no Socket.IO packet": ["4abc"],
  "an unknown packet type": ["4invalid"],
  "another unknown packet type": ["47"],
  "an event that is an object": ["42{}"],
  "an event without a name": ["42[]"],
  "JSON that does not parse": ['42["message",'],
  "an ack id that is no number": ['42abc["message-with-ack",1]'],
  "a reserved event name": ['42["disconnect"]'],
  "a second CONNECT": ["40"],
  "auth that is an array": ["40/custom,[]"],
  "a binary event without a count": ['45["message",{"_placeholder":true,"num":0}]'],
  "text among attachments": [`452-["message",${placeholders}]`, one, '42["message"]'],
  "an attachment nobody announced": [one],
  "a CONNECT_ERROR from a client": ['44{"message":"x"}'],
};
for (const [what, packets] of Object.entries(bad)) {
  test(`${what} closes the connection`, async (t) => {
    const wire = await Wire.joined(t);
    wire.send(...packets);
    await wire.closed();
  });
}

test("a packet that is none instead of CONNECT closes the connection", async (t) => {
  const wire = await Wire.open(t);
  wire.send("4abc");
  await wire.closed();
});

test("polling: a bad packet is answered 400 or with the end of the connection, and the session is gone", async () => {
  const poller = await Poller.open(base);
  await poller.post("40");
  await poller.packets(2);
  const { status } = await poller.post("4abc");
  assert.ok(status === 400 || status === 0, `status ${status}`);
  assert.equal((await poller.get()).text, '{"code":1,"message":"Session ID unknown"}');
});

// --- the official client

for (const transports of [["polling"], ["polling", "websocket"], ["websocket"]]) {
  test(`socket.io-client with ${transports.join(" and ")}: auth, messages, acknowledgements and binary`, async (t) => {
    const socket = io(server.url, { transports, forceNew: true, reconnection: false, auth: { token: "123" } });
    t.after(() => socket.close());
    const events = new Inbox();
    socket.onAny((...event) => events.push(event));
    await within("the client to connect", new Promise((resolve, reject) => socket.on("connect", resolve).on("connect_error", reject)));
    const args = [1, "2", { 3: [true, Buffer.from([1, 2])] }, Buffer.from([3])];
    const lost = new Promise((_, reject) => socket.on("disconnect", (reason, details) => reject(new Error(`disconnected: ${reason}`, { cause: details }))));
    lost.catch(() => {}); // the end of the test is one as well
    socket.emit("message", ...args);
    const answered = new Promise((resolve) => socket.emit("message-with-ack", ...args, (...answer) => resolve(answer)));
    assert.deepEqual(await within("the acknowledgement", Promise.race([answered, lost])), args);
    assert.deepEqual(events.items, [["auth", { token: "123" }], ["message-back", ...args]]);
    if (transports.includes("websocket") && socket.io.engine.transport.name !== "websocket") {
      await within("the upgrade", new Promise((resolve) => socket.io.engine.once("upgrade", resolve)));
    }
    assert.equal(socket.io.engine.transport.name, transports.at(-1));
  });
}
