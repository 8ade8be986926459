// AUTH=jwt: who may connect, and as whom.
import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync, sign as signWith } from "node:crypto";
import { after, test } from "node:test";

import { connect, open } from "../lib/client.mjs";
import { Keys } from "../lib/presence.mjs";
import { Cluster } from "../lib/process.mjs";
import { unique } from "../lib/wait.mjs";

const secret = "a secret of more than thirty-two bytes, for tests";
const cluster = await Cluster.start(1, { AUTH: "jwt", AUTH_JWT_SECRET: secret });
const keys = await Keys.open(cluster.redis.url);
const [url] = cluster.urls;
after(async () => {
  await keys.close();
  await cluster.stop();
});

const now = () => Math.floor(Date.now() / 1000);
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

// token makes a JSON Web Token signed with HMAC.
function token(claims, { key = secret, alg = "HS256", hash = "sha256" } = {}) {
  const content = `${base64({ alg, typ: "JWT" })}.${base64(claims)}`;
  return `${content}.${createHmac(hash, key).update(content).digest("base64url")}`;
}

async function refusedWith(t, code, auth) {
  const client = open(t, url, { auth });
  const error = await client.refused();
  assert.equal(error.data?.code, code, `${error.message} ${JSON.stringify(error.data)}`);
  assert.ok(!JSON.stringify([error.message, error.data]).includes(auth?.token || "no token"), "the refusal repeats the token");
}

test("a good token connects, and its sub is the user", async (t) => {
  const room = unique("room");
  const userId = unique("user");
  const client = await connect(t, url, { auth: { token: token({ sub: userId, exp: now() + 600 }), userId: "somebody else" } });
  await keys.become({ online: true, socket: client.id }, userId);
  assert.equal(await keys.online("somebody else"), false);
  await client.join(room);
  await client.ok("message", room, "x");
  const [, meta] = await client.message(room);
  assert.equal(meta.from, userId);
});

test("a token without expiry connects", async (t) => {
  await connect(t, url, { auth: { token: token({ sub: unique("user") }) } });
});

test("a missing token is refused", async (t) => {
  for (const auth of [{}, { token: "" }, { token: null }, { userId: "u1" }]) await refusedWith(t, "token_missing", auth);
});

test("an expired token is refused as such", async (t) => {
  await refusedWith(t, "token_expired", { token: token({ sub: "u1", exp: now() - 600 }) });
});

test("a token that is not valid yet is refused", async (t) => {
  await refusedWith(t, "token_invalid", { token: token({ sub: "u1", nbf: now() + 600 }) });
});

test("a token signed with another key is refused", async (t) => {
  await refusedWith(t, "token_invalid", { token: token({ sub: "u1" }, { key: `${secret}.` }) });
});

test("a token of another algorithm is refused, whoever signed it", async (t) => {
  const unsigned = `${base64({ alg: "none", typ: "JWT" })}.${base64({ sub: "u1" })}.`;
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const content = `${base64({ alg: "ES256", typ: "JWT" })}.${base64({ sub: "u1" })}`;
  const foreign = `${content}.${signWith("sha256", Buffer.from(content), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
  for (const bad of [unsigned, foreign, token({ sub: "u1" }, { alg: "HS512", hash: "sha512" })]) await refusedWith(t, "token_invalid", { token: bad });
});

test("what is no token is refused", async (t) => {
  for (const bad of ["x", "a.b.c", `${token({ sub: "u1" })}x`, { a: 1 }, 42, "x".repeat(20_000)]) await refusedWith(t, "token_invalid", { token: bad });
});

test("a token that names no possible user is refused", async (t) => {
  for (const sub of ["", "a{b}", "u".repeat(256)]) await refusedWith(t, "user_invalid", { token: token({ sub }) });
});

test("a refused client can come back with a better token on the same connection", async (t) => {
  const auth = { token: "x" };
  const client = open(t, url, { auth: (give) => give(auth) });
  await client.refused();
  auth.token = token({ sub: unique("user") });
  client.socket.connect();
  await client.lifecycle.wait("connect", ([what]) => what === "connect");
});
