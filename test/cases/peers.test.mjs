// Edges beside a Node.js server and an emitter on one Redis, in both modes of SUBSCRIPTIONS.
import { Emitter } from "@socket.io/redis-emitter";
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connected, Peer } from "../fixtures/node-server.mjs";
import { connect, everywhere } from "../lib/client.mjs";
import { Cluster } from "../lib/process.mjs";
import { DEADLINE, eventually, Inbox, unique, within } from "../lib/wait.mjs";

const cluster = await Cluster.start(2);
const exact = cluster.env.SUBSCRIPTIONS === "exact";
const peer = await Peer.start({ redisURL: cluster.redis.url, port: 0 });
const { io } = peer;
const emitting = await connected(cluster.redis.url);
const emitter = new Emitter(emitting);
after(async () => {
  await emitting.disconnect();
  await peer.close();
  await cluster.stop();
});
// The peer's own clients take part as one more node.
const fleet = { urls: [...cluster.urls, peer.url] };

// got waits for an event of a name of its own and returns its arguments.
async function got(client, name) {
  const [, ...args] = await client.events.wait(`${name} at ${client.userId}`, ([what]) => what === name);
  return args;
}

const names = (client) => client.events.items.map(([name]) => name);

for (const [who, target] of [
  ["the Node server", io],
  ["the emitter", emitter],
]) {
  test(`${who} reaches everybody`, async (t) => {
    const name = unique("event");
    const clients = await Promise.all(cluster.urls.map((url) => connect(t, url)));
    target.emit(name, "hello", 1, { a: [1.5, null, true] });
    for (const client of clients) assert.deepEqual(await got(client, name), ["hello", 1, { a: [1.5, null, true] }]);
  });

  test(`${who} reaches the members of a room, and only them`, async (t) => {
    const [room, name, fence] = [unique("room"), unique("event"), unique("fence")];
    const members = await everywhere(t, cluster, room);
    const stranger = await connect(t, cluster.urls[0]);
    target.to(room).emit(name, "for members");
    target.emit(fence);
    for (const client of members) assert.deepEqual(await got(client, name), ["for members"]);
    await got(stranger, fence);
    assert.deepEqual(names(stranger), [fence]);
  });

  test(`${who} reaches members of several rooms once`, async (t) => {
    const [one, two, name, fence] = [unique("room"), unique("room"), unique("event"), unique("fence")];
    const clients = await everywhere(t, cluster, one);
    await clients[0].join(two);
    target.to([one, two]).emit(name);
    target.to(one).emit(fence);
    for (const client of clients) {
      await got(client, fence);
      assert.equal(names(client).filter((n) => n === name).length, 1);
    }
  });

  test(`${who} leaves out whom it excepts`, async (t) => {
    const [room, quiet, name, fence] = [unique("room"), unique("room"), unique("event"), unique("fence")];
    const [first, second] = await everywhere(t, cluster, room);
    const third = await connect(t, cluster.urls[1]);
    await third.join(room);
    await second.join(quiet);
    target.to(room).except([first.id, quiet]).emit(name);
    target.to(room).emit(fence);
    await got(third, name);
    for (const client of [first, second]) {
      await got(client, fence);
      assert.ok(!names(client).includes(name), `${client.userId} was excepted`);
    }
  });

  test(`${who} reaches one socket by its id`, async (t) => {
    const [name, fence] = [unique("event"), unique("fence")];
    const [first, second] = await Promise.all(cluster.urls.map((url) => connect(t, url)));
    target.to(first.id).emit(name, "only you");
    target.emit(fence);
    assert.deepEqual(await got(first, name), ["only you"]);
    await got(second, fence);
    assert.ok(!names(second).includes(name));
  });

  test(`${who} sends binary, dates and every kind of text`, async (t) => {
    const [room, name] = [unique("room"), unique("event")];
    const clients = await everywhere(t, cluster, room);
    const date = new Date(1_700_000_000_123);
    target.to(room).emit(name, Buffer.from([0, 1, 255]), { deep: [Buffer.from("x")], when: date }, date, "😀 \u2028 é", -0, 2 ** 53 - 1, -(2 ** 31) - 1, 0.1, undefined);
    for (const client of clients) {
      const iso = date.toISOString();
      assert.deepEqual(await got(client, name), [Buffer.from([0, 1, 255]), { deep: [Buffer.from("x")], when: iso }, iso, "😀 \u2028 é", 0, 2 ** 53 - 1, -(2 ** 31) - 1, 0.1, null]);
    }
  });

  test(`${who} sends volatile events to clients that can take them`, async (t) => {
    const [room, name] = [unique("room"), unique("event")];
    const clients = await everywhere(t, cluster, room);
    await eventually("a volatile event to arrive everywhere", () => {
      target.to(room).volatile.emit(name);
      return clients.every((client) => names(client).includes(name));
    });
  });

  test(`${who} sends what clients could not take: eleven attachments`, async (t) => {
    const [room, name, fence] = [unique("room"), unique("event"), unique("fence")];
    const clients = await everywhere(t, cluster, room);
    target.to(room).emit(name, ...Array.from({ length: 11 }, () => Buffer.from("x")));
    target.to(room).emit(fence);
    for (const client of clients) {
      await got(client, fence);
      assert.ok(!names(client).includes(name));
      assert.equal(client.socket.connected, true);
    }
  });

  test(`${who} moves and disconnects sockets of edges`, async (t) => {
    const [room, other, name] = [unique("room"), unique("room"), unique("event")];
    const clients = await everywhere(t, cluster, room);
    target.in(room).socketsJoin(other);
    if (exact) {
      // The edge's subscription to the room follows the request, so the first events may come too early.
      await eventually("an event of the new room to arrive", () => {
        target.to(other).emit(name);
        return clients.every((client) => names(client).includes(name));
      });
    } else {
      target.to(other).emit(name);
      for (const client of clients) await got(client, name);
    }
    const [gone, fence] = [unique("gone"), unique("fence")];
    target.in(room).socketsLeave(other);
    // The request and the event take different channels: the answer of fetchSockets lies behind the first.
    await within("the sockets to have left", eventually("the room to be empty", async () => (await io.in(other).fetchSockets()).length === 0));
    target.to(other).emit(gone);
    target.to(room).emit(fence);
    for (const client of clients) {
      await got(client, fence);
      assert.ok(!names(client).includes(gone));
    }
    target.in(clients[0].id).disconnectSockets();
    assert.equal(await clients[0].disconnected(), "io server disconnect");
    target.in(room).disconnectSockets(true);
    assert.match(await clients[1].disconnected(), /^(io server disconnect|transport close)$/);
    await eventually("the room to be empty", async () => (await io.in(room).fetchSockets()).length === 0);
  });
}

