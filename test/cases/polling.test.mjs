// Unmodified clients as they come, long-polling first and then WebSocket, and those that can only poll.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { unique } from "../lib/wait.mjs";

const cluster = await Cluster.start(2);
const [url, elsewhere] = cluster.urls;
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});

const polling = { transports: ["polling"] };
const asTheyCome = { transports: undefined };

// uses waits until a client uses a transport.
async function uses(client, name) {
  const { engine } = client.socket.io;
  if (engine.transport.name !== name) await new Promise((resolve) => engine.once("upgrade", resolve));
  assert.equal(engine.transport.name, name);
}

test("a client with the default transports connects by polling and upgrades to WebSocket", async (t) => {
  const client = await connect(t, url, asTheyCome);
  await uses(client, "websocket");
  await client.join(unique("room"));
});

test("messages sent all the while arrive once and in order through the upgrade, both ways", async (t) => {
  const room = unique("room");
  const other = await connect(t, elsewhere);
  await other.join(room);
  const client = await connect(t, url, asTheyCome);
  await client.join(room);
  for (let i = 0; i < 100; i++) {
    client.socket.emit("message", room, "up", i, Buffer.from([i]));
    await other.ok("message", room, "down", i, Buffer.from([i]));
  }
  await uses(client, "websocket");
  for (const receiver of [client, other]) {
    const messages = await receiver.allMessages(room, 200);
    assert.equal(messages.length, 200);
    for (const way of ["up", "down"]) {
      assert.deepEqual(
        messages.filter(([, w]) => w === way).map(([, , i, bytes]) => [i, bytes]),
        Array.from({ length: 100 }, (_, i) => [i, Buffer.from([i])]),
      );
    }
  }
});

test("a client that only polls is a full member", async (t) => {
  const room = unique("room");
  const client = await connect(t, url, polling);
  const other = await connect(t, elsewhere);
  for (const c of [client, other]) await c.join(room);
  await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
  const value = { bytes: Buffer.from(Array.from({ length: 256 }, (_, i) => i)), text: "😀 \u001e é" };
  await client.ok("message", room, value);
  await other.ok("message", room, value);
  for (const receiver of [client, other]) {
    const messages = await receiver.allMessages(room, 2);
    assert.deepEqual(messages, [
      [client.userId, value],
      [other.userId, value],
    ]);
  }
  assert.equal(client.socket.io.engine.transport.name, "polling");
  client.close();
  await keys.become({ online: false, socket: null, member: false }, client.userId, room);
});

test("a node that stops sends polling clients away as well", async (t) => {
  const node = await cluster.add();
  const client = await connect(t, node.url, polling);
  node.child.signal("SIGTERM");
  assert.match(await client.disconnected(), /^transport (close|error)$/);
  assert.deepEqual(await node.child.ended(), { code: 0, signal: null }, node.child.log());
  await keys.become({ online: false, socket: null }, client.userId);
});
