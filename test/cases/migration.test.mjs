// Moving a running audience from a Node.js server to edges, as docs/migration.md says it.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { drain } from "../fixtures/drain.mjs";
import { Peer } from "../fixtures/node-server.mjs";
import { balancer } from "../lib/balancer.mjs";
import { connect } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

const run = promisify(execFile);
const cluster = await Cluster.start(1, { SUBSCRIPTIONS: "pattern" });
const [edge] = cluster.nodes;
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});

test("a drained Node server's clients come back on the edge, without a word from the application", async (t) => {
  const peer = await Peer.start({ redisURL: cluster.redis.url, port: 0 });
  const addresses = [new URL(peer.url).host, edge.address];
  const url = await balancer(t, addresses);
  const room = unique("room");
  const back = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };
  const clients = await Promise.all(Array.from({ length: 8 }, (_, i) => connect(t, url, { ...back, transports: i % 2 ? ["websocket"] : undefined })));
  for (const client of clients) {
    client.socket.on("connect", () => client.socket.emit("join", room)); // also after every reconnect
    await client.join(room);
  }
  // Both serve one audience.
  const early = await connect(t, edge.url);
  await early.join(room);
  await early.ok("message", room, "from the edge");
  for (const client of clients) await client.message(room, (text) => text === "from the edge");
  await clients[0].ok("message", room, "from Node");
  await early.message(room, (text) => text === "from Node");

  addresses.shift(); // the balancer sends new connections to the edge alone
  await within("the drain", drain(peer.io));
  for (const client of clients) {
    await client.connected(2);
    assert.deepEqual(client.lifecycle.items[1], ["disconnect", "transport close"]);
  }
  await peer.close();
  await keys.membersBecome(room, [early, ...clients].map((client) => client.userId));
  await early.ok("message", room, "after");
  for (const client of clients) await client.message(room, (text) => text === "after");
  for (const client of clients) await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
});

test("afterwards, what Node servers left behind is found and removed, and what they took is stored again", async (t) => {
  const room = unique("room with a space");
  const clients = await Promise.all([connect(t, edge.url), connect(t, edge.url)]);
  for (const client of clients) await client.join(room);
  const [one, two] = clients.map((client) => client.userId);
  // Who left with the last case is gone: of a user who is just leaving the set may be read before, and the holders after.
  await eventually("nobody else to be online", async () => (await keys.redis.sMembers("presence:online")).sort().join() === [one, two].sort().join());
  // A Node server that was killed, and one that knew nothing of a user's other device.
  await keys.redis.sAdd("presence:online", "ghost of a user");
  await keys.redis.sAdd(`room:${room}:users`, "ghost of a user");
  await keys.redis.sAdd("room:empty:users", "ghost of a user");
  await keys.redis.sRem("presence:online", one);
  await keys.redis.sRem(`room:${room}:users`, two);
  await keys.redis.del(`user:${one}:socket`);

  const ghosts = ["presence:online ghost of a user", `room:${room}:users ghost of a user`, "room:empty:users ghost of a user"].sort();
  const unheld = async (...args) => {
    const script = fileURLToPath(new URL("../fixtures/unheld.sh", import.meta.url));
    const { stdout } = await run("bash", [script, ...args], { env: { PATH: process.env.PATH, REDIS_URL: cluster.redis.url } });
    return stdout.split("\n").filter(Boolean).sort();
  };
  assert.deepEqual(await unheld(), ghosts);
  assert.deepEqual(await unheld("--remove"), ghosts);
  assert.deepEqual(await unheld(), []);

  const list = await keys.redis.sendCommand(["CLIENT", "LIST"]);
  const ids = [...list.matchAll(/^id=(\d+) .* name=edge-\S+-cmd /gm)].map(([, id]) => id);
  assert.equal(ids.length, 1, list);
  for (const id of ids) await keys.redis.sendCommand(["CLIENT", "KILL", "ID", id]);
  for (const client of clients) await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
  await keys.membersBecome(room, [one, two]);
  assert.deepEqual(clients.map(({ lifecycle }) => lifecycle.items.length), [1, 1]); // nobody was disconnected
});

// Everything that the document quotes from a file is that file.
test("docs/migration.md quotes the fixtures as they are", () => {
  const document = readFileSync(new URL("../../docs/migration.md", import.meta.url), "utf8");
  const quotes = [...document.matchAll(/^<!-- (test\/fixtures\/\S+) -->\n```\w+\n(.*?)^```$/gms)];
  assert.deepEqual(quotes.map(([, path]) => path).sort(), ["backend.mjs", "drain.mjs", "unheld.sh"].map((name) => `test/fixtures/${name}`));
  for (const [, path, quote] of quotes) assert.equal(quote, readFileSync(new URL(`../../${path}`, import.meta.url), "utf8"), path);
});
