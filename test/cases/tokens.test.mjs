// AUTH=jwt in production: public keys that rotate, tokens that expire and are renewed, rooms, origins.
import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync, sign as signWith } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, test } from "node:test";

import { connect, open } from "../lib/client.mjs";
import { Cluster } from "../lib/process.mjs";
import { raw, Raw } from "../lib/raw.mjs";
import { candidate, member } from "../lib/session.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

// What an issuer does: a set of public keys over HTTP.
const generate = { ES256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }), RS256: () => generateKeyPairSync("rsa", { modulusLength: 2048 }), EdDSA: () => generateKeyPairSync("ed25519") };
const keys = new Map(); // kid → {alg, pair}
function addKey(kid, alg) {
  keys.set(kid, { alg, pair: generate[alg]() });
}
addKey("es", "ES256");
addKey("rs", "RS256");
addKey("ed", "EdDSA");
let fetches = 0;
const issuer = createServer((_, response) => {
  fetches++;
  response.end(JSON.stringify({ keys: [...keys].map(([kid, { alg, pair }]) => ({ ...pair.publicKey.export({ format: "jwk" }), kid, alg, use: "sig" })) }));
}).listen(0, "127.0.0.1");
await once(issuer, "listening");

const secret = "a secret of more than thirty-two bytes, for tests";
const page = "https://app.example.com";
const cluster = await Cluster.start(2, {
  AUTH: "jwt",
  AUTH_JWT_SECRET: secret,
  AUTH_JWKS: `http://127.0.0.1:${issuer.address().port}/keys`,
  AUTH_TOKEN_FROM: "auth,query,subprotocol",
  AUTH_JWT_LEEWAY: "0s",
  AUTH_EXPIRY_WARNING: "3s",
  AUTH_JWT_ALGORITHMS: "HS256,RS256,ES256,EdDSA",
  ORIGINS: `${page},https://*.example.org`,
});
const [a, b] = cluster.nodes;
after(async () => {
  issuer.close();
  await cluster.stop();
});

const now = () => Math.floor(Date.now() / 1000);
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

