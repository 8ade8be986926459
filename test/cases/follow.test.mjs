// The list of a room's users that a client keeps, as docs/protocol.md says it: right whatever happens between.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import { follow } from "../fixtures/follow.mjs";
import { connect } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { DEADLINE, eventually, unique } from "../lib/wait.mjs";

// Without recovery, so that connections outlive a Redis that was restarted, and lists are put to the test.
const cluster = await Cluster.start(3, { PRESENCE_WINDOW: "50ms", PRESENCE_LEASE: "5s", RECOVERY: "off" });
const keys = await Keys.open(cluster.redis.url);
after(async () => {
  await keys.close();
  await cluster.stop();
});
const [url, url2] = cluster.urls;

// Follower is a client that follows one room. Without `asks` it never asks `presence`: nodes alone must keep it right.
class Follower {
  known = {};
  wanted = 0; // how often `presence` should have been asked
  snapshots = 0; // sent by a node unasked

  static async join(t, url, room, { asks = true, late = false } = {}) {
    const follower = new Follower();
    Object.assign(follower, { room, asks, client: await connect(t, url) });
    follower.client.socket.on("presence", (update) => {
      if (update.room !== room) return;
      if (update.prev === undefined) follower.snapshots++;
      follower.told(update);
    });
    if (late) {
      const answer = await follower.client.join(room);
      await new Promise((resolve) => setTimeout(resolve, 100)); // updates overtake it
      follower.told(answer);
      return follower;
    }
    await new Promise((resolve, reject) => {
      follower.client.socket.timeout(DEADLINE).emit("join", room, (err, answer) => {
        if (err || !answer.ok) reject(new Error(`join of ${room}: ${err ?? JSON.stringify(answer)}`));
        follower.told(answer); // in order with the updates, which code behind an await is not
        resolve();
      });
    });
    return follower;
  }

  told(what) {
    if (!follow(this.known, what)) return;
    this.wanted++;
    if (!this.asks || this.asking) return;
    this.asking = true;
    this.client.socket.emit("presence", this.room, (answer) => {
      this.asking = false;
      if (answer.ok) this.told(answer);
    });
  }

  get users() {
    return [...(this.known.users ?? [])].sort();
  }
}

// agree waits until all followers know exactly the users that Redis has.
async function agree(room, followers) {
  let [last, wrong] = [];
  await eventually(
    `the followers of ${room} to know its users`,
    async () => {
      last = await keys.members(room);
      wrong = followers.filter((f) => f.known.count !== last.length || f.users.join() !== last.join());
      return wrong.length === 0;
    },
    { detail: () => `Redis has ${last}\n${wrong.map(({ client, known, users }) => `${client.userId} at seq ${known.seq} has ${users}`).join("\n")}` },
  );
}

test("follow, step by step", () => {
  const many = Array.from({ length: 1001 }, (_, i) => `u${i}`);
  const ack = (epoch, seq, users, count = users.length) => ({ ok: true, room: "r", count, users, seq, epoch });
  const update = (epoch, prev, seq, joined, left, count) => ({ room: "r", joined, left, count, prev, seq, epoch });
  const full = (epoch, seq, users) => ({ room: "r", users, count: users.length, seq, epoch });
  const steps = [
    // told, whether to ask, what is known then: epoch, seq, count, users
    [update("E", 2, 3, ["x"], [], 9), false, ["E", 3, undefined, undefined]], // before the first snapshot
    [update("E", 3, 4, ["y"], [], 9), false, ["E", 4, undefined, undefined]],
    [{ ok: true, room: "r" }, true, ["E", 4, undefined, undefined]], // the snapshot could not be read
    [{ ok: true, room: "r", count: 1, users: ["a"] }, false, ["E", 4, undefined, undefined]], // of a server without numbers
    [ack("E", 3, ["a", "x"]), true, ["E", 3, 2, "a x"]], // 4 was ignored
    [ack("E", 4, ["a"]), false, ["E", 4, 1, "a"]],
    [update("E", 3, 4, ["a"], [], 1), false, ["E", 4, 1, "a"]], // known already
    [update("E", 4, 5, ["b"], [], 2), false, ["E", 5, 2, "a b"]],
    [update("E", 3, 8, ["b", "c"], ["a"], 2), false, ["E", 8, 2, "b c"]], // reaches back
    [update("E", 8, 9, [], ["c"], 1), false, ["E", 9, 1, "b"]],
    [update("E", 10, 11, ["d"], [], 3), true, ["E", 9, 1, "b"]], // 10 was missed
    [update("E", 11, 12, ["e"], [], 4), true, ["E", 9, 1, "b"]], // and still is
    [ack("E", 8, ["b", "c"]), false, ["E", 9, 1, "b"]], // older
    [full("E", 12, ["b", "d", "e", "f"]), false, ["E", 12, 4, "b d e f"]],
    [full("E", 12, ["b", "d", "e", "f"]), false, ["E", 12, 4, "b d e f"]], // no older: the same
    [update("F", 0, 1, ["g"], [], 1), true, ["E", 12, 4, "b d e f"]], // another epoch
    [full("F", 2, []), false, ["F", 2, 0, ""]], // with a smaller number
    [update("F", 2, 3, undefined, undefined, 1001), false, ["F", 3, 1001, undefined]], // too many to list
    [update("F", 3, 4, undefined, undefined, 1002), false, ["F", 4, 1002, undefined]],
    [update("F", 4, 5, [], ["u3"], 1000), true, ["F", 5, 1000, undefined]], // no more
    [ack("F", 5, many.slice(0, 1000)), false, ["F", 5, 1000, many.slice(0, 1000).join(" ")]],
    [ack("F", 6, undefined, 1001), false, ["F", 6, 1001, undefined]], // without users
  ];
  let known = {};
  for (const [i, [told, ask, want]] of steps.entries()) {
    assert.equal(follow(known, told), ask, `step ${i}`);
    const { epoch, seq, count, users } = known;
    assert.deepEqual([epoch, seq, count, users && [...users].join(" ")], want, `step ${i}`);
  }
  for (const before of [[], [update("E", 2, 3, ["x"], [], 9)], [update("D", 8, 9, ["x"], [], 9)]]) {
    known = {};
    for (const told of before) assert.equal(follow(known, told), false);
    assert.equal(follow(known, ack("E", 4, ["a"])), false);
    assert.deepEqual(known, { epoch: "E", seq: 4, count: 1, users: new Set(["a"]) });
  }
});

