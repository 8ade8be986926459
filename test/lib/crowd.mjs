// A crowd: many unmodified clients in processes of their own, a witness in each of their rooms, and the comparison of
// what they received.
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { connect } from "./client.mjs";
import { DEADLINE, eventually, unique, within } from "./wait.mjs";

const script = fileURLToPath(new URL("../fixtures/crowd.mjs", import.meta.url));
const PATIENCE = 4 * DEADLINE; // for what hundreds of clients do

// Crowd is the clients of one case.
export class Crowd {
  #workers = [];
  #asked = new Map(); // id of a question → {resolve, reject}
  #questions = 0;

  // gather starts the processes and a witness for each room, connected to a node and not through a balancer: it is there
  // before all others, so that its list of the room's messages is whole.
  static async gather(t, { nodes, size, perRoom = 25, processes = 2, far = false }) {
    const crowd = new Crowd();
    crowd.rooms = Array.from({ length: Math.ceil(size / perRoom) }, () => unique("room"));
    crowd.witnesses = await Promise.all(crowd.rooms.map((_, i) => connect(t, nodes[i % nodes.length].url)));
    await Promise.all(crowd.witnesses.map((witness, i) => witness.join(crowd.rooms[i])));
    // Neighbours in time are in different rooms, so rooms fill while they talk. With far each has an address of its own,
    // in a network of its own.
    crowd.list = Array.from({ length: size }, (_, i) => ({
      user: unique("user"), room: crowd.rooms[i % crowd.rooms.length], ...(far && { address: `127.0.${1 + (i % 250)}.${1 + Math.floor(i / 250)}` }),
    }));
    for (let i = 0; i < processes; i++) crowd.#workers.push(crowd.#worker());
    t.after(() => {
      for (const worker of crowd.#workers) worker.kill("SIGKILL");
    });
    return crowd;
  }

  #worker() {
    const worker = fork(script, { serialization: "advanced" });
    worker.on("exit", (code, signal) => {
      for (const { reject } of this.#asked.values()) reject(new Error(`a process of the crowd ended: ${signal ?? code}`));
      this.#asked.clear();
    });
    worker.on("message", ({ id, result, error }) => {
      const { resolve, reject } = this.#asked.get(id) ?? {};
      if (!this.#asked.delete(id)) return; // another process has ended meanwhile
      if (error) reject(new Error(error));
      else resolve(result);
    });
    return worker;
  }

  // ask lets every process do a task and returns their results.
  async ask(task, args) {
    const share = (i) => (args?.list ? { ...args, list: args.list.filter((_, n) => n % this.#workers.length === i) } : args);
    const answers = this.#workers.map((worker, i) => new Promise((resolve, reject) => {
      const id = ++this.#questions;
      this.#asked.set(id, { resolve, reject });
      worker.send({ id, task, args: share(i) }, (err) => err && reject(err));
    }));
    try {
      return await within(`the crowd to ${task}`, Promise.all(answers), PATIENCE);
    } catch (err) {
      if (task === "states") throw err;
      const odd = faulty(await this.states());
      throw new Error(`${err.message}\n${odd}`, { cause: err });
    }
  }

  // connect connects all members through url and joins them to their rooms. Each sends `times` messages from its join on.
  connect({ url, times = 0, pause = 10, rate, transports, options }) {
    return this.ask("connect", { list: this.list, url, times, pause, rate, transports, options });
  }

  // use waits until all members use a transport.
  use(transport) {
    return this.ask("until", { transport });
  }

  async states() {
    return (await this.ask("states")).flat();
  }

  // fence lets the witnesses send a text of its own and waits until every member has it: all before it has come, too.
  async fence() {
    const value = unique("fence");
    await Promise.all(this.witnesses.map((witness, i) => witness.ok("message", this.rooms[i], value)));
    await this.ask("until", { value });
    await Promise.all(this.witnesses.map((witness, i) => witness.message(this.rooms[i], (what) => what === value)));
  }

  // narrate lets each witness send n numbers to its room, from `first` on.
  async narrate(n, first = 0) {
    await Promise.all(this.witnesses.map(async (witness, i) => {
      for (let k = first; k < first + n; k++) await witness.ok("message", this.rooms[i], k);
    }));
  }

  // calm checks that no member saw an error or a disconnect, and that all use the transport.
  async calm(transport) {
    const odd = faulty(await this.states(), (s) => s.recovered.length !== 1 || s.transport !== transport);
    assert.equal(odd, "");
  }

  // exact checks, after a fence, that every member has received every message from its own first one on, or from before
  // it, once and in the order in which its witness has it. It returns how many messages that were. With `unsure` messages
  // of members may be missing everywhere: they were lost with a connection on their way to a node.
  async exact({ unsure = false } = {}) {
    let deliveries = 0;
    const logs = (await this.ask("logs")).flat();
    assert.equal(logs.length, this.list.length);
    for (const [i, room] of this.rooms.entries()) {
      const all = this.witnesses[i].messages(room).map(([from, value]) => `${from} ${value}`);
      assert.equal(new Set(all).size, all.length, `a message came twice to the witness of ${room}`);
      for (const { user, log } of logs.filter((l) => l.room === room)) {
        const own = all.filter((line) => line.startsWith(`${user} `));
        if (!unsure) assert.deepEqual(own, own.map((_, n) => `${user} ${n}`), `the witness of ${room} has of ${user}`);
        const due = own.length ? all.length - all.indexOf(own[0]) : 1;
        const want = all.slice(-Math.max(due, log.length));
        const same = log.length === want.length && log.every((line, k) => line === want[k]);
        if (!same) assert.fail(`${user} of ${room} has ${log.length} messages, ${due} or more are due: ${difference(want, log)}`);
        deliveries += log.length;
      }
    }
    return deliveries;
  }
}

// narrating lets the witnesses of some crowds send numbers, one after the other, until act has ended. act gets a function
// that waits until so many have been sent to each room.
export async function narrating(crowds, act) {
  let over = false;
  let sent = 0;
  const talking = (async () => {
    for (; !over; sent++) {
      await Promise.all(crowds.map((crowd) => crowd.narrate(1, sent)));
      await delay(5); // a rate, not a wait
    }
  })();
  try {
    await act((n) => eventually(`${n} messages to be sent`, () => sent >= n));
  } finally {
    over = true;
  }
  await talking;
}

// faulty describes the members that are not connected, or saw an error or a disconnect, or are wrong; "" without any.
function faulty(states, wrong = () => false) {
  const odd = states.filter((s) => !s.connected || s.errors.length || s.disconnects.length || wrong(s));
  if (odd.length === 0) return "";
  const some = odd.slice(0, 5).map((s) => JSON.stringify({ ...s, errors: s.errors.slice(0, 3), disconnects: s.disconnects.slice(0, 3) }));
  return `${odd.length} of ${states.length} members with faults, such as\n  ${some.join("\n  ")}`;
}

// difference says in a line what is wrong with a list.
function difference(due, log) {
  const twice = log.filter((line, i) => log.indexOf(line) !== i);
  const lacking = due.filter((line) => !log.includes(line));
  return `lacks ${lacking.length} ${JSON.stringify(lacking.slice(0, 5))}, twice ${twice.length} ${JSON.stringify(twice.slice(0, 5))}, else out of order`;
}

// sum is the sum of all series of a metric over nodes, or of one series if the labels are given.
export async function sum(nodes, name) {
  let total = 0;
  for (const metrics of await Promise.all(nodes.map((node) => node.metrics()))) {
    const found = [...metrics].filter(([series]) => series === name || series.startsWith(`${name}{`));
    assert.ok(found.length > 0, `no metric ${name}`);
    for (const [, value] of found) total += value;
  }
  return total;
}

// settled waits until no node holds a WebSocket for another, and returns how long that took in milliseconds.
export async function settled(nodes) {
  const begin = Date.now();
  await eventually("all conns to be where their WebSockets are", async () => (await sum(nodes, "edge_relayed_websockets")) === 0);
  return Date.now() - begin;
}
