// Prometheus with deploy/prometheus, and the queries of deploy/grafana.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { Child, freePort } from "./process.mjs";
import { program, scratch, shipped } from "./shipped.mjs";
import { eventually } from "./wait.mjs";

export const deploy = fileURLToPath(new URL("../../deploy", import.meta.url));

// names are the files of a directory of deploy/ that end so.
export const names = (dir, end) => readdirSync(`${deploy}/${dir}`).filter((name) => name.endsWith(end)).sort();

// Prometheus is one running prometheus with the configuration and the rules of deploy/prometheus. It looks once a second.
export class Prometheus {
  static async start(targets) {
    const prometheus = new Prometheus();
    prometheus.port = await freePort();
    const dir = scratch();
    mkdirSync(`${dir}/rules`);
    writeFileSync(
      `${dir}/prometheus.yml`,
      shipped("prometheus/prometheus.yml", [
        ["interval: 15s", "interval: 1s", 2],
        ["[edge-1:9464, edge-2:9464, edge-3:9464]", JSON.stringify(targets)],
      ]),
    );
    for (const name of names("prometheus/rules", ".yml")) {
      writeFileSync(`${dir}/rules/${name}`, shipped(`prometheus/rules/${name}`, name === "edge-recording.yml" ? [["interval: 2m", "interval: 1s"]] : []));
    }
    prometheus.child = new Child("prometheus", program("prometheus"), [
      `--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=127.0.0.1:${prometheus.port}`, "--log.level=warn",
    ], {});
    await eventually("prometheus to be ready", async () => {
      if (prometheus.child.exit) throw new Error(`prometheus ended\n${prometheus.child.log()}`);
      return (await fetch(`${prometheus.url}/-/ready`).catch(() => ({}))).ok;
    }, { detail: () => prometheus.child.log() });
    return prometheus;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  // ask calls the HTTP API and returns its data.
  async ask(path, params = {}) {
    const response = await fetch(`${this.url}/api/v1/${path}`, { method: "POST", body: new URLSearchParams(params), signal: AbortSignal.timeout(10_000) });
    const answer = await response.json();
    if (answer.status !== "success") throw new Error(`${path} ${params.query}: ${answer.error}`);
    return answer.data;
  }

  // values are the present values of a query's series, NaN for those without one.
  async values(query) {
    const { resultType, result } = await this.ask("query", { query });
    return resultType === "scalar" ? [Number(result[1])] : result.map(({ value }) => Number(value[1]));
  }

  // rules are all rules with their health and what they last said.
  async rules() {
    const response = await fetch(`${this.url}/api/v1/rules`);
    return (await response.json()).data.groups.flatMap(({ rules }) => rules);
  }

  stop() {
    return this.child.stop();
  }
}

// substituted is a query as Grafana asks it, for all nodes.
export function substituted(expr) {
  const variables = { job: "edge", instance: ".*", __rate_interval: "15s", __range: "5m" };
  return expr.replace(/\$(\w+)/g, (whole, name) => {
    if (!(name in variables)) throw new Error(`${whole} in ${expr}`);
    return variables[name];
  });
}

// panels are all panels with queries, each with the dashboard's title before its own.
export function panels() {
  return names("grafana/dashboards", ".json").flatMap((name) => {
    const dashboard = JSON.parse(readFileSync(`${deploy}/grafana/dashboards/${name}`, "utf8"));
    return dashboard.panels.filter(({ type }) => type !== "row").map((panel) => ({
      ...panel, where: `${dashboard.title}, ${panel.title}`, queries: panel.targets.map(({ expr, legendFormat }) => ({ expr: substituted(expr), legendFormat })),
    }));
  });
}

// annotations are the queries of the marks that dashboards draw.
export function annotations() {
  return names("grafana/dashboards", ".json").flatMap((name) =>
    JSON.parse(readFileSync(`${deploy}/grafana/dashboards/${name}`, "utf8")).annotations.list.filter(({ expr }) => expr).map(({ expr }) => substituted(expr)));
}
