// Redis that goes away, comes back empty, or is not there yet.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, everywhere } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster, Edge, Redis } from "../lib/process.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

const cluster = await Cluster.start(2);
after(() => cluster.stop());

// SOON is when a node must have noticed that Redis is silent, which takes it 3 s, on a machine that does other things, too.
const SOON = 8_000;

// readyAgain waits until every node of the cluster is ready.
const readyAgain = (of = cluster) => Promise.all(of.nodes.map((node) => node.ready()));

test("without recovery a node outlives the loss of Redis, its clients stay, and all is right again afterwards", async (t) => {
  const cluster = await Cluster.start(2, { RECOVERY: "off" });
  t.after(() => cluster.stop());
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const left = await connect(t, cluster.urls[0]);
  await left.join(room);
  await clients[0].ok("message", room, "before");
  for (const client of clients) await client.message(room, (text) => text === "before");

  await cluster.redis.down();
  for (const node of cluster.nodes) await node.readinessIs(503, { deadline: SOON });
  left.close(); // while Redis cannot be told
  const refused = await clients[0].request("message", room, "into the void");
  assert.equal(refused.ok, false, "a message that Redis did not accept was acknowledged");
  assert.ok(["unavailable", "queue_full"].includes(refused.code), JSON.stringify(refused));

  await cluster.redis.up(); // empty
  await readyAgain(cluster);
  const keys = await Keys.open(cluster.redis.url);
  t.after(() => keys.close());
  for (const client of clients) await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
  await keys.become({ online: false, socket: null, member: false }, left.userId, room);
  for (const [i, sender] of clients.entries()) {
    await sender.ok("message", room, `after ${i}`);
    for (const client of clients) await client.message(room, (text) => text === `after ${i}`);
  }
  for (const client of clients) {
    assert.deepEqual(client.lifecycle.items.map(([what]) => what), ["connect"], "a client was disconnected");
    const texts = client.messages(room).map(([, text]) => text);
    assert.deepEqual(texts, [...new Set(texts)], "a message came twice");
  }
  for (const node of cluster.nodes) assert.equal(node.child.exit, null, node.child.log());
});

test("rooms joined after the return of Redis work, and disconnects are stored", async (t) => {
  await cluster.redis.down();
  for (const node of cluster.nodes) await node.readinessIs(503);
  await cluster.redis.up();
  await readyAgain();
  const keys = await Keys.open(cluster.redis.url);
  t.after(() => keys.close());
  const room = unique("room");
  const [a, b] = await everywhere(t, cluster, room);
  await a.ok("message", room, "x");
  await b.message(room);
  // A leave right behind its join would be no news, but to those who were answered in between.
  await eventually("both to be known", async () => (await a.ok("presence", room)).count === 2); // it is read through a cache
  b.close();
  await keys.become({ online: false, socket: null, member: false }, b.userId, room);
  await a.presence("the leave", room, ({ left }) => left?.includes(b.userId));
});

test("a Redis that hangs makes its nodes unready, and nothing else", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  cluster.redis.child.signal("SIGSTOP");
  try {
    for (const node of cluster.nodes) await node.readinessIs(503, { deadline: SOON });
    const refused = await clients[0].request("message", room, "into the void");
    if (!refused.ok) assert.ok(["unavailable", "queue_full"].includes(refused.code), JSON.stringify(refused));
  } finally {
    cluster.redis.child.signal("SIGCONT");
  }
  await readyAgain();
  for (const [i, sender] of clients.entries()) {
    await sender.ok("message", room, `after ${i}`);
    for (const client of clients) await client.message(room, (text) => text === `after ${i}`);
  }
  const keys = await Keys.open(cluster.redis.url);
  t.after(() => keys.close());
  for (const client of clients) {
    await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
    assert.deepEqual(client.lifecycle.items.map(([what]) => what), ["connect"], "a client was disconnected");
    const texts = client.messages(room).map(([, text]) => text);
    assert.deepEqual(texts, [...new Set(texts)], "a message came twice");
  }
});

test("a Pub/Sub connection that is cut is made again, also for rooms", async (t) => {
  const room = unique("room");
  const clients = await everywhere(t, cluster, room);
  const keys = await Keys.open(cluster.redis.url);
  t.after(() => keys.close());
  await keys.redis.sendCommand(["CLIENT", "KILL", "TYPE", "pubsub"]);
  await eventually("messages to flow again", async () => {
    const text = unique("text");
    await clients[0].request("message", room, text);
    const arrived = (client) => client.messages(room).some(([, got]) => got === text);
    await clients[1].ok("presence", room); // a round trip behind the message
    return clients.every(arrived);
  });
  await readyAgain();
  for (const client of clients) assert.equal(client.socket.connected, true);
});

test("a node started without its Redis waits for it, says so once, and becomes ready", async (t) => {
  const redis = await Redis.reserve();
  const edge = await Edge.start({ AUTH: "none", REDIS_URL: redis.url, LOG_FORMAT: "json" }, { waitReady: false });
  t.after(async () => {
    await edge.stop();
    await redis.down();
  });
  await edge.readinessIs(503);
  const complaints = () => edge.child.lines.map((line) => JSON.parse(line)).filter(({ level }) => level === "WARN" || level === "ERROR");
  await eventually("a log line that says what is missing", () => complaints().length > 0, { detail: () => edge.child.log() });
  const answer = await edge.readiness();
  assert.notEqual(JSON.parse(answer.text).missing ?? "", "", answer.text);
  let asked = 0;
  await eventually("the node to have stayed up through 50 looks at it", async () => {
    assert.equal((await edge.readiness()).status, 503);
    return ++asked === 50;
  });
  assert.equal(complaints().length, 1, edge.child.log());
  assert.match(JSON.stringify(complaints()[0]), /redis/i);
  assert.match(JSON.stringify(complaints()[0]), new RegExp(`:${redis.port}`), "the line does not say where Redis was looked for");
  await redis.up();
  await edge.ready();
  const room = unique("room");
  const client = await connect(t, edge.url);
  await client.join(room);
  await client.ok("message", room, "x");
  await client.message(room);
});

test("a client that connects and joins while Redis is away is served when it is back", async (t) => {
  const room = unique("room");
  await cluster.redis.down();
  for (const node of cluster.nodes) await node.readinessIs(503);
  const client = await connect(t, cluster.urls[0], { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
  client.socket.emit("join", room);
  await cluster.redis.up();
  await readyAgain();
  // It was connected without a session, and nobody can tell whether it missed something: it is sent to get one.
  await within("the client to come back", client.connected(2));
  await client.join(room);
  const keys = await Keys.open(cluster.redis.url);
  t.after(() => keys.close());
  await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
  const other = await connect(t, cluster.urls[1]);
  await other.join(room);
  await other.ok("message", room, "x");
  await client.message(room);
});
