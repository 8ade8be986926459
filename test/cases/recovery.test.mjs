// Connection state recovery by unmodified clients, across nodes.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, open } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { raw } from "../lib/raw.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

const cluster = await Cluster.start(3);
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});
const reconnecting = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 200, randomizationFactor: 0 };

// order notes what a client saw and when: ["connect", recovered] and the numbers of its room's messages.
function order(client, room) {
  const seen = [];
  client.socket.on("connect", () => seen.push(["connect", client.socket.recovered]));
  client.socket.on("message", (r, meta, n) => r === room && seen.push(n));
  return seen;
}

// numbered sends n messages of a room, one after the other.
async function numbered(sender, room, from, to) {
  for (let n = from; n < to; n++) await sender.ok("message", room, n);
}

test("after kill -9 of its node a client gets its socket back on another, and what it missed before connect", async (t) => {
  const doomed = await cluster.add();
  const room = unique("room");
  const sender = await connect(t, cluster.urls[0]);
  const client = open(t, doomed.url, reconnecting);
  const seen = order(client, room);
  await client.connected();
  const { id } = client;
  await client.join(room);
  await sender.join(room);
  await numbered(sender, room, 0, 3);
  await client.allMessages(room, 3);
  await doomed.stop();
  await numbered(sender, room, 3, 6);
  client.moveTo(cluster.urls[1]); // until now it has tried in vain
  await within("the client to come back", client.connected(2));
  assert.equal(client.id, id);
  assert.equal(client.socket.recovered, true);
  await numbered(sender, room, 6, 8);
  await client.allMessages(room, 8);
  assert.deepEqual(seen, [["connect", false], 0, 1, 2, 3, 4, 5, ["connect", true], 6, 7]);

  // It has moved everywhere: private room, presence, what other servers ask.
  await keys.become({ online: true, socket: id, member: true }, client.userId, room);
  await keys.membersBecome(room, [client.userId, sender.userId]);
  const asked = await sender.ok("presence", room);
  assert.deepEqual(asked.users.toSorted(), [client.userId, sender.userId].toSorted());
  await client.ok("message", room, "mine");
  await sender.message(room, (what) => what === "mine");
});

test("after a graceful stop of its node, and after a cable was cut, a client is recovered elsewhere", async (t) => {
  const leaving = await cluster.add();
  const room = unique("room");
  const sender = await connect(t, cluster.urls[0]);
  await sender.join(room);
  const client = await connect(t, leaving.url, reconnecting);
  await client.join(room);
  const { id } = client;
  client.moveTo(cluster.urls[1]);
  leaving.child.signal("SIGTERM");
  await within("the client to come back", client.connected(2));
  assert.deepEqual([client.id, client.socket.recovered], [id, true]);
  client.moveTo(cluster.urls[2]);
  client.drop();
  await numbered(sender, room, 0, 3);
  await within("the client to come back", client.connected(3));
  assert.deepEqual([client.id, client.socket.recovered], [id, true]);
  assert.deepEqual((await client.allMessages(room, 3)).map(([, n]) => n), [0, 1, 2]);
});

// half opens a WebSocket, joins the namespace and returns what to come back with.
async function half(t, url, auth) {
  const r = await raw(t, url);
  await r.handshake();
  r.send(`40${JSON.stringify(auth)}`);
  const frame = await r.frames.wait("the CONNECT reply", (f) => typeof f === "string" && f.startsWith("40"));
  return [r, JSON.parse(frame.slice(2))];
}

test("a client that returns while its old connection is half-open takes its socket over, and nobody leaves", async (t) => {
  const room = unique("room");
  const userId = unique("user");
  const witness = await connect(t, cluster.urls[2]);
  await witness.join(room);
  const [old, first] = await half(t, cluster.urls[0], { userId });
  old.send(`420["join",${JSON.stringify(room)}]`);
  await old.frames.wait("the ack of join", (f) => typeof f === "string" && f.startsWith("430"));
  await witness.presence("the user", room, (u) => u.joined?.includes(userId));
  const [, second] = await half(t, cluster.urls[1], { userId, pid: first.pid });
  assert.deepEqual([second.sid, second.pid], [first.sid, first.pid]);
  await old.closeCode("the old node to drop the old connection");
  await eventually("the old node to say why", async () => (await cluster.nodes[0].metric('edge_closes_total{reason="replaced"}')) >= 1);
  await keys.become({ online: true, socket: first.sid, member: true }, userId, room);
  await keys.membersBecome(room, [userId, witness.userId]);
  const left = witness.events.items.filter(([name, u]) => name === "presence" && u.room === room && u.left?.includes(userId));
  assert.deepEqual(left, []);
  // A wrong pid, another user: told so, with a new socket.
  for (const auth of [{ userId, pid: "AAAAAAAAAAAAAAAAAAAA" }, { userId: unique("eve"), pid: first.pid }]) {
    const [, fresh] = await half(t, cluster.urls[0], auth);
    assert.notEqual(fresh.sid, first.sid);
    assert.notEqual(fresh.pid, first.pid);
  }
});

