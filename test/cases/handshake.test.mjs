// The front door: what is refused, and what a client can do to itself but not to others.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import http from "node:http";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Cluster, get } from "../lib/process.mjs";
import { drained, raw, Raw, tcp } from "../lib/raw.mjs";
import { unique } from "../lib/wait.mjs";

const cluster = await Cluster.start(1);
const [node] = cluster.nodes;
after(() => cluster.stop());

// engineError requests a path and compares the answer with an Engine.IO error.
async function engineError(path, code, message, status = 400) {
  const answer = await get(node.url + path);
  assert.equal(answer.status, status, answer.text);
  assert.deepEqual(JSON.parse(answer.text), { code, message });
  assert.match(answer.headers.get("content-type"), /^application\/json/);
}

// upgrade sends a WebSocket handshake that must be refused before 101 and returns {status, body}.
function upgrade(query, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.get(`${node.url}/socket.io/?${query}`, {
      headers: { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": randomBytes(16).toString("base64"), ...headers },
    });
    request.on("upgrade", (response, socket) => {
      socket.destroy();
      reject(new Error(`${query} was upgraded`));
    });
    request.on("response", (response) => {
      let body = "";
      response.on("data", (data) => (body += data));
      response.on("end", () => resolve({ status: response.statusCode, body }));
    });
    request.on("error", reject);
  });
}

// unharmed runs what one client does to the server and checks that another keeps its connection and its messages.
async function unharmed(t, attack) {
  const room = unique("room");
  const healthy = await connect(t, node.url);
  await healthy.join(room);
  await healthy.ok("message", room, "before");
  await attack();
  await healthy.ok("message", room, "after");
  await healthy.message(room, (text) => text === "after");
  assert.deepEqual(healthy.messages(room), [
    [healthy.userId, "before"],
    [healthy.userId, "after"],
  ]);
  assert.deepEqual(healthy.lifecycle.items.map(([what]) => what), ["connect"]);
}

test("an unknown transport is Engine.IO error 0", async () => {
  await engineError("/socket.io/?EIO=4&transport=smoke", 0, "Transport unknown");
  await engineError("/socket.io/?EIO=4", 0, "Transport unknown");
});

test("another protocol revision is refused as Engine.IO error 5, before a WebSocket is opened", async () => {
  for (const eio of ["EIO=3", "EIO=5", ""]) {
    const { status, body } = await upgrade(`${eio}&transport=websocket`);
    assert.equal(status, 400);
    assert.match(body, /Unsupported protocol version/);
  }
});

