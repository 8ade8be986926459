// The backend of docs/migration.md, as a process of its own, beside edges and a Node.js server.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { connected, Peer } from "../fixtures/node-server.mjs";
import { connect } from "../lib/client.mjs";
import { Child, Cluster } from "../lib/process.mjs";
import { eventually, unique } from "../lib/wait.mjs";

const program = fileURLToPath(new URL("../fixtures/backend.mjs", import.meta.url));
const cluster = await Cluster.start(2);
const peer = await Peer.start({ redisURL: cluster.redis.url, port: 0 });
const redis = await connected(cluster.redis.url);
const backend = new Child("backend", process.execPath, [program], { REDIS_URL: cluster.redis.url });
await eventually("the backend to listen", () => backend.lines.includes("listening"), { detail: () => backend.log() });
after(async () => {
  await redis.disconnect();
  await backend.stop();
  await peer.close();
  await cluster.stop();
});
const urls = [...cluster.urls, peer.url];

test("it answers what clients of any server ask, to all members on all servers", async (t) => {
  const room = unique("room");
  const clients = await Promise.all(urls.map((url) => connect(t, url)));
  for (const client of clients) await client.join(room);
  for (const [i, asking] of clients.entries()) {
    asking.socket.emit("message", room, { text: "!count" });
    for (const client of clients) {
      const answers = await client.events.count("answer", i + 1, ([event, r, meta]) => event === "message" && r === room && meta.from === "backend");
      assert.deepEqual(answers.at(-1).slice(3), [{ text: "3 users are here" }]);
    }
  }
});

test("it answers one user alone", async (t) => {
  const room = unique("room");
  const [asking, other] = await Promise.all(cluster.urls.map((url) => connect(t, url)));
  for (const client of [asking, other]) await client.join(room);
  await asking.ok("message", room, { text: "!me" });
  const [, notice] = await asking.events.wait("notice", ([event]) => event === "notice");
  assert.deepEqual({ ...notice, age: 0 }, { user: asking.userId, room, age: 0 });
  await asking.ok("message", room, { text: "!count" }); // the answer to this comes after
  await other.message(room, (value) => value.text === "2 users are here");
  assert.ok(!other.events.items.some(([event]) => event === "notice"));
});

test("a hundred questions are answered in their order", async (t) => {
  const room = unique("room");
  const client = await connect(t, cluster.urls[0]);
  await client.join(room);
  for (let i = 0; i < 100; i++) client.socket.emit("message", room, { text: i % 2 ? "!me" : "!count" });
  const answers = await client.events.count("answer", 100, ([event, , meta]) => event === "notice" || meta?.from === "backend");
  assert.deepEqual(answers.map(([event]) => event), Array.from({ length: 100 }, (_, i) => (i % 2 ? "notice" : "message")));
});

test("what is no message of a client does not disturb it", async (t) => {
  const room = unique("room");
  const client = await connect(t, cluster.urls[0]);
  await client.join(room);
  for (const payload of ["", "x", "{}", "\u0090", "\u0093\u00c0\u00c0\u00c0", "\u0081\u00a1a\u0001", "\u00c1"]) {
    await redis.publish(`socket.io#/#${room}#`, Buffer.from(payload, "latin1"));
  }
  await client.ok("message", room, null);
  await client.ok("message", room, "!count", Buffer.from("!count"));
  await client.ok("message", room, { text: "!count" });
  await client.message(room, (value) => value?.text === "1 users are here");
  assert.equal(backend.exit, null, backend.log());
});

test("no server waits for it", async () => {
  // As many servers as there are, without it: two edges and the Node.js server.
  assert.deepEqual({ ...(await redis.pubSubNumSub(["socket.io-request#/#"])) }, { "socket.io-request#/#": 3 });
  // Answered in time; the client of the test before may be seen for a moment.
  await eventually("no socket to be left", async () => (await peer.io.fetchSockets()).length === 0);
});

test("it ends when told to", async () => {
  backend.signal("SIGTERM");
  assert.deepEqual(await backend.ended(), { code: 0, signal: null }, backend.log());
});
