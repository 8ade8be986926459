// What other programs publish on the adapter's channels. (A Node.js server would not survive all of it.)
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connected } from "../fixtures/node-server.mjs";
import { everywhere } from "../lib/client.mjs";
import { Cluster } from "../lib/process.mjs";
import { unique } from "../lib/wait.mjs";

const cluster = await Cluster.start(2);
const redis = await connected(cluster.redis.url);
after(async () => {
  await redis.disconnect();
  await cluster.stop();
});

const payloads = {
  "no content": "",
  text: "x",
  "JSON cut off": "{",
  "an empty object": "{}",
  "an empty array": "[]",
  "a request that is null": "null",
  "a request without id": '{"type":1}',
  "a request of an unknown type": '{"uid":"u","type":99,"requestId":"x"}',
  "a request with options of another kind": '{"uid":"u","type":5,"requestId":"x","opts":null}',
  "a request with rooms of another kind": '{"uid":"u","type":2,"opts":{"rooms":7,"except":{}},"rooms":"x"}',
  "a MessagePack array cut off": "\u0093",
  "a MessagePack map": "\u0081\u00a1a\u0001",
  "an array said to have 2^32 elements": "\u00dd\u00ff\u00ff\u00ff\u00ff",
  "nested arrays without end": "\u0091".repeat(100_000),
  "bytes that MessagePack never uses": "\u00c1",
  "an answer to nothing": '{"type":8,"requestId":"x","clientCount":-1}',
};
for (const [what, payload] of Object.entries(payloads)) {
  test(`${what} on any channel closes nobody`, async (t) => {
    const room = unique("room");
    const clients = await everywhere(t, cluster, room);
    const channels = ["socket.io#/#", `socket.io#/#${room}#`, `socket.io#/#${clients[0].id}#`, "socket.io-request#/#", "socket.io-response#/#", "socket.io#/", `{room:${room}:users}:ev`];
    for (const channel of channels) await redis.publish(channel, Buffer.from(payload, "latin1"));
    await clients[0].ok("message", room, "after");
    for (const client of clients) {
      await client.message(room, (text) => text === "after");
      assert.deepEqual(client.lifecycle.items.map(([event]) => event), ["connect"]);
    }
  });
}
