// The HTTP API for backends on three nodes, with unmodified clients.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";

import { Emitter } from "@socket.io/redis-emitter";

import { connect, open } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

const ADMIN_TOKEN = "token of the tests";
const cluster = await Cluster.start(3, { ADMIN_TOKEN });
const [one, two, three] = cluster.nodes;
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});
const reconnecting = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 200, randomizationFactor: 0 };

// call makes one request of a node's API.
async function call(edge, method, path, body, headers = {}) {
  const response = await fetch(`${edge.admin}/api/v1/${path}`, {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: { authorization: `Bearer ${ADMIN_TOKEN}`, ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
    signal: AbortSignal.timeout(15_000),
  });
  return { status: response.status, body: await response.json() };
}

// ok is call for what must succeed.
async function ok(edge, method, path, body, headers) {
  const answer = await call(edge, method, path, body, headers);
  assert.equal(answer.status, 200, `${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

const publish = (edge, to, event, ...args) => ok(edge, "POST", "publish", { to, event, args });

// everywhere has one user on all three nodes, twice on the first, and another user on the second.
async function everywhere(t) {
  const ada = { userId: unique("ada/ä") };
  const devices = await Promise.all([one, two, three, one].map((edge) => connect(t, edge.url, ada)));
  const other = await connect(t, two.url, { userId: unique("bob") });
  return { ada: ada.userId, devices, other, all: [...devices, other] };
}

// receivers are the clients that have got an event. Another one goes behind it, to all of them, on the channel of messages
// to several rooms: a node hears its channels in one order, so what has not come by then does not come.
async function receivers(clients, event) {
  const end = unique("end");
  await publish(three, { sockets: clients.map((client) => client.id) }, end);
  await Promise.all(clients.map((client) => client.events.wait(`${end} at ${client.userId}`, ([name]) => name === end)));
  const got = clients.map((client) => client.events.items.filter(([name]) => name === event).length);
  assert.ok(
    got.every((n) => n <= 1),
    `${event} came ${got} times`,
  );
  return clients.filter((_, i) => got[i] === 1);
}

test("an event reaches whom it is for, on all nodes, once", async (t) => {
  const { ada, devices, other, all } = await everywhere(t);
  const room = unique("room");
  await Promise.all([devices[1], devices[2], other].map((client) => client.join(room)));
  const cases = [
    [{ users: [ada] }, {}, devices],
    [{ users: [ada, other.userId] }, {}, all],
    [{ sockets: [devices[2].id] }, {}, [devices[2]]],
    [{ rooms: [room] }, {}, [devices[1], devices[2], other]],
    [{ rooms: [room], users: [ada], sockets: [devices[0].id] }, {}, all],
    [{ all: true }, {}, all],
    [{ all: true }, { users: [ada] }, [other]],
    [{ users: [ada] }, { rooms: [room], sockets: [devices[0].id] }, [devices[3]]],
    [{ users: [unique("nobody")] }, {}, []],
  ];
  for (const [i, [to, except, expected]] of cases.entries()) {
    const event = unique("event");
    assert.deepEqual(await ok(cluster.nodes[i % 3], "POST", "publish", { to, except, event, args: [{ b: 1, a: [null] }, "é"] }), { ok: true });
    const got = await receivers(all, event);
    assert.deepEqual(new Set(got.map((client) => client.id)), new Set(expected.map((client) => client.id)), `to ${JSON.stringify(to)} except ${JSON.stringify(except)}`);
    for (const client of got) assert.deepEqual(client.events.items.find(([name]) => name === event).slice(1), [{ b: 1, a: [null] }, "é"]);
  }
  // Other backends name the user's room in the same way.
  const emitter = new Emitter(keys.redis);
  emitter.to(`user:${ada}`).emit("emitted", 1);
  await Promise.all(devices.map((client) => client.events.wait("emitted", ([name]) => name === "emitted")));
  assert.deepEqual(await receivers(all, "emitted"), devices);
});

test("a key holds on all nodes, for one body", async (t) => {
  const client = await connect(t, three.url);
  const key = { "idempotency-key": randomUUID() };
  const message = { to: { users: [client.userId] }, event: "keyed", args: [1] };
  const at = (i) => cluster.nodes[i % 3];
  for (let i = 0; i < 4; i++) await ok(at(i), "POST", "publish", message, key);
  await Promise.all([0, 1, 2, 3, 4].map((i) => ok(at(i), "POST", "publish", { ...message, args: [2] }, { "idempotency-key": `"${client.userId.length}-concurrent"` })));
  const { status, body } = await call(two, "POST", "publish", { ...message, args: [3] }, key);
  assert.deepEqual([status, body.error.code], [422, "key_reused"]);
  const batch = { messages: [4, 5, 6].map((n) => ({ ...message, args: [n] })) };
  const batchKey = { "idempotency-key": randomUUID() };
  for (let i = 0; i < 2; i++) assert.deepEqual(await ok(at(i), "POST", "publish/batch", batch, batchKey), { ok: true, results: [{ ok: true }, { ok: true }, { ok: true }] });
  const longer = { messages: [...batch.messages, { ...message, args: [7] }] };
  assert.equal((await call(three, "POST", "publish/batch", longer, batchKey)).status, 422);
  await publish(one, { users: [client.userId] }, "keyed", "last");
  await client.events.wait("the last", ([name, n]) => name === "keyed" && n === "last");
  assert.deepEqual(
    client.events.items.filter(([name]) => name === "keyed").map(([, n]) => n),
    [1, 2, 4, 5, 6, "last"],
  );
});

test("what is published to a user who is away comes with the return, on another node", async (t) => {
  const client = await connect(t, one.url, reconnecting);
  const { id } = client;
  await publish(two, { users: [client.userId] }, "before");
  await client.events.wait("before", ([name]) => name === "before");
  client.moveTo(three.url);
  client.drop();
  await publish(two, { users: [client.userId] }, "meanwhile", 1);
  await ok(two, "POST", "publish", { to: { all: true }, except: { users: [client.userId] }, event: "meanwhile", args: [2] });
  await within("the client to come back", client.connected(2));
  assert.deepEqual([client.id, client.socket.recovered], [id, true]);
  await publish(one, { users: [client.userId] }, "after");
  await client.events.wait("after", ([name]) => name === "after");
  assert.deepEqual(client.events.items, [["before"], ["meanwhile", 1], ["after"]]);
});

test("a user is disconnected on all nodes, and who was away does not come back as the same", async (t) => {
  const { ada, devices, other } = await everywhere(t);
  const away = await connect(t, two.url, { ...reconnecting, reconnection: false, userId: ada });
  const { id } = away;
  const gone = () => eventually("the socket to be away", async () => !(await ok(one, "GET", `users/${encodeURIComponent(ada)}/sockets`)).sockets.some(({ socket }) => socket === id));
  away.drop();
  await gone();
  const ids = devices.map((client) => client.id).sort();
  const { sockets } = await ok(three, "POST", `users/${encodeURIComponent(ada)}/disconnect`);
  assert.deepEqual(sockets, ids);
  for (const device of devices) assert.equal(await device.disconnected(), "io server disconnect");
  assert.deepEqual((await ok(two, "GET", `users/${encodeURIComponent(ada)}/sockets`)).sockets, []);
  assert.ok(other.socket.connected);

  away.moveTo(three.url);
  away.socket.connect();
  await within("the one that was away to connect", away.connected(2));
  assert.equal(away.socket.recovered, false);
  assert.notEqual(away.id, id);
  // It began after the disconnect, so it is recovered again.
  const { id: later } = away;
  away.socket.io.reconnection(true);
  away.moveTo(one.url);
  away.drop();
  await within("it to come back", away.connected(3));
  assert.deepEqual([away.id, away.socket.recovered], [later, true]);
  await keys.become({ online: true, socket: later }, ada);

  // One socket, wherever it is.
  assert.deepEqual(await ok(two, "POST", `sockets/${later}/disconnect`, { close: false }), { sockets: [later] });
  assert.equal((await away.lifecycle.count("disconnect", 3, ([what]) => what === "disconnect")).at(-1)[1], "io server disconnect");
  await keys.become({ online: false, socket: null }, ada);
});

test("sockets join and leave rooms on behalf, with presence, and messages right behind", async (t) => {
  const { ada, devices, other } = await everywhere(t);
  const [room, second] = [unique("room"), unique("second")];
  await other.join(room);
  const path = `users/${encodeURIComponent(ada)}`;
  const { sockets } = await ok(two, "POST", `${path}/join`, { rooms: [room, second] });
  assert.deepEqual(sockets, devices.map((client) => client.id).sort());
  await publish(one, { rooms: [room] }, "hello");
  await Promise.all(devices.map((client) => client.events.wait("hello", ([name]) => name === "hello")));
  await keys.membersBecome(room, [ada, other.userId]);
  await other.presence("ada in it", room, ({ joined }) => joined?.includes(ada));
  assert.deepEqual((await ok(three, "GET", `presence/rooms/${room}`)).users, [ada, other.userId].sort());
  await devices[0].ok("message", room, "as a member");
  await other.message(room, (what) => what === "as a member");

  assert.deepEqual(await ok(three, "POST", `sockets/${devices[1].id}/leave`, { rooms: [room] }), { sockets: [devices[1].id] });
  assert.deepEqual((await ok(one, "GET", `sockets/${devices[1].id}`)).rooms, [second]);
  await keys.membersBecome(room, [ada, other.userId]); // three more are in it
  await ok(one, "POST", `${path}/leave`, { rooms: [room] });
  await keys.membersBecome(room, [other.userId]);
  await devices[2].fails("room_unknown", "message", room, "not any more");
  assert.equal((await call(one, "POST", `users/${unique("nobody")}/join`, { rooms: [room] })).status, 404);
});

test("listings are paged, and of the node that is asked", async (t) => {
  const room = unique("listed");
  const clients = await Promise.all(Array.from({ length: 5 }, () => connect(t, one.url)));
  await Promise.all(clients.map((client) => client.join(room)));
  await (await connect(t, two.url)).join(room);
  const { node } = await ok(one, "GET", "node");
  assert.match(clients[0].id, new RegExp(`^${node}`));
  const listed = [];
  for (let cursor = ""; cursor !== undefined; ) {
    const page = await ok(one, "GET", `sockets?limit=2&room=${room}&cursor=${cursor}`);
    assert.ok(page.sockets.length <= 2 && page.node === node);
    listed.push(...page.sockets);
    cursor = page.next;
  }
  assert.deepEqual(
    listed.map(({ socket, user, rooms }) => [socket, user, rooms]),
    clients.map((client) => [client.id, client.userId, [room]]).sort(),
  );
  const rooms = [];
  for (let cursor = ""; cursor !== undefined; ) {
    const page = await ok(one, "GET", `rooms?limit=1&cursor=${cursor}`);
    rooms.push(...page.rooms);
    cursor = page.next;
  }
  assert.deepEqual(rooms, rooms.toSorted((a, b) => b.sockets - a.sockets), "the largest first");
  assert.equal(rooms.find((r) => r.room === room).sockets, 5);
  const info = await ok(two, "GET", "node");
  assert.deepEqual([info.ready, info.draining, info.redis.connected, info.conns.open >= 1], [true, false, true, true]);
});

test("the token is needed, and unknown fields are named", async () => {
  assert.equal((await call(one, "GET", "node", undefined, { authorization: "Bearer wrong" })).status, 401);
  const { status, body } = await call(one, "POST", "publish", { to: { all: true }, evnt: "e" });
  assert.deepEqual([status, body], [400, { error: { code: "invalid", message: 'unknown field "evnt"' } }]);
});

test("a client that was told to go while its connection was cut, and its node killed, does not come back", async (t) => {
  const doomed = await cluster.add();
  const client = open(t, doomed.url, { ...reconnecting, reconnectionDelay: 2000, reconnectionDelayMax: 2000 });
  await client.connected();
  const { id } = client;
  await doomed.stop();
  await client.disconnected();
  assert.deepEqual(await eventually("an answer of all nodes that are left", async () => {
    const { status, body } = await call(one, "POST", `users/${client.userId}/disconnect`);
    return status === 200 && body;
  }), { sockets: [] });
  client.moveTo(two.url);
  await within("it to connect", client.connected(2));
  assert.equal(client.socket.recovered, false);
  assert.notEqual(client.id, id);
});