test("a message that is sent again with its id is published once", async (t) => {
  const room = unique("room");
  const userId = unique("user");
  const [one, two, reader] = await Promise.all([
    connect(t, cluster.urls[0], { userId }), connect(t, cluster.urls[1], { userId }), connect(t, cluster.urls[2]),
  ]);
  for (const c of [one, two, reader]) await c.join(room);
  await one.ok("message", { room, id: "m1" }, "first");
  await two.ok("message", { room, id: "m1" }, "first");
  await one.ok("message", { room, id: "m1" }, "first");
  await reader.ok("message", { room, id: "m1" }, "of another user");
  await two.ok("message", { room, id: "m2" }, "second");
  await reader.message(room, (what) => what === "second");
  assert.deepEqual(reader.messages(room).map(([, what]) => what), ["first", "of another user", "second"]);
  const event = reader.events.items.find(([name, r]) => name === "message" && r === room);
  assert.equal(event[2].id, "m1");
  await one.fails("payload_invalid", "message", { room, id: "" }, 1);
  await one.fails("room_invalid", "message", { id: "x" }, 1);
  await one.fails("room_unknown", "message", { room: unique("other"), id: "x" }, 1);
});

test("the retries option sends a message again, which is published once", async (t) => {
  const doomed = await cluster.add();
  const room = unique("room");
  const reader = await connect(t, cluster.urls[0]);
  await reader.join(room);
  const client = await connect(t, doomed.url, { ...reconnecting, retries: 10, ackTimeout: 1000 });
  await new Promise((resolve) => client.socket.emit("join", room, (err, answer) => resolve(assert.equal(answer?.ok, true, String(err)))));
  client.moveTo(cluster.urls[1]);
  const sent = Array.from({ length: 20 }, (_, n) => client.socket.emitWithAck("message", { room, id: `m${n}` }, n));
  await reader.message(room);
  await doomed.stop();
  for (const answer of await within("all acknowledgements", Promise.all(sent))) assert.equal(answer.ok, true);
  assert.deepEqual((await reader.allMessages(room, 20)).map(([, n]) => n), Array.from({ length: 20 }, (_, n) => n));
});

test("when Redis was restarted a client is told that it was not recovered, and goes on", async (t) => {
  const own = await Cluster.start(2);
  t.after(() => own.stop());
  const room = unique("room");
  const client = await connect(t, own.urls[0], reconnecting);
  await client.join(room);
  const { id } = client;
  await client.ok("message", room, 1);
  await client.message(room);
  await own.redis.down();
  await own.redis.up();
  await within("the client to be closed and to come back", client.connected(2));
  assert.equal(client.socket.recovered, false);
  assert.notEqual(client.id, id);
  await client.join(room);
  const sender = await connect(t, own.urls[1]);
  await sender.join(room);
  await sender.ok("message", room, 2);
  await client.message(room, (n) => n === 2);
  assert.deepEqual(client.messages(room).map(([, n]) => n), [1, 2]);
  assert.ok((await own.nodes[0].metric('edge_closes_total{reason="gap"}')) >= 1);
  client.moveTo(own.urls[1]);
  client.drop();
  await within("the client to come back", client.connected(3));
  assert.equal(client.socket.recovered, true);
});

test("RECOVERY=off gives nothing back and adds nothing to events", async (t) => {
  const node = await cluster.add({ RECOVERY: "off" });
  const [r, reply] = await half(t, node.url, { userId: unique("user") });
  assert.deepEqual(Object.keys(reply), ["sid"]);
  r.send('420["join","off"]');
  r.send('42["message","off","x"]');
  const frame = await r.frames.wait("the message", (f) => typeof f === "string" && f.startsWith('42["message"'));
  assert.equal(JSON.parse(frame.slice(2)).length, 4);
});

test("rooms with RECOVERY off by prefix keep the membership and lose the messages", async (t) => {
  const env = { RECOVERY: "on,typing:=off" };
  const nodes = [await cluster.add(env), await cluster.add(env)];
  const rooms = [unique("typing:"), unique("chat:")];
  const sender = await connect(t, nodes[0].url);
  const client = await connect(t, nodes[0].url); // comes back when it is told to, and not before all was missed
  for (const room of rooms) for (const c of [sender, client]) await c.join(room);
  client.moveTo(nodes[1].url);
  client.drop();
  for (const room of rooms) await sender.ok("message", room, "missed");
  client.socket.connect();
  await within("the client to come back", client.connected(2));
  assert.equal(client.socket.recovered, true);
  for (const room of rooms) await sender.ok("message", room, "live");
  for (const room of rooms) await client.message(room, (what) => what === "live");
  assert.deepEqual(rooms.map((room) => client.messages(room).map(([, what]) => what)), [["live"], ["missed", "live"]]);
});
