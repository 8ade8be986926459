// A WebSocket client that knows no Engine.IO: for what an unmodified client never sends.
import { once } from "node:events";
import { createRequire } from "node:module";
import net from "node:net";

import { Inbox, within } from "./wait.mjs";

// The WebSocket library that the official client itself uses.
const require = createRequire(import.meta.url);
const WebSocket = createRequire(require.resolve("engine.io-client"))("ws");

// Raw is one WebSocket whose text and binary messages are kept.
export class Raw {
  frames = new Inbox(); // strings and Buffers
  closed = null; // close code, once closed
  refusal = null; // {status, text}, once the handshake was refused

  // Options that are not named here are those of ws.
  constructor(t, url, { query = "EIO=4&transport=websocket", path = "/socket.io/", ...options } = {}) {
    this.ws = new WebSocket(`${url.replace(/^http/, "ws")}${path}?${query}`, options);
    t.after(() => this.ws.terminate());
    this.ws.on("message", (data, binary) => this.frames.push(binary ? data : data.toString()));
    this.ws.on("error", () => {}); // "close" follows and is what tests look at
    this.ws.on("unexpected-response", async (_, response) => {
      let text = "";
      for await (const part of response.setEncoding("utf8")) text += part;
      this.refusal = { status: response.statusCode, text };
      this.ws.terminate();
    });
    this.opening = new Promise((resolve) => this.ws.once("open", resolve));
    this.closing = new Promise((resolve) => {
      this.ws.once("close", (code) => {
        this.closed = code;
        resolve(code);
      });
    });
  }

  // answered waits for the answer to the handshake and tells whether it was 101.
  async answered() {
    await within("an answer to the WebSocket handshake", Promise.race([this.opening, this.closing]));
    return !this.refusal && this.closed === null;
  }

  // handshake waits for the open packet and returns its content.
  async handshake() {
    const frame = await this.frames.wait("the Engine.IO open packet", (f) => typeof f === "string" && f.startsWith("0"));
    return JSON.parse(frame.slice(1));
  }

  // connect joins the namespace "/" and returns the socket id.
  async connect(auth) {
    await this.handshake();
    this.ws.send(`40${auth ? JSON.stringify(auth) : ""}`);
    const frame = await this.frames.wait("the CONNECT reply", (f) => typeof f === "string" && f.startsWith("40"));
    return JSON.parse(frame.slice(2)).sid;
  }

  send(data) {
    this.ws.send(data);
  }

  // closeCode waits until the server has closed the connection.
  closeCode(what = "the server to close the connection") {
    return within(what, this.closing);
  }

  // socket is the TCP connection below, for bytes that are no WebSocket frame.
  get socket() {
    return this.ws._socket;
  }
}

// raw returns an open WebSocket.
export async function raw(t, url, options) {
  const r = new Raw(t, url, options);
  await r.handshake();
  return r;
}

// tcp returns a bare TCP connection to a node.
export async function tcp(t, address) {
  const [host, port] = address.split(":");
  const socket = net.connect(Number(port), host);
  t.after(() => socket.destroy());
  socket.on("error", () => {});
  await within(`a TCP connection to ${address}`, once(socket, "connect"));
  return socket;
}

// drained reads a TCP connection until the server ends it and returns the text.
export async function drained(socket) {
  let text = "";
  socket.on("data", (data) => (text += data.toString("latin1")));
  await within("the server to end the connection", once(socket, "close"));
  return text;
}