test("lists are right after joins, leaves and disconnects everywhere, and only who is slow has to ask", async (t) => {
  const room = unique("room");
  const followers = await Promise.all(cluster.urls.map((u) => Follower.join(t, u, room)));
  const late = [];
  // Each of them comes and goes by its own steps, several in one window.
  await Promise.all(
    Array.from({ length: 12 }, async (_, i) => {
      for (let step = 0; step < 6; step++) {
        const client = await connect(t, cluster.urls[(i + step) % 3], { userId: `${room}-${i % 8}` }); // some share a user
        await client.join(room);
        if (step % 3 === 0) await client.ok("leave", room);
        if (step % 3 === 1) await client.ok("message", room, step);
        if (step === 2) followers.push(await Follower.join(t, cluster.urls[i % 3], room)); // in the middle of it
        if (step === 2 && i < 4) late.push(await Follower.join(t, cluster.urls[i % 3], room, { late: true }));
        if (i % 4 !== 0 || step < 5) client.close();
      }
    }),
  );
  await agree(room, [...followers, ...late]);
  assert.deepEqual(followers.map((f) => f.wanted), followers.map(() => 0), "nothing was lost, so there is nothing to ask for");
});

test("a node that missed changes sends a snapshot by itself", async (t) => {
  const room = unique("room");
  const followers = await Promise.all([url, url, url2].map((u) => Follower.join(t, u, room, { asks: false })));
  await agree(room, followers);
  await eventually(
    "a snapshot",
    async () => {
      // Whether the change falls into the time without a connection is chance; that everybody learns of it is not.
      const list = await keys.redis.sendCommand(["CLIENT", "LIST"]);
      for (const [, id] of list.matchAll(/^id=(\d+) .* name=edge-\S+-ps /gm)) await keys.redis.sendCommand(["CLIENT", "KILL", "ID", id]);
      const changes = await connect(t, url2);
      await changes.join(room);
      await agree(room, followers);
      changes.close();
      await agree(room, followers);
      return followers.every((f) => f.snapshots > 0);
    },
    { deadline: 60_000 },
  );
});

test("a Redis that lost its data begins a new epoch, and the lists are right again", async (t) => {
  const room = unique("room");
  const followers = await Promise.all([url, url2].map((u) => Follower.join(t, u, room)));
  await agree(room, followers);
  const before = followers[0].known.epoch;
  await cluster.redis.down();
  await cluster.redis.up();
  await eventually("a new epoch", () => followers.every((f) => f.known.epoch !== before), { deadline: 30_000, detail: () => JSON.stringify(followers.map((f) => f.known)) });
  await keys.membersBecome(room, followers.map((f) => f.client.userId));
  await agree(room, followers);
  const late = await Follower.join(t, url, room);
  await agree(room, [late, ...followers]);
});

// Everything that the document quotes from a file is that file.
test("docs/protocol.md quotes the fixture as it is", () => {
  const document = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8");
  const quotes = [...document.matchAll(/^<!-- (test\/fixtures\/\S+) -->\n```\w+\n(.*?)^```$/gms)];
  assert.deepEqual(quotes.map(([, path]) => path), ["test/fixtures/follow.mjs"]);
  for (const [, path, quote] of quotes) assert.equal(quote, readFileSync(new URL(`../../${path}`, import.meta.url), "utf8"), path);
});
