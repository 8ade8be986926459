// The conformance servers of test/conformance, started on a port of their own, and a long-polling client that knows no
// library.
import { Child } from "./process.mjs";
import { DEADLINE, eventually } from "./wait.mjs";

// Conformance is one running server: "websocket", "protocol" or "client".
export class Conformance {
  static async start(name, ...flags) {
    const bin = process.env.CONFORMANCE_BIN;
    if (!bin) throw new Error("CONFORMANCE_BIN is not set: build one with `go build -o bin/conformance ./test/conformance` and name its absolute path");
    const server = new Conformance();
    server.child = new Child(`conformance ${name}`, bin, [name, "-addr", "localhost:0", ...flags], {});
    await eventually(
      `the ${name} server to listen`,
      () => {
        if (server.child.exit) throw new Error(`the ${name} server ended\n${server.child.log()}`);
        return server.addresses.length > 0;
      },
      { detail: () => server.child.log() },
    );
    server.url = `http://${server.addresses[0]}`;
    return server;
  }

  // addresses are those it said that it listens on.
  get addresses() {
    return this.child.lines.map((line) => / server on (\S+)$/.exec(line)?.[1]).filter(Boolean);
  }

  stop() {
    return this.child.stop();
  }
}

// Poller is one polling session. base is the address with the path, such as http://127.0.0.1:3000/engine.io/.
export class Poller {
  constructor(base, sid) {
    this.base = base;
    this.sid = sid;
  }

  // open opens a session and returns its poller; the open packet's content is kept as `handshake`.
  static async open(base) {
    const poller = new Poller(base);
    const { status, text } = await poller.get();
    if (status !== 200 || text[0] !== "0") throw new Error(`opening a session was answered ${status} ${text}`);
    poller.handshake = JSON.parse(text.slice(1));
    poller.sid = poller.handshake.sid;
    return poller;
  }

  request(method, body, headers = {}) {
    return request(`${this.base}?EIO=4&transport=polling${this.sid ? `&sid=${this.sid}` : ""}`, method, body, headers);
  }

  // get polls once.
  get() {
    return this.request("GET");
  }

  // post sends a payload.
  post(body, headers) {
    return this.request("POST", body, headers);
  }

  // packets polls until n packets have come; pings are answered and not counted.
  async packets(n) {
    const packets = [];
    while (packets.length < n) {
      const { status, text } = await this.get();
      if (status !== 200) throw new Error(`a poll was answered ${status} ${text} after ${JSON.stringify(packets)}`);
      for (const packet of text.split("\u001e")) {
        if (packet === "2") await this.post("3");
        else packets.push(packet);
      }
    }
    return packets;
  }
}

// request makes one HTTP request; a connection that fails is status 0.
export async function request(url, method = "GET", body = undefined, headers = {}) {
  try {
    const response = await fetch(url, { method, body, headers, signal: AbortSignal.timeout(DEADLINE) });
    return { status: response.status, text: await response.text(), headers: response.headers };
  } catch (err) {
    return { status: 0, text: String(err.cause ?? err), headers: new Headers() };
  }
}