test("messages of edge clients reach the room's members on the Node server, and the other way", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, fleet, room);
  for (const [i, sender] of clients.entries()) {
    const value = { n: i, bytes: Buffer.from([i, 255]), text: "😀", list: [1.5, null] };
    await sender.ok("message", room, i, value);
    for (const client of clients) {
      const [, meta, , got] = await client.message(room, (n) => n === i);
      assert.equal(meta.from, sender.userId);
      assert.deepEqual(got, value);
    }
  }
  for (const client of clients) assert.equal(client.messages(room).length, clients.length, "a message came twice");
});

test("500 messages of an edge client reach the Node server's clients in order", async (t) => {
  const room = unique("room");
  const [sender, , there] = await everywhere(t, fleet, room);
  for (let i = 0; i < 500; i++) sender.socket.emit("message", room, i);
  const messages = await there.allMessages(room, 500);
  assert.deepEqual(messages.map(([, i]) => i), [...Array(500).keys()]);
});

test("500 events of the Node server reach edge clients in order", async (t) => {
  const [room, name] = [unique("room"), unique("event")];
  const clients = await everywhere(t, cluster, room);
  for (let i = 0; i < 500; i++) io.to(room).emit(name, i);
  for (const client of clients) {
    const events = await client.events.count(name, 500, ([what]) => what === name);
    assert.deepEqual(events.map(([, i]) => i), [...Array(500).keys()]);
  }
});

