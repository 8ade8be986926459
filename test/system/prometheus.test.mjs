// A real Prometheus with the shipped configuration scrapes nodes under load, in which everything happens that dashboards show:
// then each of their queries, and each rule, must have data.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { createClient } from "redis";

import { connect } from "../lib/client.mjs";
import { Crowd, narrating } from "../lib/crowd.mjs";
import { Cluster, get } from "../lib/process.mjs";
import { annotations, deploy, names, panels, Prometheus } from "../lib/prometheus.mjs";
import { lacking, program } from "../lib/shipped.mjs";
import { eventually, unique } from "../lib/wait.mjs";

const skip = lacking("prometheus");
const run = promisify(execFile);
const promtool = (...args) => run(program("promtool"), args, { cwd: `${deploy}/prometheus` });

test("promtool accepts the configuration and the rules", { skip }, async () => {
  await promtool("check", "config", "prometheus.yml");
  await promtool("check", "rules", "--lint=all", "--lint-fatal", ...names("prometheus/rules", ".yml").map((name) => `rules/${name}`));
});

test("alerts fire when they should, and not otherwise", { skip }, async () => {
  await promtool("test", "rules", ...names("prometheus/tests", ".yml").map((name) => `tests/${name}`));
});

test("every panel and every rule has data", { skip, timeout: 180_000 }, async (t) => {
  const cluster = await Cluster.start(3, { DEFLATE: "on", PRESENCE_LEASE: "5s" }); // the shortest: a dead node is soon found
  t.after(() => cluster.stop());
  const doomed = await cluster.add();
  const prometheus = await Prometheus.start(cluster.nodes.map(({ admin }) => new URL(admin).host));
  t.after(() => prometheus.stop());

  const living = cluster.nodes.slice(0, 3);
  const crowds = await Promise.all([0, 1, 2].map(() => Crowd.gather(t, { nodes: living, size: 40, perRoom: 20, processes: 1 })));
  await Promise.all(crowds.map((crowd, i) => crowd.connect({ url: living[i].url, ...(i && { transports: ["websocket"] }) })));
  const here = 3 * 40 + 3 * 2; // and the witnesses
  await eventually("Prometheus to have looked at all nodes", async () => (await prometheus.values("sum(up)"))[0] === 4);
  await narrating(crowds, async () => {
    await happenings(t, cluster, doomed);
    const restless = await connect(t, living[2].url); // presence goes on changing
    let dark;
    await eventually("all panels and rules to have data", async () => {
      await restless.join("corridor");
      await restless.ok("leave", "corridor");
      assert.equal((await get(`${living[0].admin}/api/v1/node`)).status, 200);
      return (dark = await empty(prometheus)).length === 0;
    }, { deadline: 90_000, detail: () => dark.join("\n") });
    await eventually("Prometheus to know of all conns", async () => (await prometheus.values("sum(edge_conns)"))[0] >= here);
    for (const query of annotations()) await prometheus.ask("query", { query });
  });
  const down = await prometheus.values('up{job="edge"} == 0');
  assert.equal(down.length, 1, "one node is down, and the alert that will say so waits for a minute");
  const alerts = (await prometheus.rules()).filter(({ state }) => state === "pending" || state === "firing").map(({ name }) => name);
  assert.ok(alerts.includes("EdgeNodeDown"), `alerts: ${alerts}`);
  assert.ok(!alerts.includes("EdgeMessagesUnreadable") && !alerts.includes("EdgePanics"), `alerts: ${alerts}`);
});

// happenings lets everything happen once of which there is an average or a quantile: a node dies, Pub/Sub connections are
// lost, clients come back, a large message is compressed, presence is asked for.
async function happenings(t, cluster, doomed) {
  const room = unique("room");
  const ghost = await connect(t, doomed.url);
  await ghost.join(room);
  await doomed.stop();

  const redis = createClient({ url: cluster.redis.url });
  await redis.connect();
  await redis.sendCommand(["CLIENT", "KILL", "TYPE", "pubsub"]);
  await redis.disconnect();

  const client = await connect(t, cluster.nodes[1].url, { reconnection: true, reconnectionDelay: 50 });
  await client.join(room);
  await client.ok("message", room, "x".repeat(4000));
  await client.ok("presence", room);
  client.drop();
  await client.connected(2);
  assert.ok(client.socket.recovered);
}

// empty names what has no data: no series, or none with a number.
async function empty(prometheus) {
  const found = [];
  for (const { where, queries } of panels()) {
    for (const { expr } of queries) {
      if (!(await prometheus.values(expr)).some(Number.isFinite)) found.push(`${where}: ${expr}`);
    }
  }
  for (const { type, name, health, lastError } of await prometheus.rules()) {
    if (health !== "ok") found.push(`rule ${name}: ${health} ${lastError ?? ""}`);
    else if (type === "recording" && !(await prometheus.values(name)).some(Number.isFinite)) found.push(`rule ${name} has no data`);
  }
  return found;
}
