// Two hundred unmodified clients, which begin with long-polling and upgrade, while messages go both ways all the time.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { connect } from "../lib/client.mjs";
import { line } from "../lib/line.mjs";
import { Cluster } from "../lib/process.mjs";
import { unique, within } from "../lib/wait.mjs";

const cluster = await Cluster.start(1);
const [url] = cluster.urls;
after(() => cluster.stop());

const CHUNKS = 20;
const CLIENTS = 10; // of one chunk, which have a room of their own
const AFTER = 5; // messages that each client sends after its upgrade
const LATENCY = 40; // longest way, in milliseconds: so that upgrades take their time

const usesWebSocket = (client) => client.socket.io.engine.transport.name === "websocket";

// talk connects a client and lets it send numbers to the room until some time after its upgrade. It returns the client
// and how often it sent and had received by the time of its upgrade.
async function talk(t, room, far) {
  const client = await connect(t, far, { transports: undefined });
  const upgraded = new Promise((resolve) => (usesWebSocket(client) ? resolve() : client.socket.io.engine.once("upgrade", resolve)));
  const joined = client.join(room); // messages behind it wait for it
  const before = { sent: 0, received: 0 };
  for (let left = AFTER, i = 0; left > 0; i++) {
    client.socket.emit("message", room, i, i % 4 === 0 ? Buffer.from([i]) : "é😀");
    if (usesWebSocket(client)) left--;
    else Object.assign(before, { sent: i + 1, received: client.messages(room).length });
    await delay(5); // a rate, not a wait
  }
  await joined;
  await within("the upgrade", upgraded);
  await client.ok("message", room, "done"); // accepted by Redis, and with it all before it
  return { client, before };
}

test("nothing is lost, doubled or reordered while 200 clients connect, poll, upgrade and talk", async (t) => {
  const far = await line(t, cluster.nodes[0].address, LATENCY);
  const total = { sent: 0, received: 0 };
  for (let chunk = 0; chunk < CHUNKS; chunk++) {
    const room = unique("room");
    const feeder = await connect(t, url);
    await feeder.join(room);
    let feeding = true;
    const feed = (async () => {
      for (let i = 0; feeding; i++) {
        await feeder.ok("message", room, i);
        await delay(5);
      }
    })();
    const talkers = await Promise.all(Array.from({ length: CLIENTS }, () => talk(t, room, far)));
    feeding = false;
    await feed;
    await feeder.ok("message", room, "end");
    const members = talkers.map(({ client }) => client);
    for (const member of [feeder, ...members]) await member.message(room, (value) => value === "end");
    check(room, feeder, members);
    for (const { before } of talkers) {
      total.sent += before.sent;
      total.received += before.received;
    }
  }
  // Otherwise the test tried nothing.
  assert.ok(total.sent > CHUNKS * CLIENTS && total.received > CHUNKS * CLIENTS, `before the upgrades: ${JSON.stringify(total)}`);
  assert.equal(await cluster.nodes[0].metric('edge_conns{transport="polling"}'), 0);
  assert.equal(await cluster.nodes[0].metric('edge_conns{transport="websocket"}'), CHUNKS * (CLIENTS + 1));
});

// check compares what the members received. The feeder was there before all others, so its list must have everything in
// order, and every other list must be the end of it from that member's join on, its own messages included.
function check(room, feeder, members) {
  const all = feeder.messages(room);
  for (const sender of members) {
    const own = all.filter(([from]) => from === sender.userId).map(([, value]) => value);
    assert.deepEqual(own, [...own.keys()].slice(0, -1).concat("done"), `messages of ${sender.userId}`);
    assert.ok(own.length > AFTER);
  }
  for (const member of members) {
    const list = member.messages(room);
    const first = all.findIndex(([from]) => from === member.userId);
    assert.ok(list.length >= all.length - first, `${member.userId} lacks messages: has ${list.length} of the last ${all.length - first}`);
    assert.deepEqual(list, all.slice(-list.length), `what ${member.userId} received`);
    assert.deepEqual(member.lifecycle.items.map(([what]) => what), ["connect"]);
  }
}
