// What operators see.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Cluster, get } from "../lib/process.mjs";
import { eventually, unique } from "../lib/wait.mjs";

const cluster = await Cluster.start(2, { LOG_LEVEL: "debug", LOG_FORMAT: "json" });
const [node, other] = cluster.nodes;
after(() => cluster.stop());

// grows waits until a series is at least `by` above what it was before.
const grows = (series, before, by = 1) =>
  eventually(`${series} to grow from ${before} by ${by}`, async () => (await node.metric(series)) >= before + by);

test("the catalogue is complete from the first scrape on", async () => {
  const { text, headers } = await get(`${node.admin}/metrics`);
  assert.match(headers.get("content-type"), /^text\/plain/);
  for (const name of [
    "edge_conns{transport=\"websocket\"}",
    "edge_sockets",
    "edge_rooms",
    "edge_connects_total",
    "edge_published_total",
    "edge_deliveries_total",
    "edge_bus_messages_total",
    "edge_closes_total{reason=\"ping_timeout\"}",
    "edge_drops_total{reason=\"publish_queue_full\"}",
    "edge_publish_written_seconds_count",
    "edge_received_bytes_total",
    "edge_sent_bytes_total",
    "edge_ready",
  ]) {
    assert.ok(text.includes(`\n${name} `), `${name} is missing`);
  }
  assert.match(text, /\nedge_build_info\{.*\} 1\n/);
  const foreign = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name).filter((name) => !/^(edge|go|process|promhttp)_/.test(name));
  assert.deepEqual(foreign, []);
});

test("counters move with what happens", async (t) => {
  const series = ["edge_connects_total", "edge_published_total", "edge_deliveries_total", "edge_bus_messages_total", "edge_frames_received_total", "edge_received_bytes_total", "edge_sent_bytes_total", "edge_publish_written_seconds_count", 'edge_closes_total{reason="transport_close"}', 'edge_refusals_total{reason="event"}', 'edge_refusals_total{reason="invalid_namespace"}'];
  const before = Object.fromEntries(await node.metrics());
  const room = unique("room");
  const [client, second] = [await connect(t, node.url), await connect(t, node.url)];
  for (const c of [client, second]) await c.join(room);
  await eventually("the gauges to count", async () => (await node.metric("edge_sockets")) === 2 && (await node.metric("edge_rooms")) >= 1);
  await client.ok("message", room, "x");
  await second.message(room);
  await client.fails("room_unknown", "message", unique("nowhere"));
  client.socket.io.socket("/nowhere");
  await grows('edge_refusals_total{reason="invalid_namespace"}', before['edge_refusals_total{reason="invalid_namespace"}']);
  second.close();
  for (const name of series) await grows(name, before[name], { edge_connects_total: 2, edge_deliveries_total: 2 }[name]);
  client.close();
  await eventually("the gauges to return to 0", async () => (await node.metric("edge_sockets")) === 0 && (await node.metric('edge_conns{transport="websocket"}')) === 0);
});

test("profiles and metrics are on the admin listener only", async () => {
  const { status, text } = await get(`${node.admin}/debug/pprof/goroutine?debug=1`);
  assert.equal(status, 200);
  assert.match(text, /^goroutine profile: total \d+/);
  for (const path of ["/metrics", "/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace", "/debug/pprof/cmdline"]) {
    assert.equal((await get(node.url + path)).status, 404, path);
  }
});

test("no name of a room, a user or a socket is a label", async (t) => {
  const room = unique("secretroom");
  const client = await connect(t, node.url, { userId: unique("secretuser") });
  await client.join(room);
  await client.ok("message", room, "x");
  const { text } = await get(`${node.admin}/metrics`);
  for (const name of [room, client.userId, client.id]) assert.ok(!text.includes(name), `${name} is in the metrics`);
});

test("logs are one JSON object per line and repeat no message", async (t) => {
  const [room, text] = [unique("room"), unique("private-text")];
  const client = await connect(t, other.url);
  const sid = client.socket.io.engine.id; // the key to the session
  await client.join(room);
  await client.ok("message", room, text);
  await client.message(room);
  client.socket.io.engine.transport.ws.send("4nonsense"); // is closed for it, and that is logged
  await eventually("the fault to be logged", () => other.child.lines.some((line) => line.includes('"packet refused"')));
  assert.ok(other.child.lines.length > 0);
  for (const line of other.child.lines) {
    const record = JSON.parse(line);
    assert.ok(record.level && record.msg && record.time, line);
    for (const hidden of [text, sid, client.socket.auth.userId]) assert.ok(!line.includes(hidden), line);
  }
});
