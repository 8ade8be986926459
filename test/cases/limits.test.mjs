// What one client may do, and who it is where a balancer stands in between.
import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";

import { connect, open } from "../lib/client.mjs";
import { HAProxy } from "../lib/haproxy.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Edge } from "../lib/process.mjs";
import { drained, tcp } from "../lib/raw.mjs";
import { lacking } from "../lib/shipped.mjs";
import { DEADLINE, eventually, unique, within } from "../lib/wait.mjs";

const refusals = (node, reason) => node.metric(`edge_refusals_total{reason="${reason}"}`);

// alone starts a node on the in-process Redis.
async function alone(t, env) {
  const node = await Edge.start({ REDIS_URL: undefined, AUTH: "none", ...env });
  t.after(() => node.stop());
  return node;
}

// from makes a client connect from an address of the loopback network.
const from = (address) => ({ agent: new http.Agent({ localAddress: address }) });

for (const { name, Balancer, options, env, skip } of [
  { name: "nginx with X-Forwarded-For", Balancer: Nginx, options: {}, env: {}, skip: lacking("nginx") },
  { name: "haproxy with X-Forwarded-For", Balancer: HAProxy, options: {}, env: {}, skip: lacking("haproxy") },
  { name: "haproxy with the PROXY protocol", Balancer: HAProxy, options: { proxyProtocol: true }, env: { PROXY_PROTOCOL: "on" }, skip: lacking("haproxy") },
]) {
  test(`behind ${name} one client reaches its limit of connections, and another one is served`, { skip }, async (t) => {
    const node = await alone(t, { TRUSTED_PROXIES: "127.0.0.1", MAX_CONNS_PER_IP: "2", ...env });
    const balancer = await Balancer.start([node.address, node.address, node.address], options);
    t.after(() => balancer.stop());
    const greedy = from("127.0.0.2");
    const room = unique("room");
    const first = await connect(t, balancer.url, greedy);
    const second = await connect(t, balancer.url, { ...greedy, transports: ["polling"] });
    for (const transports of [["websocket"], ["polling"]]) {
      const error = await open(t, balancer.url, { ...greedy, transports }).refused();
      assert.match(String(error.message), /websocket error|xhr poll error/);
    }
    assert.equal(await refusals(node, "max_conns_source"), 2);
    const other = await connect(t, balancer.url, from("127.0.0.3"));
    const polls = await connect(t, balancer.url, { ...from("127.0.0.3"), transports: ["polling", "websocket"] });
    const all = [first, second, other, polls];
    for (const client of all) await client.join(room);
    for (const client of all) {
      const text = unique("text");
      await client.ok("message", room, text);
      for (const receiver of all) await receiver.message(room, (got) => got === text);
    }
    first.close();
    await eventually("a place of the first client to become free", async () => {
      const again = open(t, balancer.url, greedy);
      const [what] = await again.lifecycle.wait("an answer", () => true);
      if (what !== "connect") again.close();
      return what === "connect";
    });
  });
}

test("who is no proxy is not believed, and a proxy that does not say who its client is is refused", async (t) => {
  const node = await alone(t, { TRUSTED_PROXIES: "127.0.0.9", PROXY_PROTOCOL: "on", MAX_CONNS_PER_IP: "1" });
  await connect(t, node.url, from("127.0.0.2"));
  const spoof = open(t, node.url, { ...from("127.0.0.2"), extraHeaders: { "X-Forwarded-For": "127.0.0.77" } });
  await spoof.refused();
  assert.equal(await refusals(node, "max_conns_source"), 1);
  const forged = await tcp(t, node.address);
  forged.write("PROXY TCP4 127.0.0.77 127.0.0.1 1 2\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  assert.equal(await drained(forged), "");
  const silent = open(t, node.url, from("127.0.0.9"));
  await silent.refused();
  assert.equal(await refusals(node, "proxy_header"), 2);
});

test("one user reaches its limit of connections, whatever the transport, and another one does not", async (t) => {
  const node = await alone(t, { MAX_CONNS_PER_USER: "2" });
  const user = { userId: unique("user") };
  const first = await connect(t, node.url, user);
  await connect(t, node.url, { ...user, transports: ["polling"] });
  const error = await open(t, node.url, user).refused();
  assert.equal(error.data?.code, "too_many_connections");
  assert.ok(error.message);
  await connect(t, node.url);
  first.close();
  await eventually("the user to have a place again", async () => {
    const again = open(t, node.url, user);
    const [what] = await again.lifecycle.wait("an answer", () => true);
    return what === "connect";
  });
  assert.ok((await refusals(node, "max_conns_user")) >= 1);
  // Those that come in the same moment, too: each is refused, or disconnected at once.
  const many = { userId: unique("user") };
  const crowd = Array.from({ length: 20 }, () => open(t, node.url, many));
  await within("an answer to all of the crowd", Promise.all(crowd.map((client) => client.lifecycle.wait("an answer", () => true))), DEADLINE);
  await eventually("no more than two to stay", () => crowd.filter((client) => client.socket.connected).length <= 2);
});

test("rooms of a socket, and the head of a request in bytes and in time, have the limits that are set", async (t) => {
  const node = await alone(t, { MAX_ROOMS: "3", MAX_HEADER_BYTES: "2000", HEADER_TIMEOUT: "500ms" });
  const client = await connect(t, node.url);
  const [first, second, third] = [unique("room"), unique("room"), unique("room")];
  await client.join(first);
  await client.join(second);
  await client.fails("too_many_rooms", "join", third);
  await client.ok("leave", first);
  await client.join(third);
  const long = await tcp(t, node.address);
  long.write(`GET /healthz HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(8000)}\r\n\r\n`);
  assert.match(await drained(long), /^HTTP\/1.1 431 /);
  const slow = await tcp(t, node.address);
  slow.write("GET /healthz HTTP/1.1\r\n");
  await drained(slow);
});

for (const transports of [["websocket"], ["polling"]]) {
  test(`who sends too fast by ${transports} is disconnected and does not come back by itself, and nobody else notices`, async (t) => {
    const node = await alone(t, { PACKET_RATE: "0.1", PACKET_BURST: "50" });
    const room = unique("room");
    const flood = await connect(t, node.url, { transports, reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 10 });
    const other = await connect(t, node.url);
    for (const client of [flood, other]) await client.join(room);
    for (let i = 0; i < 100; i++) flood.socket.emit("message", room, i);
    assert.equal(await flood.disconnected(), "io server disconnect");
    await other.ok("message", room, "still here");
    await other.message(room, (text) => text === "still here");
    const got = other.messages(room).filter(([from]) => from === flood.userId);
    assert.ok(got.length <= 50, `${got.length} messages came through`);
    await eventually("the reason", async () => (await node.metric('edge_closes_total{reason="packet_rate"}')) === 1); // told first, counted then
    assert.equal(flood.socket.connected, false);
    assert.equal(flood.socket.active, false, "its client tries to come back");
    flood.socket.connect();
    await flood.connected(2);
  });
}