test("fetchSockets finds the sockets of edges", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, fleet, room);
  const found = await io.in(room).fetchSockets();
  assert.deepEqual(found.map(({ id }) => id).sort(), clients.map(({ id }) => id).sort());
  for (const client of clients) {
    const { rooms, handshake, data } = found.find(({ id }) => id === client.id);
    assert.ok(rooms.has(room) && rooms.has(client.id), `rooms: ${[...rooms]}`);
    assert.equal(data.user, client.userId);
    assert.equal(typeof handshake.address, "string");
    assert.equal(handshake.query.transport, "websocket");
    assert.equal(handshake.auth.userId, client.userId);
  }
  assert.deepEqual(await io.in(unique("nobody")).fetchSockets(), []);
  const rest = await io.in(room).except(clients[0].id).fetchSockets();
  assert.ok(!rest.some(({ id }) => id === clients[0].id));
});

test("a socket found by fetchSockets can be sent to and moved", async (t) => {
  const [room, other, name] = [unique("room"), unique("room"), unique("event")];
  const [client] = await everywhere(t, cluster, room);
  const [remote] = (await io.in(room).fetchSockets()).filter(({ id }) => id === client.id);
  remote.emit(name, "direct");
  assert.deepEqual(await got(client, name), ["direct"]);
  remote.join(other);
  await eventually("the socket to be in the other room", async () => (await io.in(other).fetchSockets()).length === 1);
  remote.disconnect();
  assert.equal(await client.disconnected(), "io server disconnect");
});

test("allRooms knows the rooms of edges", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, fleet, room);
  const rooms = await io.of("/").adapter.allRooms();
  for (const want of [room, ...clients.map(({ id }) => id)]) assert.ok(rooms.has(want), `${want} is missing`);
});

test("requests of older adapters are answered: socket ids of rooms, and one socket by its id", async (t) => {
  const [room, other] = [unique("room"), unique("room")];
  const clients = await everywhere(t, cluster, room);
  const answers = new Inbox();
  const listening = await connected(cluster.redis.url);
  t.after(() => listening.disconnect());
  await listening.subscribe("socket.io-response#/#", (text) => text.startsWith("{") && answers.push(JSON.parse(text)));
  const ask = (request) => emitting.publish("socket.io-request#/#", JSON.stringify({ uid: "older1", ...request }));

  const sockets = unique("request");
  await ask({ requestId: sockets, type: 0, rooms: [room] });
  const found = await answers.until("the socket ids of both edges", () => {
    const ids = answers.items.filter((a) => a.requestId === sockets).flatMap((a) => a.sockets);
    return ids.length >= 2 ? ids : undefined;
  });
  assert.deepEqual(found.sort(), clients.map(({ id }) => id).sort());

  for (const [type, request, size] of [
    [2, { room: other }, 1],
    [3, { room: other }, 0],
    [4, { close: false }, 0],
  ]) {
    const requestId = unique("request");
    await ask({ requestId, type, sid: clients[1].id, ...request });
    await answers.wait(`the owner's answer to a request of type ${type}`, (a) => a.requestId === requestId);
    await eventually(`${size} sockets in the room`, async () => (await io.in(other).fetchSockets()).length === size);
  }
  assert.equal(await clients[1].disconnected(), "io server disconnect");
});

test("the emitter's socketsJoin can be undone by the Node server", async (t) => {
  const [room, other] = [unique("room"), unique("room")];
  await everywhere(t, cluster, room);
  emitter.in(room).socketsJoin([other, unique("third")]);
  await eventually("the sockets to have joined", async () => (await io.in(other).fetchSockets()).length === 2);
  io.in(room).socketsLeave(other);
  await eventually("the sockets to have left", async () => (await io.in(other).fetchSockets()).length === 0);
});

