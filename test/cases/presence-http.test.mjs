// Presence over HTTP, as backends read it from the admin listeners of two nodes.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { eventually, unique } from "../lib/wait.mjs";

const ADMIN_TOKEN = "token of the tests";
const cluster = await Cluster.start(2, { ADMIN_TOKEN });
const [node, other] = cluster.nodes;
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});

// read asks a node, with the token unless other headers are given.
async function read(edge, path, headers = { authorization: `Bearer ${ADMIN_TOKEN}` }) {
  const response = await fetch(edge.admin + path, { headers, signal: AbortSignal.timeout(10_000) });
  const json = response.headers.get("content-type") === "application/json";
  return { status: response.status, body: json ? await response.json() : await response.text() };
}

// ok is read for what must be answered.
async function ok(edge, path) {
  const { status, body } = await read(edge, path);
  assert.equal(status, 200, `${path}: ${JSON.stringify(body)}`);
  return body;
}

// pages follows a path from page to page and returns the users, each once, sorted.
async function pages(edge, path) {
  const users = new Set();
  for (let cursor = "0"; cursor !== undefined; ) {
    const page = await ok(edge, `${path}?limit=500&cursor=${cursor}`);
    for (const user of page.users) users.add(user);
    cursor = page.next;
  }
  return [...users].sort();
}

test("the token is needed", async () => {
  for (const headers of [{}, { authorization: "Bearer wrong" }]) assert.equal((await read(node, "/presence/online", headers)).status, 401);
});

test("every node knows the users of all nodes", async (t) => {
  const room = unique("a room/with ümläut");
  const path = `/presence/rooms/${encodeURIComponent(room)}`;
  const clients = [await connect(t, node.url, { userId: unique("ada/1") }), await connect(t, other.url, { userId: unique("bob") })];
  for (const client of clients) await client.join(room);
  const users = clients.map((client) => client.userId).sort();
  for (const edge of [node, other]) {
    for (const client of clients) {
      await eventually(`${client.userId} to be online`, async () => (await ok(edge, `/presence/users/${encodeURIComponent(client.userId)}`)).socket === client.id);
    }
    const query = new URLSearchParams([...clients.map((client) => ["id", client.userId]), ["id", "nobody"]]);
    assert.deepEqual((await ok(edge, `/presence/users?${query}`)).users, [...clients.map((client) => ({ user: client.userId, online: true, socket: client.id })), { user: "nobody", online: false }]);
    const answer = await eventually("both users in the room", async () => {
      const body = await ok(edge, path);
      return body.count === 2 && body;
    });
    assert.deepEqual([answer.room, answer.users, answer.seq, typeof answer.epoch], [room, users, 2, "string"]);
    assert.deepEqual((await ok(edge, `/presence/counts?room=nobody&room=${encodeURIComponent(room)}`)).rooms, { nobody: 0, [room]: 2 });
    const online = await pages(edge, "/presence/online");
    assert.deepEqual(users.filter((user) => !online.includes(user)), []);
  }
  clients[1].close();
  await eventually("the leave to be known", async () => (await ok(node, path)).seq === 3);
  assert.deepEqual((await ok(node, path)).users, [clients[0].userId]);
  // That is another key, and the two do not change in the same moment.
  const gone = () => ok(node, `/presence/users/${clients[1].userId}`);
  await eventually("the user to be offline", async () => !(await gone()).online);
  assert.deepEqual(await gone(), { user: clients[1].userId, online: false });
});

test("a large room comes in pages that together have everybody", async () => {
  const room = unique("large");
  const users = Array.from({ length: 2500 }, (_, i) => `user ${i}`).sort();
  await keys.redis.sAdd(`room:${room}:users`, users);
  const first = await ok(node, `/presence/rooms/${room}`);
  assert.deepEqual([first.room, first.count, first.epoch], [room, 2500, undefined]);
  assert.match(first.next, /^[1-9]\d*$/);
  assert.deepEqual(await pages(node, `/presence/rooms/${room}`), users);
  await keys.redis.del(`room:${room}:users`);
  assert.deepEqual((await ok(node, `/presence/rooms/${room}?cursor=${first.next}`)).users, []);
});

test("what cannot be asked is refused, and a Redis that is away is said", async () => {
  const many = Array.from({ length: 1001 }, () => "id=x").join("&");
  assert.deepEqual(await read(node, `/presence/users?${many}`), { status: 400, body: { error: "1001 users are asked for, at most 1000 are answered" } });
  assert.deepEqual(await read(node, "/presence/users/%7B"), { status: 400, body: { error: "user id contains a brace" } });
  assert.equal((await read(node, `/presence/users?id=${"x".repeat(32_000)}`)).status, 431);
  await cluster.redis.down();
  await node.readinessIs(503);
  for (const path of ["/presence/users/ada", "/presence/rooms/r1", "/presence/online", "/presence/counts"]) {
    assert.deepEqual(await read(node, path), { status: 503, body: { error: "redis is not reachable" } }, path);
  }
});
