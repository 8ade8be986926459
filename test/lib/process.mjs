// Child processes of the tests: redis-server and edge. Whatever a test file starts ends with it, by process id, also
// when the file fails or is interrupted.
import { spawn } from "node:child_process";
import net from "node:net";
import { tmpdir } from "node:os";

import { DEADLINE, eventually } from "./wait.mjs";

const running = new Map(); // process → the signal that ends it

process.on("exit", () => {
  for (const [child, signal] of running) child.kill(signal);
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

// The ports of the tests' servers lie below the range that the kernel gives to outgoing connections, so that no client takes
// one before the server that was given it. Each process of the tests has a block of them to itself while it runs: whoever
// listens on the first port of a block owns the block. internal/port does the same for the Go tests.
const [LOWEST, HIGHEST, BLOCK] = [11_000, 32_000, 300]; // fetch refuses 10080
let block; // the promise of this process's, once it is asked for one
let handed = 0;

async function ownBlock() {
  const blocks = Math.floor((HIGHEST - LOWEST) / BLOCK);
  const start = Math.floor(Math.random() * blocks);
  for (let i = 0; i < blocks; i++) {
    const first = LOWEST + ((start + i) % blocks) * BLOCK;
    const owner = await bound(first);
    if (!owner) continue;
    owner.unref();
    return first;
  }
  throw new Error(`no free block of ports between ${LOWEST} and ${HIGHEST}`);
}

// freePort returns a TCP port that nothing listens on and that nobody else is given.
export async function freePort() {
  const first = await (block ??= ownBlock());
  for (let i = 1; i < BLOCK; i++) {
    const port = first + 1 + (handed++ % (BLOCK - 1));
    if (await portIsFree(port)) return port;
  }
  throw new Error(`all ports from ${first} to ${first + BLOCK - 1} are taken`);
}

// portIsFree tells whether 127.0.0.1:port can be bound, by binding it for a moment. Ask accepts whether a server listens
// yet: this would take its port just when it wants it.
export async function portIsFree(port) {
  const server = await bound(port);
  if (server) await new Promise((resolve) => server.close(resolve));
  return server !== undefined;
}

// bound is a server on 127.0.0.1:port, undefined when the port is taken.
function bound(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

// accepts tells whether somebody accepts connections on 127.0.0.1:port.
export function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("error", () => resolve(false));
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

// Child is a running process whose output is kept line by line.
export class Child {
  lines = []; // stdout and stderr, interleaved as they arrived
  exit = null; // {code, signal} once the process has ended and its output is complete

  // last is the signal that ends it for good: SIGTERM for a program that must end processes of its own.
  constructor(name, command, args, env, { last = "SIGKILL" } = {}) {
    this.name = name;
    this.last = last;
    this.process = spawn(command, args, {
      env: { PATH: process.env.PATH, HOME: process.env.HOME ?? "/", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.set(this.process, last);
    for (const stream of [this.process.stdout, this.process.stderr]) this.#keep(stream);
    this.exited = new Promise((resolve) => {
      const done = (code, signal) => {
        running.delete(this.process);
        this.exit ??= { code, signal };
        resolve(this.exit);
      };
      this.process.once("close", done);
      this.process.once("error", (err) => {
        this.lines.push(`${command}: ${err.message}`);
        done(-1, null);
      });
    });
  }

  #keep(stream) {
    let rest = "";
    stream.setEncoding("utf8");
    stream.on("data", (text) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop();
      this.lines.push(...parts);
    });
    stream.on("end", () => rest && this.lines.push(rest));
  }

  // log is the end of the output, for failure messages.
  log() {
    return `--- output of ${this.name}${this.exit ? ` (ended: ${JSON.stringify(this.exit)})` : ""}\n${this.lines.slice(-40).join("\n")}\n---`;
  }

  signal(name) {
    this.process.kill(name);
  }

  // ended waits until the process has ended by itself or by a signal sent before; returns {code, signal}.
  ended(what = `${this.name} to end`) {
    return eventually(what, () => this.exit, { detail: () => this.log() });
  }

  // stop ends the process at once.
  async stop() {
    if (!this.exit) this.process.kill(this.last);
    await this.exited;
  }
}

// Redis is a redis-server of the test's own, without persistence, that can be killed and started again on its port.
export class Redis {
  // args are further arguments of redis-server.
  static async start(...args) {
    const redis = new Redis();
    redis.args = args;
    redis.port = await freePort();
    await redis.up();
    return redis;
  }

  // reserve names a port for a Redis that does not run yet; up starts it.
  static async reserve() {
    const redis = await Redis.start();
    await redis.down();
    return redis;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async up() {
    // No file: a replica that kept what it was sent would leave it to every Redis that starts after it.
    const nothing = ["--save", "", "--appendonly", "no", "--repl-diskless-load", "swapdb", "--dir", tmpdir(), "--dbfilename", "edge-is-never-saved.rdb"];
    const args = ["--port", String(this.port), "--bind", "127.0.0.1", ...nothing, ...this.args];
    this.child = new Child("redis-server", process.env.REDIS_SERVER ?? "redis-server", args, {});
    await eventually(
      "redis-server to accept connections",
      () => {
        if (this.child.exit) throw new Error(`redis-server ended\n${this.child.log()}`);
        return this.child.lines.some((line) => line.includes("Ready to accept connections"));
      },
      { detail: () => this.child.log() },
    );
  }

  // down kills it: no goodbye to its clients, nothing saved.
  async down() {
    await this.child.stop();
  }
}

// Edge is one node. Without `waitReady: false` start returns when /readyz answers 200.
export class Edge {
  static async start(env = {}, { waitReady = true } = {}) {
    const edge = new Edge();
    edge.env = {
      LISTEN_ADDR: `127.0.0.1:${await freePort()}`,
      ADMIN_ADDR: `127.0.0.1:${await freePort()}`,
      PEER_ADDR: "127.0.0.1:0", // nodes of one host must not want the same port
      DRAIN_DELAY: "0s", // no balancer is waited for, unless a test has one
      DRAIN_WINDOW: "0s",
      ...env,
    };
    for (const [name, value] of Object.entries(edge.env)) if (value === undefined) delete edge.env[name];
    edge.child = new Child("edge", ...command(), edge.env);
    if (waitReady) await edge.ready();
    return edge;
  }

  get address() {
    return this.env.LISTEN_ADDR ?? "127.0.0.1:3000";
  }
  get url() {
    return `http://${this.address}`;
  }
  get admin() {
    return `http://${this.env.ADMIN_ADDR ?? "127.0.0.1:9464"}`;
  }

  // readiness is the status and text of /readyz on the admin listener, {status: 0} while nothing listens there.
  async readiness() {
    return get(`${this.admin}/readyz`);
  }

  async ready() {
    await this.readinessIs(200);
  }

  async readinessIs(status, options = {}) {
    let last;
    await eventually(
      `/readyz of the edge at ${this.address} to answer ${status}`,
      async () => {
        if (this.child.exit) throw new Error(`the edge ended instead of answering /readyz with ${status}\n${this.child.log()}`);
        last = await this.readiness();
        return last.status === status;
      },
      { detail: () => `last answer: ${JSON.stringify(last)}\n${this.child.log()}`, ...options },
    );
  }

  // metrics scrapes once and returns the value of every series by its name, e.g. `edge_closes_total{reason="gap"}`.
  async metrics() {
    const { status, text } = await get(`${this.admin}/metrics`);
    if (status !== 200) throw new Error(`/metrics answered ${status}: ${text}`);
    return new Map([...text.matchAll(/^([^#\s].*) (\S+)$/gm)].map(([, series, value]) => [series, Number(value)]));
  }

  // metric is the value of one series, undefined when it is absent.
  async metric(series) {
    return (await this.metrics()).get(series);
  }

  async stop() {
    await this.child.stop();
  }
}

// command is how an edge is started, EDGE_BIN, a program or a Node script, with flags.
export function command(...flags) {
  const bin = process.env.EDGE_BIN;
  if (!bin) throw new Error("EDGE_BIN is not set: build one with `go build -o bin/edge ./cmd/edge` and name its absolute path");
  return bin.endsWith(".mjs") ? [process.execPath, [bin, ...flags]] : [bin, flags];
}

// get fetches a URL; a refused connection is status 0.
export async function get(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(DEADLINE) });
    return { status: response.status, text: await response.text(), headers: response.headers };
  } catch (err) {
    return { status: 0, text: String(err.cause ?? err) };
  }
}

// Cluster is one Redis and some nodes on it. SUBSCRIPTIONS of the test's own environment is passed on to them: the driver
// runs some files once for each of its values.
export class Cluster {
  nodes = [];

  static async start(count = 3, env = {}) {
    const cluster = new Cluster();
    cluster.redis = await Redis.start();
    cluster.env = { AUTH: "none", REDIS_URL: cluster.redis.url, SUBSCRIPTIONS: process.env.SUBSCRIPTIONS ?? "exact", ...env };
    cluster.nodes = await Promise.all(Array.from({ length: count }, () => Edge.start(cluster.env)));
    return cluster;
  }

  get urls() {
    return this.nodes.map((node) => node.url);
  }

  // add starts one more node.
  async add(env = {}) {
    const node = await Edge.start({ ...this.env, ...env });
    this.nodes.push(node);
    return node;
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.stop()));
    await this.redis.down();
  }
}