test("the polling transport answers, with a session or with an Engine.IO error in JSON", async () => {
  for (const [eio, code] of [[4, null], [3, 5]]) {
    const answer = await get(`${node.url}/socket.io/?EIO=${eio}&transport=polling`);
    if (code === null && answer.status === 200) {
      assert.match(answer.text, /^0\{"sid":/);
      continue;
    }
    assert.equal(answer.status, 400, answer.text);
    assert.match(answer.headers.get("content-type"), /^application\/json/);
    const error = JSON.parse(answer.text);
    const allowed = code === null ? [0] : [0, code]; // 0: the transport is looked at first, and may be switched off
    assert.ok(allowed.includes(error.code) && typeof error.message === "string", answer.text);
  }
});

test("a plain request for the WebSocket transport is Engine.IO error 3", async () => {
  await engineError("/socket.io/?EIO=4&transport=websocket", 3, "Bad request");
});

test("an unknown session is refused", async () => {
  const { status, body } = await upgrade("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA");
  assert.deepEqual({ status, body }, { status: 400, body: "Session ID unknown" });
  await engineError("/socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA", 1, "Session ID unknown");
});

test("a handshake of an old WebSocket version, or without a key, is refused", async () => {
  for (const headers of [{ "Sec-WebSocket-Version": "7" }, { "Sec-WebSocket-Key": "short" }]) {
    const { status } = await upgrade("EIO=4&transport=websocket", headers);
    assert.ok(status >= 400 && status < 500, `status ${status}`);
  }
});

test("other paths are not found", async () => {
  for (const path of ["/", "/socket.io", "/engine.io/?EIO=4&transport=websocket", "/metrics"]) {
    assert.equal((await get(node.url + path)).status, 404, path);
  }
});

test("health is answered on both listeners, metrics on the operators' only", async () => {
  for (const base of [node.url, node.admin]) {
    assert.equal((await get(`${base}/healthz`)).status, 200);
    assert.equal((await get(`${base}/readyz`)).status, 200);
  }
  assert.equal((await get(`${node.admin}/metrics`)).status, 200);
});

test("bytes that are not HTTP end only their own connection", (t) =>
  unharmed(t, async () => {
    for (const bytes of [randomBytes(512), Buffer.from("\r\n\r\n\r\n"), Buffer.from("GET / HTTP/9.9\r\n\r\n"), Buffer.from("\u0016\u0003\u0001\u0002\u0000")]) {
      const socket = await tcp(t, node.address);
      const end = drained(socket);
      socket.end(bytes);
      await end;
    }
  }));

test("a connection that is reset in the middle of a handshake harms nobody", (t) =>
  unharmed(t, async () => {
    for (let i = 0; i < 20; i++) {
      const socket = await tcp(t, node.address);
      socket.write("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\n");
      socket.resetAndDestroy();
    }
  }));

const frames = {
  "an unmasked frame": [Buffer.from([0x81, 0x01, 0x32]), 1002],
  "a reserved opcode": [Buffer.from([0x83, 0x80, 0, 0, 0, 0]), 1002],
  "a reserved bit": [Buffer.from([0xc1, 0x80, 0, 0, 0, 0]), 1002],
  "a continuation of nothing": [Buffer.from([0x80, 0x80, 0, 0, 0, 0]), 1002],
  "a fragmented ping": [Buffer.from([0x09, 0x80, 0, 0, 0, 0]), 1002],
  "text that is not UTF-8": [Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28]), 1007],
  "a frame said to have 2^62 bytes": [Buffer.from([0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 1009],
};
for (const [what, [bytes, code]] of Object.entries(frames)) {
  test(`${what} closes its connection with ${code}, and no other`, (t) =>
    unharmed(t, async () => {
      const r = await raw(t, node.url);
      await r.connect({ userId: unique("user") });
      r.socket.write(bytes);
      assert.equal(await r.closeCode(), code);
    }));
}

const packets = {
  "no Engine.IO packet": "abc",
  "an empty message": "",
  "a ping from the client": "2",
  "an empty Socket.IO packet": "4",
  "an unknown Socket.IO type": "47",
  "text that is no packet": "4abc",
  "an event that is an object": "42{}",
  "an event without a name": "42[]",
  "an event with a null name": "42[null]",
  "a reserved event": '42["connect"]',
  "JSON that does not parse": '42["message",',
  "JSON nested without end": `42["message",${"[".repeat(200_000)}`,
  "a second CONNECT": "40",
  "an event of a namespace not joined": '42/admin,["message"]',
  "a binary event of 0 attachments": '450-["message"]',
  "a binary event of 11 attachments": `4511-["message","r",${Array.from({ length: 11 }, (_, num) => JSON.stringify({ _placeholder: true, num })).join()}]`,
  "a placeholder out of range": ['451-["message",{"_placeholder":true,"num":1}]', Buffer.from([1])],
  "text among attachments": ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
  "an attachment nobody announced": Buffer.from([1, 2, 3]),
  "the close packet": "1",
};
for (const [what, packet] of Object.entries(packets)) {
  test(`${what} closes its connection, and no other`, (t) =>
    unharmed(t, async () => {
      const r = await raw(t, node.url);
      await r.connect({ userId: unique("user") });
      for (const part of [packet].flat()) r.send(part);
      await r.closeCode();
    }));
}

for (const packet of ["42", "43", '43999["x"]', "42[1]", '42["no such event"]', "0", "5", "6", '42["message"]']) {
  test(`${packet} is tolerated`, async (t) => {
    const r = await raw(t, node.url);
    await r.connect({ userId: unique("user") });
    r.send(packet);
    r.send(`421["join",${JSON.stringify(unique("room"))}]`);
    const answer = await r.frames.wait("the ack of a join", (f) => typeof f === "string" && f.startsWith("431["));
    assert.equal(JSON.parse(answer.slice(3))[0].ok, true, answer);
  });
}

test("a message above the limit closes its connection with 1009, and no other", (t) =>
  unharmed(t, async () => {
    for (const data of ["4" + "x".repeat(1_000_000), Buffer.alloc(1_000_001)]) {
      const r = await raw(t, node.url);
      await r.connect({ userId: unique("user") });
      r.send(data);
      assert.equal(await r.closeCode(), 1009);
    }
  }));

test("an event before CONNECT closes the connection", async (t) => {
  const r = await raw(t, node.url);
  r.send('42["message","r"]');
  await r.closeCode();
});

test("a WebSocket ping is answered with a pong of the same content", async (t) => {
  const r = await raw(t, node.url);
  const pong = new Promise((resolve) => r.ws.once("pong", resolve));
  r.ws.ping("content");
  assert.equal((await pong).toString(), "content");
});

test("the first subprotocol that a client offers is accepted", async () => {
  const response = await new Promise((resolve, reject) => {
    const request = http.get(`${node.url}/socket.io/?EIO=4&transport=websocket`, {
      headers: {
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "one, two",
      },
    });
    request.on("upgrade", (res, s) => {
      s.destroy();
      resolve(res);
    });
    request.on("response", (res) => reject(new Error(`status ${res.statusCode}`)));
    request.on("error", reject);
  });
  assert.equal(response.headers["sec-websocket-protocol"], "one");
  assert.equal(response.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
});

test("packets that arrive byte by byte, or all at once, are the same packets", async (t) => {
  const room = unique("room");
  const slow = await raw(t, node.url);
  await slow.connect({ userId: unique("user") });
  const message = Buffer.from(`421["join",${JSON.stringify(room)}]`);
  const frame = Buffer.concat([Buffer.from([0x81, 0x80 | message.length, 0, 0, 0, 0]), message]); // masked with zeros
  for (const byte of frame) await new Promise((resolve) => slow.socket.write(Buffer.from([byte]), resolve));
  await slow.frames.wait("the ack", (f) => String(f).startsWith('431[{"ok":true'));
  const second = Buffer.from(`422["message",${JSON.stringify(room)},1]`);
  const burst = Buffer.concat([Buffer.from([0x81, 0x80 | second.length, 0, 0, 0, 0]), second]);
  slow.socket.write(Buffer.concat(Array(50).fill(burst)));
  await slow.frames.count("message", 50, (f) => String(f).startsWith('42["message"'));
});

test("a message in many fragments is one message", async (t) => {
  const room = unique("room");
  const r = await raw(t, node.url);
  await r.connect({ userId: unique("user") });
  const text = `421["join",${JSON.stringify(room)}]`;
  [...text].forEach((char, i) => r.ws.send(char, { fin: i === text.length - 1 }));
  await r.frames.wait("the ack", (f) => String(f).startsWith('431[{"ok":true'));
});

test("a WebSocket that is opened elsewhere than at /socket.io/ is refused", async (t) => {
  const r = new Raw(t, node.url, { path: "/other/" });
  assert.equal(await r.closeCode(), 1006);
});
