// Nodes that stop, and nodes that must not start.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { balancer } from "../lib/balancer.mjs";
import { connect, open } from "../lib/client.mjs";
import { Child, Cluster, command, Edge, freePort, get } from "../lib/process.mjs";
import { raw } from "../lib/raw.mjs";
import { eventually, unique } from "../lib/wait.mjs";

const cluster = await Cluster.start(2);
const [stays] = cluster.nodes;
after(() => cluster.stop());

test("clients of a node that stops see a transport close and come back through the balancer", async (t) => {
  const room = unique("room");
  const stops = await cluster.add();
  const url = await balancer(t, [stops.address, stays.address]);
  const client = await connect(t, url, { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
  const watch = await raw(t, stops.url);
  await watch.connect({ userId: unique("user") });
  const first = client.id;
  client.socket.on("connect", () => client.socket.emit("join", room, () => client.events.push(["joined again"])));
  stops.child.signal("SIGTERM");
  assert.equal(await client.disconnected(), "transport close");
  await client.connected(2);
  assert.deepEqual([client.id, client.socket.recovered], [first, true]);
  await client.events.wait("the second join", ([what]) => what === "joined again");
  const other = await connect(t, stays.url);
  await other.join(room);
  await other.ok("message", room, "welcome back");
  await client.message(room, (text) => text === "welcome back");
  await watch.closeCode();
  assert.deepEqual(watch.frames.items.filter((f) => String(f).startsWith("41")), [], "a node that stops must not disconnect sockets by name: clients would not come back");
  assert.deepEqual(await stops.child.ended(), { code: 0, signal: null }, stops.child.log());
});

test("a node that stops takes no new client and leaves others alone", async (t) => {
  const room = unique("room");
  const stops = await cluster.add();
  const other = await connect(t, stays.url);
  await other.join(room);
  const client = await connect(t, stops.url);
  await client.join(room);
  stops.child.signal("SIGTERM");
  assert.equal(await client.disconnected(), "transport close");
  await stops.child.ended();
  await open(t, stops.url).refused();
  await other.ok("message", room, "still here");
  await other.message(room, (text) => text === "still here");
  assert.deepEqual(other.lifecycle.items.map(([what]) => what), ["connect"]);
});

test("the program checks the health of a node, as containers need it", async () => {
  const node = await cluster.add();
  const check = () => new Child("edge -healthcheck", ...command("-healthcheck"), node.env);
  const healthy = check();
  assert.equal((await healthy.ended()).code, 0, healthy.log());
  await node.stop();
  const gone = check();
  assert.notEqual((await gone.ended()).code, 0);
  assert.match(gone.lines.join("\n"), new RegExp(node.address), "the failure does not say which address was asked");
});

test("an interrupt from the keyboard stops a node as well", async () => {
  const stops = await cluster.add();
  stops.child.signal("SIGINT");
  assert.deepEqual(await stops.child.ended(), { code: 0, signal: null }, stops.child.log());
});

// fails starts an edge that must refuse to and returns its output.
async function fails(env) {
  const edge = await Edge.start({ AUTH: "none", REDIS_URL: cluster.redis.url, ...env }, { waitReady: false });
  try {
    const { code } = await edge.child.ended("an edge with a bad configuration to end");
    assert.ok(code > 0, `exit code ${code}\n${edge.child.log()}`);
    return edge.child.lines.join("\n");
  } finally {
    await edge.stop();
  }
}

const bad = {
  "a duration without a unit": [{ PING_INTERVAL: "25" }, /PING_INTERVAL/],
  "a negative duration": [{ PING_TIMEOUT: "-1s" }, /PING_TIMEOUT/],
  "no number": [{ MAX_PAYLOAD: "1 MB" }, /MAX_PAYLOAD/],
  "an unknown subscription mode": [{ SUBSCRIPTIONS: "all" }, /SUBSCRIPTIONS/],
  "an unknown auth mode": [{ AUTH: "basic" }, /AUTH/],
  "a Redis address that is none": [{ REDIS_URL: "http://user:hunter2@localhost:6379" }, /REDIS_URL/],
  "jwt without a secret": [{ AUTH: "jwt" }, /AUTH_JWT_SECRET/],
  "jwt with a short secret": [{ AUTH: "jwt", AUTH_JWT_SECRET: "hunter2" }, /AUTH_JWT_SECRET/],
  "Redis, and no choice of auth": [{ AUTH: undefined }, /AUTH_JWT_SECRET/],
  "no auth on a public address": [{ LISTEN_ADDR: "0.0.0.0:0" }, /AUTH_NONE_PUBLIC/],
  "a public operators' address without a token": [{ ADMIN_ADDR: "0.0.0.0:0" }, /ADMIN_TOKEN/],
  "an address without a port": [{ LISTEN_ADDR: "localhost" }, /LISTEN_ADDR/],
};
for (const [what, [env, names]] of Object.entries(bad)) {
  test(`${what} is refused, and the variable named`, async () => {
    const output = await fails(env);
    assert.match(output, names);
    assert.ok(!output.includes("hunter2"), `the output repeats a secret:\n${output}`);
  });
}

test("no auth on a public address names the address as well", async () => {
  assert.match(await fails({ LISTEN_ADDR: "0.0.0.0:0" }), /LISTEN_ADDR/);
});

test("every bad variable is named at once", async () => {
  const output = await fails({ PING_INTERVAL: "soon", MAX_CONNS: "many", LOG_FORMAT: "xml" });
  for (const name of ["PING_INTERVAL", "MAX_CONNS", "LOG_FORMAT"]) assert.match(output, new RegExp(name));
});

test("an address in use is refused, and named", async () => {
  assert.match(await fails({ LISTEN_ADDR: stays.address }), new RegExp(stays.address));
});

test("no auth on a public address can be asked for", async (t) => {
  const edge = await Edge.start({ AUTH: "none", AUTH_NONE_PUBLIC: "true", REDIS_URL: cluster.redis.url, LISTEN_ADDR: `0.0.0.0:${await freePort()}` });
  t.after(() => edge.stop());
  await connect(t, edge.url.replace("0.0.0.0", "127.0.0.1"));
});

test("MAX_CONNS bounds the connections, and a place that becomes free is given again", async (t) => {
  const edge = await Edge.start({ AUTH: "none", REDIS_URL: cluster.redis.url, MAX_CONNS: "2" });
  t.after(() => edge.stop());
  const [first] = [await connect(t, edge.url), await connect(t, edge.url)];
  await open(t, edge.url).refused();
  assert.equal((await get(`${edge.url}/healthz`)).status, 200, "health must be answered when the node is full");
  first.close();
  await eventually("the node to take a client again", async () => {
    const client = open(t, edge.url);
    const [what] = await client.lifecycle.wait("an answer", () => true);
    return what === "connect";
  });
});