// asked collects the acknowledgements of a broadcast. The adapter keeps a timer for as long as it may take, so that only a
// second try, on a busy machine, gets all the time.
const asked = (target, ...event) => target.timeout(3_000).emitWithAck(...event).catch(() => target.timeout(DEADLINE).emitWithAck(...event));

test("a broadcast with acknowledgements collects those of edge clients", async (t) => {
  const [room, name] = [unique("room"), unique("event")];
  const clients = await everywhere(t, fleet, room);
  for (const client of clients) client.socket.on(name, (value, ack) => ack({ from: client.userId, value, bytes: Buffer.from([7]) }, "second"));
  const answers = await asked(io.to(room), name, Buffer.from("q"));
  assert.deepEqual(answers.map(({ from }) => from).sort(), clients.map((c) => c.userId).sort());
  for (const { value, bytes } of answers) {
    assert.deepEqual(Buffer.from(value), Buffer.from("q"));
    assert.deepEqual(Buffer.from(bytes), Buffer.from([7]));
  }
});

test("a broadcast with acknowledgements to nobody is complete at once", async () => {
  assert.deepEqual(await asked(io.to(unique("nobody")), "x"), []);
});

test("a broadcast with acknowledgements that a client leaves out times out with the others' answers", async (t) => {
  const [room, name] = [unique("room"), unique("event")];
  const [answers, silent] = await everywhere(t, cluster, room);
  answers.socket.on(name, (ack) => ack("here"));
  silent.socket.on(name, () => {});
  // On a busy machine the one answer may need more than a second, too.
  let responses;
  for (const timeout of [1_000, DEADLINE]) {
    let error;
    [error, responses] = await new Promise((resolve) => io.to(room).timeout(timeout).emit(name, (...result) => resolve(result)));
    assert.ok(error instanceof Error);
    if (responses.length > 0) break;
  }
  assert.deepEqual(responses, ["here"]);
});

test("a broadcast to one edge socket with acknowledgement is answered by it", async (t) => {
  const name = unique("event");
  const client = await connect(t, cluster.urls[1]);
  client.socket.on(name, (ack) => ack());
  const answers = await asked(io.to(client.id), name);
  assert.equal(answers.length, 1);
});

test("serverSideEmit with acknowledgement is answered by every edge", async () => {
  const answers = await within("the answers to serverSideEmit", io.serverSideEmitWithAck("ping", 1, { a: 2 }));
  assert.deepEqual(answers, cluster.urls.map(() => null));
});

test("serverSideEmit without acknowledgement harms nobody", async (t) => {
  const [room, fence] = [unique("room"), unique("fence")];
  const clients = await everywhere(t, cluster, room);
  io.serverSideEmit("ping");
  emitter.serverSideEmit("ping", 1);
  io.to(room).emit(fence);
  for (const client of clients) await got(client, fence);
});

test("each edge is counted once, also after its Redis connections were cut", async () => {
  const channel = "socket.io-request#/#";
  const count = async () => (await emitting.sendCommand(["PUBSUB", "NUMSUB", channel]))[1];
  const subscribers = cluster.urls.length + 1;
  assert.equal(await count(), subscribers);
  for (const line of (await emitting.sendCommand(["CLIENT", "LIST", "TYPE", "pubsub"])).trim().split("\n")) {
    const [, id] = /\bid=(\d+)/.exec(line);
    await emitting.sendCommand(["CLIENT", "KILL", "ID", id]);
  }
  await eventually("all to have subscribed again", async () => (await count()) === subscribers);
  await Promise.all(cluster.nodes.map((node) => node.ready()));
  assert.equal(await count(), subscribers);
  await io.fetchSockets();
});

test("a node that has stopped is waited for no longer", async () => {
  const node = await cluster.add();
  assert.equal((await io.serverSideEmitWithAck("ping")).length, cluster.nodes.length);
  node.child.signal("SIGTERM");
  await node.child.ended();
  cluster.nodes.pop();
  assert.equal((await io.serverSideEmitWithAck("ping")).length, cluster.nodes.length);
  await io.fetchSockets();
});
