// An observer of the presence keys that shares no code with the servers or with the rest of the
// benchmark: it reads the three public keys as any backend would, and compares them with the truth, of
// which it is told by whoever makes the connections.
//
//   node observer.mjs REDIS_URL LIMIT_MS USERS_PER_SECOND PREFIX
//
// stdin, one JSON object per line; times are milliseconds of the system's monotonic clock:
//   {"user":"u1","sid":"…","rooms":["r1"],"at":123.4}  the truth about a user since then; no sid: offline
//   {"user":"u1","flux":true}                           it is changing: no look counts until the truth is told
//   {"user":"u1","forget":true}                         nobody knows the truth: nothing about the user counts
//   {"end":true}                                        print the result and end
//
// Every second it looks at USERS_PER_SECOND users (SISMEMBER presence:online, GET user:<u>:socket,
// SISMEMBER room:<r>:users) and at one whole set, rooms and presence:online in turn, for strangers. Every
// change is looked at at once and again when the limit is over. What is wrong is looked at ten times a
// second until it is right.
//
// An entry (a user in a set, or a user's key) is a disagreement when it is proved wrong for longer than
// the limit: by two looks that far apart and none between that found it right, or by a look longer than
// that after a change that finds exactly what was true before the change.
import { createInterface } from "node:readline";

const [url, limitText, rateText, prefix = ""] = process.argv.slice(2);
const limit = Number(limitText);
const rate = Number(rateText);
if (!url || !(limit > 0) || !(rate > 0)) {
  console.error("usage: observer.mjs REDIS_URL LIMIT_MS USERS_PER_SECOND [PREFIX]");
  process.exit(2);
}

let Redis;
try {
  ({ Redis } = await import("ioredis"));
} catch {
  console.error("the module ioredis is missing: run npm ci in bench/node");
  process.exit(3);
}
// A look that cannot be made now is an error and not a look at a later time.
const redis = new Redis(url, { enableAutoPipelining: true, enableOfflineQueue: false, maxRetriesPerRequest: 0, lazyConnect: true });
redis.on("error", (err) => fault(err));
await redis.connect();

const now = () => Number(process.hrtime.bigint()) / 1e6;
const keyOf = { online: () => "presence:online", room: (room) => `room:${room}:users`, socket: (_, user) => `user:${user}:socket` };

const result = {
  seconds: 0, users: 0, changes: 0, samples: 0, looks: 0, sets: 0,
  disagreements: 0, longest_wrong_ms: 0, still_wrong: 0, examples: [], errors: 0, error: "",
};
const began = now();

const users = new Map(); // user → {sid, rooms, was, changed, version, flux, forgotten, counted}
const names = []; // the users in order of arrival, to choose from
const members = new Map(); // room → Set of users that should be in it
const wrong = new Map(); // entry → {kind, user, room, since, counted}, what the latest look found wrong
let version = 0; // of the whole truth

function fault(err) {
  result.errors++;
  result.error ||= String(err.message ?? err);
}

// known returns what is known about a user; of a stranger that it is offline.
function known(user) {
  let u = users.get(user);
  if (!u) {
    u = { sid: "", rooms: new Set(), was: null, changed: 0, version: ++version, flux: false, forgotten: false, counted: 0 };
    users.set(user, u);
    names.push(user);
  }
  return u;
}

function told(line) {
  const u = known(line.user);
  u.version = ++version;
  if (line.forget) {
    u.forgotten = true;
    result.disagreements -= u.counted;
    result.examples = result.examples.filter((e) => e.user !== line.user);
    return;
  }
  u.flux = line.flux === true;
  if (u.flux) return;
  u.was = u.changed > 0 ? { sid: u.sid, rooms: u.rooms } : null;
  for (const room of u.rooms) members.get(room)?.delete(line.user);
  u.sid = line.sid ?? "";
  u.rooms = new Set(line.rooms ?? []);
  for (const room of u.rooms) {
    if (!members.has(room)) members.set(room, new Set());
    members.get(room).add(line.user);
  }
  u.changed = line.at;
  if (u.was === null) return; // the first truth is no change
  result.changes++;
  sample(line.user);
  setTimeout(() => sample(line.user), limit + 20).unref();
}

