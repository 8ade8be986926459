// The three public presence keys, read as other services read them.
import assert from "node:assert/strict";

import { connected } from "../fixtures/node-server.mjs";
import { eventually } from "./wait.mjs";

// Keys reads the presence keys of one Redis.
export class Keys {
  static async open(url) {
    const keys = new Keys();
    keys.redis = await connected(url);
    return keys;
  }

  close() {
    return this.redis.disconnect();
  }

  online(user) {
    return this.redis.sIsMember("presence:online", user);
  }

  async members(room) {
    return (await this.redis.sMembers(`room:${room}:users`)).sort();
  }

  socket(user) {
    return this.redis.get(`user:${user}:socket`);
  }

  // of returns all that the keys say about a user and, if given, whether it is in a room.
  async of(user, room) {
    const state = { online: await this.online(user), socket: await this.socket(user) };
    if (room !== undefined) state.member = (await this.members(room)).includes(user);
    return state;
  }

  // become waits until of(user, room) is what is wanted.
  async become(want, user, room) {
    let last;
    await eventually(
      `the presence keys of ${user} to become ${JSON.stringify(want)}`,
      async () => {
        last = await this.of(user, room);
        return same(last, want);
      },
      { detail: () => `they are ${JSON.stringify(last)}` },
    );
  }

  // membersBecome waits until a room's set is exactly these users.
  async membersBecome(room, users) {
    const want = [...users].sort();
    let last;
    await eventually(
      `room:${room}:users to become ${JSON.stringify(want)}`,
      async () => {
        last = await this.members(room);
        return same(last, want);
      },
      { detail: () => `it is ${JSON.stringify(last)}` },
    );
  }

  // left waits until no presence key remains that names a user, a room or a node, given that none should.
  async nothingLeft() {
    let left;
    await eventually(
      "all presence keys to be gone",
      async () => {
        left = [];
        for await (const key of this.redis.scanIterator({ COUNT: 1000 })) if (namesAHolder(key)) left.push(key);
        return left.length === 0;
      },
      { detail: () => `left: ${left.join(" ")}` },
    );
  }
}

// namesAHolder: the seed keys, and beside them who holds what ({S}:i:<incarnation>, {S}:x, {S}:n, {user:u:socket}:z). A
// room's epoch and sequence number ({room:r:users}:m) outlive its members, so that numbers are not given twice.
function namesAHolder(key) {
  return key === "presence:online" || /^room:.*:users$/s.test(key) || /^user:.*:socket$/s.test(key) || /^\{.*\}:(i:.*|x|n|z)$/s.test(key);
}

function same(a, b) {
  try {
    assert.deepEqual(a, b);
    return true;
  } catch {
    return false;
  }
}
