// The presence keys and the presence updates, on three nodes.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, everywhere } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { eventually, unique } from "../lib/wait.mjs";

const cluster = await Cluster.start(3);
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});
const [url, url2] = cluster.urls;

test("connecting stores the user as online and its socket id", async (t) => {
  const client = await connect(t, url);
  await keys.become({ online: true, socket: client.id }, client.userId);
});

test("the keys have the types that other services expect", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  await client.join(room);
  await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
  assert.equal(await keys.redis.type("presence:online"), "set");
  assert.equal(await keys.redis.type(`room:${room}:users`), "set");
  assert.equal(await keys.redis.type(`user:${client.userId}:socket`), "string");
});

test("a join is acknowledged when the membership is stored, a leave when it is removed", async (t) => {
  const room = unique("room");
  const clients = await Promise.all(cluster.urls.map((u) => connect(t, u)));
  for (const [i, client] of clients.entries()) {
    await client.join(room);
    assert.deepEqual(await keys.members(room), clients.slice(0, i + 1).map((c) => c.userId).sort());
  }
  for (const [i, client] of clients.entries()) {
    await client.ok("leave", room);
    assert.deepEqual(await keys.members(room), clients.slice(i + 1).map((c) => c.userId).sort());
    assert.equal(await keys.online(client.userId), true, "leaving a room is not going offline");
  }
  assert.equal(await keys.redis.exists(`room:${room}:users`), 0);
});

test("disconnecting removes the user from every key", async (t) => {
  const [room, other] = [unique("room"), unique("room")];
  const client = await connect(t, url);
  const stays = await connect(t, url2);
  for (const r of [room, other]) {
    await client.join(r);
    await stays.join(r);
  }
  client.close();
  await keys.become({ online: false, socket: null, member: false }, client.userId, room);
  await keys.membersBecome(other, [stays.userId]);
  assert.deepEqual(await keys.of(stays.userId, room), { online: true, socket: stays.id, member: true });
});

test("a connection that is cut without goodbye is a disconnect", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  await client.join(room);
  client.socket.io.engine.transport.ws._socket.destroy();
  await keys.become({ online: false, socket: null, member: false }, client.userId, room);
});

test("leaving the namespace without closing the connection is a disconnect", async (t) => {
  const room = unique("room");
  const client = await connect(t, url);
  await client.join(room);
  client.socket.io.engine.write("41"); // what socket.disconnect() sends before it closes the engine
  await keys.become({ online: false, socket: null, member: false }, client.userId, room);
});

test("a user with two devices is online until the last one leaves", async (t) => {
  const room = unique("room");
  const userId = unique("user");
  const first = await connect(t, url, { userId });
  await first.join(room);
  await keys.become({ online: true, socket: first.id, member: true }, userId, room);
  const second = await connect(t, url2, { userId });
  await second.join(room);
  await keys.become({ online: true, socket: second.id, member: true }, userId, room);
  second.close();
  await keys.become({ online: true, socket: first.id, member: true }, userId, room);
  first.close();
  await keys.become({ online: false, socket: null, member: false }, userId, room);
});

test("the older of two devices leaves, also on the same node, and the keys keep naming the newer", async (t) => {
  const room = unique("room");
  const userId = unique("user");
  const [first, second] = [await connect(t, url, { userId }), await connect(t, url, { userId })];
  await first.join(room);
  await second.join(room);
  await first.ok("leave", room);
  assert.deepEqual(await keys.members(room), [userId], "the other device is still a member");
  const fence = await connect(t, url);
  await fence.join(room);
  first.close();
  await fence.ok("leave", room);
  await keys.become({ online: true, socket: second.id, member: true }, userId, room);
});

test("joins and leaves are told to the members on all nodes", async (t) => {
  const room = unique("room");
  const members = await everywhere(t, cluster, room);
  const late = await connect(t, url);
  await late.join(room);
  for (const member of members) {
    const update = await member.presence("the join", room, ({ joined }) => joined?.includes(late.userId));
    assert.deepEqual([update.count, update.left], [4, []]);
    assert.ok(update.prev < update.seq && update.epoch !== "", JSON.stringify(update));
  }
  await late.ok("leave", room);
  for (const member of members) {
    const update = await member.presence("the leave", room, ({ left }) => left?.includes(late.userId));
    assert.deepEqual([update.count, update.joined], [3, []]);
  }
  members[0].close();
  for (const member of members.slice(1)) {
    const update = await member.presence("the disconnect", room, ({ left }) => left?.includes(members[0].userId));
    assert.equal(update.count, 2);
    const seqs = member.events.items.filter(([name, u]) => name === "presence" && u.room === room && u.joined).map(([, u]) => u.seq);
    assert.deepEqual(seqs, [...new Set(seqs)].sort((a, b) => a - b), "sequence numbers must rise");
  }
});

