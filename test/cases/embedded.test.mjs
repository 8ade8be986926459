// One command, no Redis: the edge as it starts without any configuration.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, everywhere } from "../lib/client.mjs";
import { Edge, portIsFree } from "../lib/process.mjs";
import { unique } from "../lib/wait.mjs";

// The default ports are tried if nobody else has them; otherwise the edge gets ports of its own.
const defaults = (await portIsFree(3000)) && (await portIsFree(9464));
const edge = await Edge.start(defaults ? { LISTEN_ADDR: undefined, ADMIN_ADDR: undefined } : {});
const node = { urls: [edge.url, edge.url, edge.url] };
after(() => edge.stop());

test("an edge without configuration serves clients on loopback and says that its Redis is its own", async (t) => {
  await connect(t, edge.url, { auth: {} });
  assert.match(edge.child.lines.join("\n"), /embedded|in-process/i);
});

test("messages reach all members, in order", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, node, room);
  for (let i = 0; i < 200; i++) clients[0].socket.emit("message", room, i, Buffer.from([i]));
  for (const client of clients) {
    const messages = await client.allMessages(room, 200);
    assert.deepEqual(messages, Array.from({ length: 200 }, (_, i) => [clients[0].userId, i, Buffer.from([i])]));
  }
});

test("a stranger may not send", async (t) => {
  const client = await connect(t, edge.url);
  await client.fails("room_unknown", "message", unique("room"), "x");
});

test("presence is told and answered", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, node, room);
  const users = clients.map((client) => client.userId).sort();
  // A leave right behind its join would be no news, but to those who were answered in between.
  const answer = await clients[0].ok("presence", room);
  assert.deepEqual([answer.count, [...answer.users].sort()], [3, users]);
  clients[2].close();
  const update = await clients[0].presence("the leave", room, ({ left }) => left?.includes(clients[2].userId));
  assert.equal(update.count, 2);
  const after = await clients[1].ok("presence", room);
  assert.deepEqual([...after.users].sort(), [clients[0].userId, clients[1].userId].sort());
});

test("it stops when told to", async (t) => {
  const client = await connect(t, edge.url);
  edge.child.signal("SIGTERM");
  assert.equal(await client.disconnected(), "transport close");
  assert.deepEqual(await edge.child.ended(), { code: 0, signal: null }, edge.child.log());
});