// token makes a token of a user, signed with the secret or with an issuer's key.
function token(sub, claims = {}, kid) {
  const { alg, pair } = keys.get(kid) ?? { alg: "HS256" };
  const content = `${base64({ alg, kid, typ: "JWT" })}.${base64({ sub, ...claims })}`;
  if (!pair) return `${content}.${createHmac("sha256", secret).update(content).digest("base64url")}`;
  return `${content}.${signWith(alg === "EdDSA" ? null : "sha256", Buffer.from(content), { key: pair.privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

const named = (client, name) => client.events.wait(`${name} at ${client.userId}`, ([what]) => what === name);

test("tokens of all the issuer's keys connect", async (t) => {
  for (const kid of keys.keys()) await connect(t, a.url, { auth: { token: token(unique("user"), {}, kid) } });
});

test("a new key is fetched once for all that come with it, and made-up ones are not fetched for", async (t) => {
  addKey("next", "ES256");
  const auth = { token: token("u1", {}, "next") };
  const clients = await Promise.all(Array.from({ length: 5 }, () => connect(t, b.url, { auth })));
  assert.equal(clients.length, 5);
  const before = fetches;
  assert.ok(before <= 4, `${before} fetches of two nodes`); // when each started, and one for the key: at most two of each
  keys.set("made up", { alg: "ES256", pair: generate.ES256() });
  const forged = token("u1", {}, "made up");
  keys.delete("made up");
  for (let i = 0; i < 10; i++) {
    const error = await open(t, b.url, { auth: { token: forged } }).refused();
    assert.equal(error.data.code, "token_invalid");
  }
  assert.ok(fetches - before <= 1, `10 made-up kids caused ${fetches - before} fetches`); // 0, unless they took 10 s
});

test("a token expires while its client is connected: warned, told why, disconnected, not recovered; a renewed one stays", async (t) => {
  const exp = now() + 5;
  const user = unique("user");
  const auth = { token: token(user, { exp }) };
  // All at once: what follows must be done before the token has expired.
  const [lazy, eager, polled, back, { sid }] = await Promise.all([
    connect(t, a.url, { auth }), connect(t, a.url, { auth }), member(a, auth),
    connect(t, a.url, { auth, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 }), member(a, auth),
  ]);
  const gone = polled.packets(3);
  // This one comes back on the other node.
  back.moveTo(b.url);
  back.drop();
  await back.connected(2);
  assert.equal(back.socket.recovered, true);
  // This one began at the other node; its session moves to the node that holds its WebSocket.
  const moved = candidate(t, b, sid);
  await moved.answered();
  moved.send("2probe");
  await moved.frames.wait("the probe's answer", (f) => f === "3probe");
  moved.send("5");
  await eventually("the move", async () => (await b.metric('edge_moves_total{result="moved"}')) === 1);
  await eventually("its token to be watched there", async () => (await b.metric("edge_auth_expiring_sockets")) === 2);

  const [, warning] = await named(eager, "token_expiring");
  assert.deepEqual(warning, { expires: exp * 1000 });
  const later = now() + 600;
  await eager.fails("user_mismatch", "token", token("somebody else", { exp: later }));
  await eager.fails("token_invalid", "token", "x");
  assert.deepEqual(await eager.ok("token", token(user, { exp: later })), { ok: true, expires: later * 1000 });

  assert.equal(await lazy.disconnected(), "io server disconnect");
  assert.ok(Date.now() >= exp * 1000, "disconnected before the token expired");
  const names = lazy.events.items.map(([name]) => name);
  assert.deepEqual(names, ["token_expiring", "token_expired"]);
  await moved.frames.wait("why", (f) => f.startsWith?.('42["token_expired"'));
  await moved.frames.wait("DISCONNECT", (f) => f === "41");
  await within("its WebSocket to close", moved.closing);
  await back.lifecycle.wait("the end of the one that came back", ([what, why]) => what === "disconnect" && why === "io server disconnect");
  assert.deepEqual(
    (await within("the polling client's end", gone)).map((packet) => packet.slice(0, 18)),
    ['42["token_expiring', '42["token_expired"', "41"],
  );
  for (const node of [a, b]) await eventually("the reason", async () => (await node.metric('edge_closes_total{reason="token_expired"}')) === 2);

  lazy.socket.connect(); // with the session it had, and the token it had
  const error = await lazy.refused();
  assert.equal(error.data.code, "token_expired");
  assert.equal(await a.metric('edge_recoveries_total{result="token"}'), 1);
  assert.ok(eager.socket.connected);
  await eager.ok("presence", [user]);
});

test("a token says which rooms may be joined and sent to, and a new one takes rooms away", async (t) => {
  const user = unique("user");
  const [lobby, side, news] = [unique("chat:lobby"), unique("chat:side"), unique("news")];
  const client = await connect(t, a.url, { auth: { token: token(user, { rooms: { join: ["chat:*", news], publish: ["chat:*"] } }) } });
  for (const room of [lobby, side, news]) await client.join(room);
  await client.fails("not_allowed", "join", unique("other"));
  await client.fails("not_allowed", "message", news, "x");
  await client.ok("message", lobby, "x");
  await client.ok("token", token(user, { rooms: { join: ["chat:lobby*"] } }));
  const [, left] = await named(client, "rooms_left");
  assert.deepEqual({ ...left, rooms: left.rooms.sort() }, { rooms: [side, news].sort(), code: "not_allowed" });
  await client.fails("room_unknown", "message", side, "x");
  await client.fails("not_allowed", "join", side);
  await client.ok("message", lobby, "y");
});

test("a client that comes back with a token for fewer rooms is recovered without the others, and without what was sent there", async (t) => {
  const [user, kept, lost] = [unique("user"), unique("kept"), unique("lost")];
  const auth = { token: token(user) };
  const client = open(t, a.url, { auth: (give) => give(auth), reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 200 });
  await client.connected();
  const sender = await connect(t, a.url, { auth: { token: token(unique("user")) } });
  for (const room of [kept, lost]) for (const one of [client, sender]) await one.join(room);
  await sender.ok("message", kept, 0);
  await client.message(kept);
  auth.token = token(user, { rooms: { join: ["kept*"] } });
  client.moveTo(b.url);
  client.drop();
  await sender.ok("message", lost, "secret");
  await sender.ok("message", kept, 1);
  await client.connected(2);
  assert.equal(client.socket.recovered, true);
  const [, left] = await named(client, "rooms_left");
  assert.deepEqual(left, { rooms: [lost], code: "not_allowed" });
  await client.message(kept, (n) => n === 1);
  await sender.ok("message", lost, "secret again");
  await client.ok("message", kept, 2);
  await client.message(kept, (n) => n === 2);
  assert.deepEqual(client.messages(lost), []);
});

test("a token may be in the query or in a subprotocol", async (t) => {
  for (const options of [{ query: { token: token("u1") } }, { protocols: ["chat", `token.${token("u1")}`] }]) {
    const client = await connect(t, a.url, { auth: {}, ...options });
    await client.ok("presence", ["u1"]);
  }
  const error = await open(t, a.url, { auth: {}, query: { token: "x" } }).refused();
  assert.equal(error.data.code, "token_invalid");
});

test("pages of other origins are refused on both transports, and those of listed ones get CORS headers", async (t) => {
  const polling = `${a.url}/socket.io/?EIO=4&transport=polling`;
  const ask = (origin) => fetch(polling, { headers: origin ? { Origin: origin } : {} });
  for (const [origin, status] of [
    [page, 200],
    ["https://x.example.org", 200],
    [undefined, 200],
    ["https://evil.test", 403],
    ["null", 403],
  ]) {
    const answer = await ask(origin);
    assert.equal(answer.status, status, `polling from ${origin}`);
    assert.equal(answer.headers.get("access-control-allow-origin"), status === 200 && origin ? origin : null);
    await answer.text();
  }
  await (await raw(t, a.url, { origin: page })).connect({ token: token("u1") });
  const foreign = new Raw(t, a.url, { origin: "https://evil.test" });
  assert.equal(await foreign.answered(), false);
  assert.equal(foreign.refusal.status, 403);
  const { sid } = await member(a, { token: token("u1") });
  const upgrade = new Raw(t, a.url, { query: `EIO=4&transport=websocket&sid=${sid}`, origin: "https://evil.test" });
  assert.equal(await upgrade.answered(), false);
  assert.equal(await a.metric('edge_refusals_total{reason="origin"}'), 4);
});
