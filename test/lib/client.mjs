// An unmodified socket.io-client and what it received.
import assert from "node:assert/strict";
import { io } from "socket.io-client";

import { DEADLINE, Inbox, unique, within } from "./wait.mjs";

// With connection state recovery every event without an acknowledgement ends with an offset.
const offset = /^[\w-]{8}\.\d+-\d+$/;

// withoutOffset is an event [name, ...args] without the offset at its end, if it has one.
export function withoutOffset(event) {
  return event.length > 1 && typeof event.at(-1) === "string" && offset.test(event.at(-1)) ? event.slice(0, -1) : event;
}

// Client wraps one socket.io-client socket on its own connection.
export class Client {
  events = new Inbox(); // [name, ...args] of every event
  lifecycle = new Inbox(); // ["connect", id], ["disconnect", reason], ["connect_error", error]

  constructor(url, { userId = unique("user"), auth = { userId }, namespace = "", ...options } = {}) {
    this.userId = userId;
    this.socket = io(url + namespace, {
      transports: ["websocket"],
      forceNew: true,
      reconnection: false,
      auth,
      ...options,
    });
    this.socket.onAny((...event) => this.events.push(withoutOffset(event)));
    this.socket.on("connect", () => this.lifecycle.push(["connect", this.socket.id]));
    this.socket.on("disconnect", (reason) => this.lifecycle.push(["disconnect", reason]));
    this.socket.on("connect_error", (error) => this.lifecycle.push(["connect_error", error]));
  }

  get id() {
    return this.socket.id;
  }

  // connected waits for the socket's nth connect.
  connected(n = 1) {
    return this.lifecycle.until(`connect ${n} of ${this.userId}`, () => {
      const refused = this.lifecycle.items.find(([what]) => what === "connect_error");
      if (refused && !this.socket.io.reconnection()) throw new Error(`connect_error: ${refused[1].message}`, { cause: refused[1] });
      return this.lifecycle.items.filter(([what]) => what === "connect").length >= n ? this : undefined;
    });
  }

  // refused waits for connect_error and returns the error.
  async refused() {
    const [, error] = await this.lifecycle.wait("connect_error", ([what]) => what === "connect_error");
    return error;
  }

  // disconnected waits for a disconnect and returns its reason.
  async disconnected() {
    const [, reason] = await this.lifecycle.wait(`disconnect of ${this.userId}`, ([what]) => what === "disconnect");
    return reason;
  }

  // request sends an event and returns what it was acknowledged with.
  async request(event, ...args) {
    const [err, answer] = await new Promise((resolve) => {
      this.socket.timeout(DEADLINE).emit(event, ...args, (...result) => resolve(result));
    });
    if (err) throw new Error(`no acknowledgement of ${event} within ${DEADLINE} ms (connected: ${this.socket.connected})`);
    return answer;
  }

  // ok is request for what must succeed.
  async ok(event, ...args) {
    const answer = await this.request(event, ...args);
    assert.equal(answer?.ok, true, `${event} was answered ${JSON.stringify(answer)}`);
    return answer;
  }

  // fails is request for what must be answered {ok: false, code, error}; code is compared.
  async fails(code, event, ...args) {
    const answer = await this.request(event, ...args);
    assert.equal(answer?.ok, false, `${event} was answered ${JSON.stringify(answer)}, expected code ${code}`);
    assert.equal(answer.code, code, `${event} was answered ${JSON.stringify(answer)}`);
    assert.ok(typeof answer.error === "string" && answer.error !== "", `no error text: ${JSON.stringify(answer)}`);
    return answer;
  }

  join(room) {
    return this.ok("join", room);
  }

  // message waits for the first `message` of a room that matches; returns [room, meta, ...args].
  async message(room, matches = () => true) {
    const event = await this.events.wait(`message of ${room} at ${this.userId}`, ([name, r, , ...args]) => name === "message" && r === room && matches(...args));
    return event.slice(1);
  }

  // messages are the arguments of a room's messages so far, each [from, ...args].
  messages(room) {
    return this.events.items.filter(([name, r]) => name === "message" && r === room).map(([, , meta, ...args]) => [meta.from, ...args]);
  }

  // allMessages waits until n messages of a room have arrived and returns them as messages does.
  async allMessages(room, n) {
    await this.events.count(`message of ${room} at ${this.userId}`, n, ([name, r]) => name === "message" && r === room, 2 * DEADLINE);
    return this.messages(room);
  }

  // presence waits for a presence update of a room that matches.
  async presence(what, room, matches) {
    const [, update] = await this.events.wait(`presence update of ${room} with ${what} at ${this.userId}`, ([name, u]) => name === "presence" && u.room === room && matches(u));
    return update;
  }

  // moveTo lets the next reconnection go to another node.
  moveTo(url) {
    this.socket.io.uri = url;
  }

  // drop ends the connection as a lost network does, for the client: it comes back by itself.
  drop() {
    this.socket.io.engine.close();
  }

  close() {
    this.socket.io.reconnection(false);
    this.socket.close();
  }
}

// connect returns a connected client that is closed when the test ends.
export async function connect(t, url, options) {
  const client = open(t, url, options);
  await within(`${client.userId} to connect to ${url}`, client.connected());
  return client;
}

// open returns a client that has begun to connect, closed when the test ends.
export function open(t, url, options) {
  const client = new Client(url, options);
  t.after(() => client.close());
  return client;
}

// everywhere connects one client to each node and joins them all to the room.
export async function everywhere(t, cluster, room) {
  const clients = await Promise.all(cluster.urls.map((url) => connect(t, url)));
  await Promise.all(clients.map((client) => client.join(room)));
  return clients;
}
