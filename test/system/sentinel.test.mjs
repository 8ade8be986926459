// Sentinels that replace the master: one that lives, and one that was killed.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Edge } from "../lib/process.mjs";
import { Watched } from "../lib/sentinel.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

const watched = await Watched.start();
after(() => watched.stop());

// fleet starts two nodes, which are stopped when the test ends.
async function fleet(t, env) {
  const nodes = await Promise.all([1, 2].map(() => Edge.start({ AUTH: "none", REDIS_URL: watched.url, ...env })));
  t.after(() => Promise.all(nodes.map((node) => node.stop())));
  return nodes;
}

const named = (node) => node.child.lines.filter((line) => line.includes("the sentinels name the master")).length;

// followed waits until all nodes have left the old master and are ready.
async function followed(t, nodes, before, began) {
  for (const [i, node] of nodes.entries()) {
    await eventually("a node to follow the sentinels", () => named(node) > before[i], { deadline: 30_000, detail: () => node.child.log() });
    await node.readinessIs(200, { deadline: 30_000 });
  }
  t.diagnostic(`ready with the other master ${Date.now() - began} ms after the failover began`);
}

// exact checks the presence keys of clients in a room, on the master.
async function exact(t, master, clients, room) {
  const keys = await Keys.open(master.url);
  t.after(() => keys.close());
  for (const client of clients) await keys.become({ online: true, socket: client.id, member: true }, client.userId, room);
  await keys.membersBecome(room, clients.map(({ userId }) => userId));
}

async function talk(clients, room, text) {
  for (const [i, sender] of clients.entries()) {
    await sender.ok("message", room, `${text} ${i}`);
    for (const client of clients) await client.message(room, (got) => got === `${text} ${i}`);
  }
}

function noneTwice(clients, room) {
  for (const client of clients) {
    const texts = client.messages(room).map(([, text]) => text);
    assert.deepEqual(texts, [...new Set(texts)], "a message came twice");
  }
}

for (const [how, kill] of [["SENTINEL FAILOVER", false], ["kill -9 of the master", true]]) {
  test(`${how}, without recovery: clients stay, messages go on, presence is exact`, async (t) => {
    const nodes = await fleet(t, { RECOVERY: "off" });
    const room = unique("room");
    const clients = await Promise.all(nodes.map((node) => connect(t, node.url)));
    for (const client of clients) await client.join(room);
    await talk(clients, room, "before");

    const master = await watched.master();
    const before = nodes.map(named);
    const began = Date.now();
    if (kill) await master.down();
    else await watched.failover();
    const next = await watched.becomes(master);
    await followed(t, nodes, before, began);
    await talk(clients, room, "after");
    await exact(t, next, clients, room);
    for (const client of clients) {
      assert.deepEqual(client.lifecycle.items.map(([what]) => what), ["connect"], "a client was disconnected");
    }
    noneTwice(clients, room);
    if (kill) await master.up();
    await watched.whole();
  });

  test(`${how}, with recovery: clients come back to a new session, and presence is exact`, async (t) => {
    const nodes = await fleet(t, {});
    const room = unique("room");
    const clients = await Promise.all(nodes.map((node) => connect(t, node.url, { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 })));
    for (const client of clients) await client.join(room);
    await talk(clients, room, "before");

    const master = await watched.master();
    const before = nodes.map(named);
    const began = Date.now();
    if (kill) await master.down();
    else await watched.failover();
    const next = await watched.becomes(master);
    await followed(t, nodes, before, began);
    // The last messages before it may be lost with the old master, and clients are told so.
    for (const client of clients) {
      await within("a client to come back", client.connected(2), 30_000);
      assert.equal(client.socket.recovered, false, "a session was recovered whose messages may be lost");
      await client.join(room);
    }
    await talk(clients, room, "after");
    await exact(t, next, clients, room);
    noneTwice(clients, room);
    for (const node of nodes) assert.equal(node.child.exit, null, node.child.log());
    if (kill) await master.up();
    await watched.whole();
  });
}
