// The balancers' configurations of deploy/ in front of servers that are no edges and count what they are asked.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { get } from "node:https";
import { test } from "node:test";

import { io } from "socket.io-client";

import { request } from "../lib/conformance.mjs";
import { HAProxy } from "../lib/haproxy.mjs";
import { Nginx } from "../lib/nginx.mjs";
import { Edge, freePort } from "../lib/process.mjs";
import { certificate, lacking } from "../lib/shipped.mjs";

// server answers health checks with 200, notes all other requests in `seen`, and answers them or, with dies, breaks the
// connection. It returns its address.
async function server(t, seen, { dies = false } = {}) {
  const http = createServer(async (req, res) => {
    if (/^\/(healthz|readyz|readyz\/sessions)$/.test(req.url)) return res.end("ok");
    let body = "";
    for await (const part of req.setEncoding("utf8")) body += part;
    seen.push({ method: req.method, url: req.url, body, headers: req.headers });
    if (dies) req.socket.destroy();
    else res.end(`answer to ${body}`);
  });
  const port = await freePort();
  await new Promise((resolve) => http.listen(port, "127.0.0.1", resolve));
  t.after(() => {
    http.close();
    http.closeAllConnections();
  });
  return `127.0.0.1:${port}`;
}

const nobody = async () => `127.0.0.1:${await freePort()}`;
const path = (i, sid = "&sid=ABCDEFGHIJKLMNOPQRST") => `/socket.io/?EIO=4&transport=polling&t=${i}${sid}`;

for (const [Balancer, name] of [[Nginx, "nginx"], [HAProxy, "haproxy"]]) {
  const skip = lacking(name);

  test(`${name} lets no request of a session fail because a node refuses connections, and sends each once`, { skip }, async (t) => {
    const seen = [];
    const balancer = await Balancer.start([await server(t, seen), await nobody(), await server(t, seen)]);
    t.after(() => balancer.stop());
    const body = (i) => `${i} ${"x".repeat(i * 10_000)}`; // some by way of a file
    for (let i = 0; i < 12; i++) {
      const [post, get] = [await request(balancer.url + path(i), "POST", body(i)), await request(balancer.url + path(i))];
      assert.deepEqual([post.status, post.text], [200, `answer to ${body(i)}`]);
      assert.deepEqual([get.status, get.text], [200, "answer to "]);
    }
    const due = Array.from({ length: 12 }, (_, i) => [["POST", path(i), body(i)], ["GET", path(i), ""]]).flat();
    assert.deepEqual(seen.map(({ method, url, body }) => [method, url, body]), due);
    for (const { headers } of seen) {
      assert.equal(headers["x-forwarded-for"], "127.0.0.1");
      assert.equal(headers["x-forwarded-proto"], "http");
      assert.equal(headers.host, balancer.url.slice("http://".length));
      assert.notEqual(headers.connection, "upgrade");
    }
  });

  for (const method of ["GET", "POST"]) {
    test(`${name} does not repeat a ${method} of a session when the node that was asked breaks off`, { skip }, async (t) => {
      const seen = [];
      const balancer = await Balancer.start([await server(t, seen, { dies: true }), await server(t, seen, { dies: true }), await server(t, seen, { dies: true })]);
      t.after(() => balancer.stop());
      const { status } = await request(balancer.url + path(1), method, method === "POST" ? "1" : undefined);
      assert.equal(status, 502);
      assert.equal(seen.length, 1);
    });
  }

  test(`${name} opens sessions while nodes refuse connections, and keeps other paths from them`, { skip }, async (t) => {
    const seen = [];
    const balancer = await Balancer.start([await nobody(), await server(t, seen), await nobody()]);
    t.after(() => balancer.stop());
    for (let i = 0; i < 6; i++) assert.equal((await request(balancer.url + path(i, ""))).status, 200);
    for (const other of ["/", "/readyz", "/healthz", "/metrics"]) assert.equal((await request(balancer.url + other)).status, 404, other);
    assert.equal(seen.length, 6);
  });

  test(`${name} ends TLS for both transports`, { skip: skip || lacking("openssl") }, async (t) => {
    const seen = [];
    const tls = certificate();
    const edge = await Edge.start();
    t.after(() => edge.stop());
    const balancer = await Balancer.start([edge.address, edge.address, edge.address], { tls });
    t.after(() => balancer.stop());
    assert.match(balancer.url, /^https:/);
    for (const transport of ["polling", "websocket"]) {
      const socket = io(balancer.url, { transports: [transport], forceNew: true, ca: tls.ca, auth: { userId: "ada" } });
      t.after(() => socket.close());
      await new Promise((resolve, reject) => socket.once("connect", resolve).once("connect_error", reject));
      assert.equal((await socket.emitWithAck("join", "lobby")).ok, true);
      assert.equal(socket.io.engine.transport.name, transport);
    }
    // Who does not know the certificate's authority is not served, and neither is plain HTTP.
    assert.match((await request(balancer.url + path(1, ""))).text, /self-signed/);
    assert.notEqual((await request(balancer.url.replace("https", "http") + path(1, ""))).status, 200);

    const echo = await Balancer.start([await server(t, seen), await server(t, seen), await server(t, seen)], { tls });
    t.after(() => echo.stop());
    await new Promise((resolve, reject) => get(echo.url + path(1, ""), { ca: tls.ca }, (res) => res.resume().once("end", resolve)).once("error", reject));
    assert.equal(seen[0].headers["x-forwarded-proto"], "https");
  });
}
