// One instance of the reference system: Socket.IO with @socket.io/redis-adapter and presence
// in Redis, speaking the same events and writing the same three keys as the edge's built-in
// application. Written the way such a server usually is: no batching, no leases, no repair.
//
// Environment: LISTEN_ADDR (host:port), REDIS_URL, RECOVERY (on: connection state recovery, of which this
// adapter does only the outside: sessions have ids and events have offsets, but none is ever restored), PING_TIMEOUT
// (in seconds, as 20s).
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [host, port] = (process.env.LISTEN_ADDR ?? "127.0.0.1:3000").split(":");
const redis = createClient({ url: process.env.REDIS_URL ?? "redis://localhost:6379" });
const pub = redis.duplicate();
const sub = redis.duplicate();
for (const client of [redis, pub, sub]) {
  client.on("error", (err) => console.error("redis:", err.message));
}
await Promise.all([redis.connect(), pub.connect(), sub.connect()]);

// The adapter does not look at what becomes of a publish; without this a broken connection to Redis ends
// the process.
process.on("unhandledRejection", (err) => console.error("unhandled:", err?.message));

const http = createServer((req, res) => {
  res.writeHead(req.url === "/readyz" ? 200 : 404).end();
});
const options = { adapter: createAdapter(pub, sub), transports: ["websocket", "polling"] };
if (process.env.RECOVERY === "on") options.connectionStateRecovery = {};
if (process.env.PING_TIMEOUT) options.pingTimeout = 1000 * parseFloat(process.env.PING_TIMEOUT);
const io = new Server(http, options);

const online = "presence:online";
const usersOf = (room) => `room:${room}:users`;
const socketOf = (user) => `user:${user}:socket`;

const ok = (ack, more) => typeof ack === "function" && ack({ ok: true, ...more });
const fail = (ack, code, error) => typeof ack === "function" && ack({ ok: false, code, error });

// Tells a room who came or went; count is the number of users in the room afterwards.
async function announce(room, joined, left) {
  const count = await redis.sCard(usersOf(room));
  io.to(room).emit("presence", { room, joined, left, count });
  return count;
}

io.on("connection", (socket) => {
  const user = socket.handshake.auth.userId ?? socket.id;

  const stored = Promise.all([redis.sAdd(online, user), redis.set(socketOf(user), socket.id)]);
  stored.catch((err) => console.error("connect:", err.message));

  socket.on("join", async (room, ack) => {
    if (typeof room !== "string" || room === "") return fail(ack, "bad_room", "room must be a string");
    try {
      await socket.join(room);
      await redis.sAdd(usersOf(room), user);
      ok(ack, { room, count: await announce(room, [user], []) });
    } catch (err) {
      fail(ack, "internal", err.message);
    }
  });

  socket.on("leave", async (room, ack) => {
    if (!socket.rooms.has(room)) return fail(ack, "not_in_room", "not in that room");
    try {
      await socket.leave(room);
      await redis.sRem(usersOf(room), user);
      ok(ack, { room, count: await announce(room, [], [user]) });
    } catch (err) {
      fail(ack, "internal", err.message);
    }
  });

  // The room is a name or, as for the edge, {room, id}; the id is ignored.
  socket.on("message", (to, ...args) => {
    const room = to?.room ?? to;
    const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
    if (!socket.rooms.has(room)) return fail(ack, "not_in_room", "not in that room");
    io.to(room).emit("message", { from: user, ts: Date.now() }, ...args);
    ok(ack);
  });

  socket.on("presence", async (target, ack) => {
    try {
      if (Array.isArray(target)) {
        const ids = await Promise.all(target.map((id) => redis.get(socketOf(id))));
        ok(ack, { users: Object.fromEntries(target.map((id, i) => [id, ids[i] !== null])) });
      } else if (socket.rooms.has(target)) {
        const users = await redis.sMembers(usersOf(target));
        ok(ack, { room: target, users, count: users.length });
      } else {
        fail(ack, "not_in_room", "not in that room");
      }
    } catch (err) {
      fail(ack, "internal", err.message);
    }
  });

  socket.on("disconnecting", () => {
    const rooms = [...socket.rooms].filter((room) => room !== socket.id);
    const gone = rooms.map(async (room) => {
      await redis.sRem(usersOf(room), user);
      await announce(room, [], [user]);
    });
    gone.push(redis.sRem(online, user), redis.del(socketOf(user)));
    Promise.all(gone).catch((err) => console.error("disconnect:", err.message));
  });
});

http.listen({ host, port: Number(port), backlog: 4096 });

process.on("SIGTERM", () => {
  io.close(() => process.exit(0));
  setTimeout(() => process.exit(0), 2000).unref();
});