const should = (t, kind, room) => (kind === "online" ? t.sid !== "" : kind === "room" ? t.rooms.has(room) : t.sid);

function read(kind, user, room) {
  const key = keyOf[kind](room, user);
  if (kind === "socket") return redis.get(key).then((sid) => sid ?? "");
  return redis.sismember(key, user).then((n) => n === 1);
}

// look reads one entry and judges what it finds, unless the truth changed meanwhile.
async function look(kind, user, room) {
  const u = users.get(user);
  if (u.flux || u.forgotten) return;
  const before = u.version;
  const sent = now();
  let found;
  try {
    found = await read(kind, user, room);
  } catch (err) {
    return fault(err);
  }
  result.looks++;
  if (u.version === before) judge(u, kind, user, room, found, sent, now());
}

// judge takes a look that was sent and answered at these times into account.
function judge(u, kind, user, room, found, sent, answered) {
  const entry = `${kind} ${user} ${room}`;
  const want = should(u, kind, room);
  if (found === want) {
    wrong.delete(entry);
    return;
  }
  let w = wrong.get(entry);
  if (!w || w.version !== u.version) w = { kind, user, room, version: u.version, since: answered, counted: false };
  wrong.delete(entry); // to the end: the others are looked at first
  wrong.set(entry, w);
  let proved = Math.max(0, sent - w.since);
  if (u.was !== null && found === should(u.was, kind, room)) proved = Math.max(proved, sent - u.changed);
  result.longest_wrong_ms = Math.max(result.longest_wrong_ms, proved);
  if (proved <= limit || w.counted) return;
  w.counted = true;
  u.counted++;
  result.disagreements++;
  if (result.examples.length < 20) {
    result.examples.push({ user, key: keyOf[kind](room, user), found, want, for_ms: Math.round(proved), at_s: Math.round(sent - began) / 1000 });
  }
}

// sample looks at everything about one user.
function sample(user) {
  const u = users.get(user);
  if (u.flux || u.forgotten) return;
  look("online", user, "");
  look("socket", user, "");
  for (const room of u.was ? new Set([...u.rooms, ...u.was.rooms]) : u.rooms) look("room", user, room);
}

// whole reads one set as a whole: also for members that nobody has told of.
async function whole(kind, room) {
  const before = version;
  const sent = now();
  let have;
  try {
    have = new Set(await redis.smembers(keyOf[kind](room)));
  } catch (err) {
    return fault(err);
  }
  result.sets++;
  const answered = now();
  const check = (user) => {
    const u = known(user);
    if (u.version <= before && !u.flux && !u.forgotten) judge(u, kind, user, room, have.has(user), sent, answered);
  };
  const expected = kind === "room" ? members.get(room) : users;
  for (const user of expected.keys()) check(user);
  for (const user of have) {
    if (expected.has(user)) continue;
    if (users.has(user)) check(user);
    else if (user.startsWith(prefix)) {
      known(user); // a stranger: younger than this read, so another one judges it
      look(kind, user, room);
    }
  }
}

// Timers. The samples of a second are spread over it; a timer that was late makes up for it.
let sampled = 0;
const sampler = setInterval(() => {
  const due = Math.min(((now() - began) / 1000) * rate - sampled, rate);
  for (let i = 0; i < due; i++) {
    sampled++;
    if (names.length === 0) continue;
    result.samples++;
    sample(names[Math.floor(Math.random() * names.length)]);
  }
}, 20);

let turn = 0;
const sets = setInterval(() => {
  const rooms = [...members.keys()];
  const room = rooms[turn++ % (rooms.length + 1)];
  whole(room === undefined ? "online" : "room", room ?? "");
}, 1000);

const again = setInterval(() => {
  let n = 0;
  for (const w of [...wrong.values()]) {
    if (users.get(w.user).version !== w.version) wrong.delete(`${w.kind} ${w.user} ${w.room}`);
    else if (n++ < 500) look(w.kind, w.user, w.room);
  }
}, 100);

async function end() {
  for (const timer of [sampler, sets, again]) clearInterval(timer);
  result.seconds = (now() - began) / 1000;
  result.users = names.length;
  result.still_wrong = wrong.size;
  redis.disconnect();
  process.stdout.write(JSON.stringify(result) + "\n", () => process.exit(0));
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (message.end) break;
  told(message);
}
await end();
