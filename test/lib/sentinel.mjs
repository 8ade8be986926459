// A Redis master with a replica, and three sentinels that watch them.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { connected } from "../fixtures/node-server.mjs";
import { Child, freePort, Redis } from "./process.mjs";
import { eventually } from "./wait.mjs";

const NAME = "main";

// Watched is started with two servers; master is the one that the sentinels name.
export class Watched {
  sentinels = []; // {port, child, client}

  static async start() {
    const watched = new Watched();
    watched.dir = await mkdtemp(join(tmpdir(), "edge-sentinels-"));
    const alone = ["--dir", watched.dir]; // a replica writes what its master sends into a file, from which no other server must start
    const first = await Redis.start(...alone, "--dbfilename", "first.rdb");
    const second = await Redis.start(...alone, "--dbfilename", "second.rdb", "--replicaof", `127.0.0.1 ${first.port}`, "--repl-diskless-sync-delay", "0");
    watched.servers = [first, second];
    for (let i = 0; i < 3; i++) await watched.#sentinel(first.port);
    await watched.whole();
    return watched;
  }

  async #sentinel(masterPort) {
    const port = await freePort();
    const config = join(this.dir, `${port}.conf`);
    const lines = [`port ${port}`, "bind 127.0.0.1", `dir ${this.dir}`, `sentinel monitor ${NAME} 127.0.0.1 ${masterPort} 2`];
    lines.push(`sentinel down-after-milliseconds ${NAME} 1000`, `sentinel failover-timeout ${NAME} 10000`);
    await writeFile(config, `${lines.join("\n")}\n`);
    const child = new Child("sentinel", process.env.REDIS_SERVER ?? "redis-server", [config, "--sentinel"], {});
    await eventually("a sentinel to run", () => child.lines.some((line) => line.includes("+monitor")), { detail: () => child.log() });
    this.sentinels.push({ port, child, client: await connected(`redis://127.0.0.1:${port}`) });
  }

  get url() {
    return `redis-sentinel://${this.sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")}/${NAME}`;
  }

  // whole waits until each sentinel sees the master, one replica of it and the two other sentinels, all of them alive.
  async whole() {
    for (const { client } of this.sentinels) {
      const answers = (command) => client.sendCommand(["SENTINEL", command, NAME]).then((list) => list.map(table));
      await eventually("the sentinels to see all servers", async () => {
        const master = table(await client.sendCommand(["SENTINEL", "MASTER", NAME]));
        const replicas = await answers("REPLICAS");
        const others = await answers("SENTINELS");
        const alive = replicas.length === 1 && replicas[0].flags === "slave" && replicas[0]["master-link-status"] === "ok";
        return master.flags === "master" && alive && others.length === 2;
      }, { deadline: 40_000 }); // a deposed master is told to follow after 10 s
    }
  }

  // master is the server that all sentinels name, undefined while they differ.
  async master() {
    const ports = new Set();
    for (const { client } of this.sentinels) ports.add(Number((await client.sendCommand(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]))[1]));
    return ports.size === 1 ? this.servers.find(({ port }) => ports.has(port)) : undefined;
  }

  // becomes waits until another server than this one is the master, and returns it.
  becomes(other) {
    return eventually("another master", async () => {
      const master = await this.master();
      return master !== undefined && master !== other && master;
    }, { deadline: 30_000 });
  }

  // failover has the replica take over from a master that lives.
  failover() {
    return this.sentinels[0].client.sendCommand(["SENTINEL", "FAILOVER", NAME]);
  }

  async stop() {
    for (const { client, child } of this.sentinels) {
      await client.disconnect();
      await child.stop();
    }
    for (const server of this.servers) await server.down();
    await rm(this.dir, { recursive: true });
  }
}

// table is a flat list of names and values as an object.
function table(list) {
  if (!Array.isArray(list)) return list;
  return Object.fromEntries(Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]]));
}
