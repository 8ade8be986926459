// What the server's own timers do: heartbeat and connect timeout.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { raw } from "../lib/raw.mjs";
import { unique } from "../lib/wait.mjs";

// The next ping comes only after an answer, so that who gets several has answered, however much time it was given.
const cluster = await Cluster.start(1, { PING_INTERVAL: "200ms", PING_TIMEOUT: "2s", CONNECT_TIMEOUT: "1s", MAX_PAYLOAD: "2000" });
const [node] = cluster.nodes;
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});

test("the open packet tells the configured times and limit", async (t) => {
  const open = await (await raw(t, node.url)).handshake();
  assert.deepEqual({ ...open, sid: "" }, { sid: "", upgrades: [], pingInterval: 200, pingTimeout: 2000, maxPayload: 2000 });
});

test("a client that answers pings stays", async (t) => {
  const client = await connect(t, node.url);
  client.socket.io.on("ping", () => client.events.push(["ping"]));
  await client.events.count("ping", 5, ([what]) => what === "ping");
  await client.join(unique("room"));
  assert.equal(client.socket.connected, true);
});

test("a client that answers no ping is closed, and its presence ends", async (t) => {
  const strict = await cluster.add({ PING_INTERVAL: "100ms", PING_TIMEOUT: "500ms" });
  const room = unique("room");
  const userId = unique("user");
  const watcher = await connect(t, node.url);
  await watcher.join(room);
  const silent = await raw(t, strict.url);
  const answers = (data) => data.toString() === "2" && silent.send("3");
  silent.ws.on("message", answers); // until its presence was seen
  const id = await silent.connect({ userId });
  silent.send(`421["join",${JSON.stringify(room)}]`);
  await keys.become({ online: true, socket: id, member: true }, userId, room);
  silent.ws.off("message", answers);
  await silent.closeCode("the silent client to be closed");
  await keys.become({ online: false, socket: null, member: false }, userId, room);
  await watcher.presence("the leave of the silent client", room, ({ left }) => left?.includes(userId));
  assert.equal(watcher.socket.connected, true);
  assert.ok((await strict.metric('edge_closes_total{reason="ping_timeout"}')) >= 1);
  assert.ok(silent.frames.items.includes("2"), "closed without a ping");
});

test("a client that joins no namespace is closed", async (t) => {
  const idle = await raw(t, node.url);
  // It answers pings, so that only the connect timeout can end it.
  idle.ws.on("message", (data) => data.toString() === "2" && idle.send("3"));
  await idle.closeCode("the client without a namespace to be closed");
  assert.ok((await node.metric('edge_closes_total{reason="connect_timeout"}')) >= 1);
});

test("a client that has left its namespace again is not closed for that", async (t) => {
  const client = await raw(t, node.url);
  client.ws.on("message", (data) => data.toString() === "2" && client.send("3"));
  await client.connect({ userId: unique("user") });
  client.send("41");
  await client.frames.count("ping", 7, (f) => f === "2"); // 1.4 s, longer than the connect timeout
  client.send("40{}");
  await client.frames.count("CONNECT reply", 2, (f) => String(f).startsWith("40"));
});

test("MAX_PAYLOAD is the limit", async (t) => {
  const room = unique("room");
  const client = await raw(t, node.url);
  client.ws.on("message", (data) => data.toString() === "2" && client.send("3"));
  await client.connect({ userId: unique("user") });
  client.send(`421["join",${JSON.stringify(room)}]`);
  await client.frames.wait("the ack of the join", (f) => String(f).startsWith("431["));
  const message = `422["message",${JSON.stringify(room)},"`;
  client.send(`${message}${"x".repeat(2000 - message.length - 2)}"]`);
  await client.frames.wait("the ack of a message of exactly the limit", (f) => String(f).startsWith('432[{"ok":true'));
  client.send(`4${"x".repeat(2000)}`);
  assert.equal(await client.closeCode(), 1009);
});
