// permessage-deflate against the WebSocket library that the official client uses: every window it can be asked for, and
// messages of every size, fragmented or not, both ways.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, test } from "node:test";

import { Conformance } from "../lib/conformance.mjs";
import { Raw } from "../lib/raw.mjs";

const server = await Conformance.start("websocket", "-deflate");
after(() => server.stop());

const open = async (t, perMessageDeflate) => {
  const r = new Raw(t, server.url, { path: "/", query: "", perMessageDeflate });
  assert.ok(await r.answered());
  return r;
};

const sizes = [0, 1, 2, 16, 125, 126, 1_000, 65_535, 65_536, 131_072, 1_000_000];
const text = (size) => '{"é":"一","n":12345,"list":[true,false,null]} '.repeat(Math.ceil(size / 40)).slice(0, size);

for (const [what, offer, agreed] of [
  ["nothing but the extension", true, true],
  ["client_no_context_takeover", { clientNoContextTakeover: true }, true],
  ["server_no_context_takeover", { serverNoContextTakeover: true }, true],
  ["a small window of its own", { clientMaxWindowBits: 9 }, true],
  ["the largest window of the server", { serverMaxWindowBits: 15 }, true],
  ["a small window of the server", { serverMaxWindowBits: 9 }, false],
  ["no extension", false, false],
]) {
  test(`a client that offers ${what} is echoed to`, async (t) => {
    const r = await open(t, typeof offer === "object" ? { threshold: 0, ...offer } : offer && { threshold: 0 });
    assert.equal(r.ws.extensions, agreed ? "permessage-deflate" : "");
    const sent = [];
    for (const size of sizes) {
      for (const message of [text(size), Buffer.from(text(size)), randomBytes(size)]) {
        sent.push(message);
        r.ws.send(message);
      }
    }
    const echoed = await r.frames.count("echo", sent.length, () => true);
    for (const [i, message] of sent.entries()) assert.deepEqual(echoed[i], message, `message ${i} of ${message.length}`);
    const bytes = sent.reduce((sum, message) => sum + Buffer.byteLength(message), 0);
    const noise = sizes.reduce((sum, size) => sum + size, 0); // a third is random, and stays as large as it is
    if (agreed) assert.ok(r.socket.bytesRead < noise * 1.1, `${r.socket.bytesRead} bytes came for ${bytes}`);
    else assert.ok(r.socket.bytesRead > bytes);
  });
}

test("fragments of a compressed message are put together", async (t) => {
  const r = await open(t, { threshold: 0 });
  const parts = ["first ", "", text(5_000), "é".repeat(3_000), "last"];
  for (const [i, part] of parts.entries()) {
    r.ws.send(part, { fin: i === parts.length - 1, compress: true });
    r.ws.ping();
  }
  assert.equal(await r.frames.wait("the echo", () => true), parts.join(""));
});

test("a client may send some messages compressed and others not", async (t) => {
  const r = await open(t, { threshold: 0 });
  for (let i = 0; i < 100; i++) r.ws.send(`${i} ${text(500)}`, { compress: i % 3 === 0 });
  const echoed = await r.frames.count("echo", 100, () => true);
  assert.deepEqual(echoed, Array.from({ length: 100 }, (_, i) => `${i} ${text(500)}`));
});