test("a second device of a member is no news to the room", async (t) => {
  const room = unique("room");
  const userId = unique("user");
  const watcher = await connect(t, url);
  await watcher.join(room);
  const first = await connect(t, url, { userId });
  await first.join(room);
  const second = await connect(t, url2, { userId });
  await second.join(room);
  second.close();
  const fence = await connect(t, url2);
  await fence.join(room);
  await watcher.presence("the fence", room, ({ joined }) => joined?.includes(fence.userId));
  const named = watcher.events.items.filter(([name, u]) => name === "presence" && u.room === room && [...(u.joined ?? []), ...(u.left ?? [])].includes(userId));
  assert.equal(named.length, 1, `the user joined once: ${JSON.stringify(named)}`);
});

test("presence of a room is answered to members only", async (t) => {
  const room = unique("room");
  const members = await everywhere(t, cluster, room);
  for (const member of members) {
    // A node reads through its cache, and may hear a moment later than the client that another node has changed the room.
    const answer = await eventually("all three to be known", async () => {
      const now = await member.ok("presence", room);
      return now.count === 3 && now;
    });
    assert.deepEqual(answer.users, members.map((m) => m.userId).sort());
    assert.deepEqual([typeof answer.seq, typeof answer.epoch], ["number", "string"]);
  }
  const stranger = await connect(t, url);
  await stranger.fails("room_unknown", "presence", room);
});

test("presence of users tells who is online, on whatever node", async (t) => {
  const [asking, there] = [await connect(t, url), await connect(t, url2)];
  const nobody = unique("nobody");
  for (const client of [asking, there]) await keys.become({ online: true, socket: client.id }, client.userId);
  const answer = await asking.ok("presence", [asking.userId, nobody, there.userId]);
  assert.deepEqual(answer.online, [asking.userId, there.userId], "those that are online, in the order asked");
  assert.deepEqual((await asking.ok("presence", [])).online, []);
  await asking.fails("payload_invalid", "presence", [1]);
});

test("user ids that cannot be part of a key are refused at the handshake", async (t) => {
  for (const userId of ["a{b", "a\u0000b", "u".repeat(256)]) {
    await assert.rejects(connect(t, url, { userId }), /connect_error/);
  }
});

test("a node that is told to stop takes its users with it, and only them", async (t) => {
  const room = unique("room");
  const node = await cluster.add();
  const leaving = [await connect(t, node.url), await connect(t, node.url)];
  const stays = await connect(t, url);
  for (const client of [...leaving, stays]) await client.join(room);
  node.child.signal("SIGTERM");
  const { code } = await node.child.ended();
  assert.equal(code, 0, node.child.log());
  for (const client of leaving) assert.deepEqual(await keys.of(client.userId, room), { online: false, socket: null, member: false });
  assert.deepEqual(await keys.of(stays.userId, room), { online: true, socket: stays.id, member: true });
  const update = await stays.presence("both leaves", room, ({ count }) => count === 1);
  assert.equal(update.room, room);
});

test("when all nodes have stopped, nothing of theirs is left in Redis", async (t) => {
  const own = await Cluster.start(2);
  const read = await Keys.open(own.redis.url);
  t.after(async () => {
    await read.close();
    await own.stop();
  });
  const userId = unique("user");
  const clients = await Promise.all([...own.urls, ...own.urls].map((u, i) => connect(t, u, i < 2 ? { userId } : {})));
  await Promise.all(clients.map((client) => client.join("r1")));
  assert.equal((await read.members("r1")).length, 3);
  for (const node of own.nodes) node.child.signal("SIGTERM");
  for (const node of own.nodes) assert.equal((await node.child.ended()).code, 0, node.child.log());
  await read.nothingLeft();
});
