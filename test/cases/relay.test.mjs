// Requests by hand for sessions of other nodes: what is answered, and what forged, hung and foreign nodes can do.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect } from "../lib/client.mjs";
import { Cluster } from "../lib/process.mjs";
import { tcp } from "../lib/raw.mjs";
import { at, candidate, forged, member, owner, session } from "../lib/session.mjs";
import { eventually, unique, within } from "../lib/wait.mjs";

const cluster = await Cluster.start(3);
const [a, b, c] = cluster.nodes;
after(() => cluster.stop());

const unknown = { status: 400, text: '{"code":1,"message":"Session ID unknown"}' };
const answer = ({ status, text }) => ({ status, text });
// Until then every request must be answered, and that on a machine that does other things, too.
const PROMISED = 5_000;
const SLACK = 3_000;

// timed returns what a promise resolves to, and after how many milliseconds.
async function timed(promise) {
  const begin = Date.now();
  return { result: await promise, ms: Date.now() - begin };
}

// withdrawn stops a node of a single case and takes it out of the cluster.
async function withdrawn(node) {
  cluster.nodes.splice(cluster.nodes.indexOf(node), 1);
  await node.stop();
}

test("a session is polled, posted to and upgraded through any node", async (t) => {
  const userId = unique("user");
  const room = unique("room");
  const poller = await session(a);
  assert.equal((await at(b, poller.sid).post(`40${JSON.stringify({ userId })}`)).text, "ok");
  const [reply] = await at(c, poller.sid).packets(1);
  assert.match(reply, /^40\{"sid"/);
  assert.equal((await at(c, poller.sid).post(`420["join","${room}"]`)).text, "ok");
  const frames = await at(b, poller.sid).packets(1);
  assert.match(frames[0], /^430\[\{"ok":true/);
  const ws = candidate(t, c, poller.sid);
  await ws.answered();
  ws.send("2probe");
  await ws.frames.wait("the probe's answer", (f) => f === "3probe");
  ws.send("5");
  ws.send(`421["message","${room}","hello"]`);
  await ws.frames.wait("the acknowledgement", (f) => f.startsWith?.('431[{"ok":true'));
  await ws.frames.wait("the message", (f) => f.startsWith?.('42["message"'));
  assert.deepEqual(answer(await at(a, poller.sid).get()).status, 400, "a poll after the upgrade");
});

test("a parked poll on one node is answered with what comes through another", async () => {
  const room = unique("room");
  const { sid } = await member(a, { userId: unique("user") });
  const [packets, posted] = await Promise.all([at(b, sid).packets(1), at(c, sid).post(`420["join","${room}"]`)]);
  assert.equal(posted.text, "ok");
  assert.match(packets[0], /^430\[\{"ok":true/);
});

test("ids that nobody gave out are refused at once: of an unknown node, of another node, of this one, and malformed", async (t) => {
  const names = ["AAAAAAAA", await owner(b), await owner(a)];
  for (const sid of [...names.map(forged), "AAAAAAAA", `${forged(names[1])}A`, "...", `${names[1]}${"%00".repeat(3)}`]) {
    for (const method of ["GET", "POST"]) {
      const tries = [];
      for (let i = 0; i < 3; i++) {
        const { result, ms } = await timed(at(a, sid).request(method, method === "POST" ? "2" : undefined));
        assert.deepEqual(answer(result), unknown, `${method} ${sid}`);
        tries.push(ms);
      }
      assert.ok(Math.min(...tries) < 1_000, `${method} ${sid} took ${tries} ms`);
    }
    const ws = candidate(t, a, sid);
    assert.equal(await ws.answered(), false, sid);
    assert.deepEqual(ws.refusal, { status: 400, text: "Session ID unknown" });
  }
});

test("a session that has ended is unknown through every node", async () => {
  const { sid } = await session(a);
  assert.equal((await at(b, sid).post("1")).text, "ok");
  for (const node of [a, b, c]) assert.deepEqual(answer(await at(node, sid).get()), unknown);
});

test("of two WebSockets for one session on two nodes at once exactly one is accepted, and the session goes on", async (t) => {
  for (let round = 0; round < 10; round++) {
    const { sid } = await member(a, { userId: unique("user") });
    const both = [candidate(t, b, sid), candidate(t, c, sid)];
    const accepted = await Promise.all(both.map((ws) => ws.answered()));
    assert.equal(accepted.filter(Boolean).length, 1, `accepted: ${accepted}`);
    const [winner, loser] = accepted[0] ? both : both.toReversed();
    assert.equal(loser.refusal.status, 400);
    assert.match(loser.refusal.text, /^(Session ID unknown|Bad request)$/);
    winner.send("2probe");
    await winner.frames.wait("the probe's answer", (f) => f === "3probe");
    winner.send("5");
    const room = unique("room");
    winner.send(`420["join","${room}"]`);
    await winner.frames.wait("the acknowledgement", (f) => f.startsWith?.('430[{"ok":true'));
  }
});

test("a second poll beside a parked one ends the session, wherever the two are", async () => {
  const { sid } = await member(a, { userId: unique("user") });
  const answers = await Promise.all([at(b, sid).get(), at(c, sid).get()]);
  assert.ok(answers.some(({ status }) => status === 400), `answered ${answers.map(({ status }) => status)}`);
  assert.deepEqual(answer(await at(b, sid).get()), unknown);
});

test("requests for a node that hangs are answered within 5 s, and everything else goes on", async (t) => {
  const frozen = await cluster.add();
  t.after(() => withdrawn(frozen));
  const known = await member(frozen, { userId: unique("user") });
  const other = await member(frozen, { userId: unique("user") });
  assert.equal((await at(a, known.sid).post("3")).text, "ok"); // there is a connection between the two now; b has none to it
  const parked = at(a, known.sid).get();
  const room = unique("room");
  const members = await Promise.all([connect(t, a.url), connect(t, b.url)]);
  for (const one of members) await one.join(room);
  const elsewhere = await member(c, { userId: unique("user") });

  frozen.child.signal("SIGSTOP");
  t.after(() => frozen.child.signal("SIGCONT"));
  const ws = candidate(t, a, other.sid);
  const hanging = [timed(at(a, other.sid).post("3")), timed(at(b, other.sid).get()), timed(ws.answered()), timed(parked)];
  const slowest = [];
  for (let i = 0; i < 20; i++) {
    slowest.push((await timed(members[i % 2].ok("message", room, i))).ms);
    const { result, ms } = await timed(at(a, elsewhere.sid).post("3"));
    assert.equal(result.text, "ok");
    slowest.push(ms);
  }
  assert.ok(Math.max(...slowest) < SLACK, `others waited up to ${Math.max(...slowest)} ms`);
  const [post, get, upgrade, poll] = await Promise.all(hanging);
  for (const [what, { result, ms }] of Object.entries({ post, get, poll })) {
    assert.ok(result.status >= 400, `${what} was answered ${result.status} ${result.text}`);
    assert.ok(ms < PROMISED + SLACK, `${what} was answered after ${ms} ms`);
  }
  assert.equal(upgrade.result, false);
  assert.ok(upgrade.ms < PROMISED + SLACK, `the handshake was answered after ${upgrade.ms} ms`);
});

test("a node with another PEER_SECRET gets nothing from its peers, nor they from it, and the log says why", async (t) => {
  const stranger = await cluster.add({ PEER_SECRET: "another-secret-of-32-bytes-or-more" });
  t.after(() => withdrawn(stranger));
  const theirs = await session(a);
  const its = await session(stranger);
  for (const poller of [at(stranger, theirs.sid), at(b, its.sid)]) {
    const { result, ms } = await timed(poller.post(`40${JSON.stringify({ userId: unique("user") })}`));
    assert.ok(result.status >= 400, `answered ${result.status} ${result.text}`);
    assert.ok(ms < PROMISED + SLACK, `after ${ms} ms`);
  }
  await eventually(
    "a log to name PEER_SECRET",
    () => [...cluster.nodes].some(({ child }) => child.lines.some((line) => /level=WARN.*PEER_SECRET/i.test(line))),
    { detail: () => cluster.nodes.map(({ child }) => child.log()).join("\n") },
  );
  for (const poller of [theirs, its]) assert.equal((await poller.post(`40${JSON.stringify({ userId: unique("user") })}`)).text, "ok");
});

// peerAddress is where a node said that its peers reach it.
function peerAddress(node) {
  const found = node.child.lines.map((line) => /\bpeers="?(127\.0\.0\.1:\d+)/.exec(line)?.[1]).find(Boolean);
  assert.ok(found, `no address of its own for peers in the log\n${node.child.log()}`);
  return found;
}

const closed = (socket) => socket.destroyed || new Promise((resolve) => socket.once("close", resolve)); // by FIN or RST

test("whoever connects to the port for peers and is none is cut off soon, and learns nothing", async (t) => {
  const address = peerAddress(a);
  const texts = ["", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\0".repeat(100_000), "edge-trunk/1"];
  await Promise.all(texts.map(async (text) => {
    const socket = await tcp(t, address);
    let received = 0;
    socket.on("data", (data) => (received += data.length));
    if (text) socket.write(text);
    await within("the connection to be closed", closed(socket));
    assert.ok(received <= 64, `received ${received} bytes`);
  }));
  // Many at once keep nobody out for longer than that.
  const crowd = await Promise.all(Array.from({ length: 200 }, () => tcp(t, address)));
  await within("all to be closed", Promise.all(crowd.map((socket) => closed(socket.resume()))));
  const { sid } = await session(a);
  assert.equal((await at(b, sid).post(`40${JSON.stringify({ userId: unique("user") })}`)).text, "ok");
});

// heads are the headers of an answer that do not differ from one answer to the next.
const heads = ({ headers }) => Object.fromEntries([...headers].filter(([name]) => !["date", "content-length"].includes(name)));

test("a relayed answer has the headers of any other, whatever the request's Origin and cookies", async () => {
  for (const headers of [{}, { Origin: "https://example.org", Cookie: "a=b; io=c", "Access-Control-Request-Headers": "x" }]) {
    const both = [];
    for (const node of [a, b]) {
      const { sid } = await session(a);
      const via = at(node, sid);
      const answers = {
        post: await via.post(`40${JSON.stringify({ userId: unique("user") })}`, headers),
        get: await via.request("GET", undefined, headers),
        options: await via.request("OPTIONS", undefined, headers),
        tooLarge: await via.post("x".repeat(1_000_001), headers),
        binary: await via.post("x", { ...headers, "Content-Type": "application/octet-stream" }),
      };
      answers.gone = await via.request("GET", undefined, headers);
      for (const [what, { headers: got }] of Object.entries(answers)) assert.equal(got.get("set-cookie"), null, what);
      both.push(Object.fromEntries(Object.entries(answers).map(([what, it]) => [what, { status: it.status, text: what === "get" ? it.text.slice(0, 3) : it.text, ...heads(it) }])));
    }
    assert.deepEqual(both[1], both[0]);
    assert.equal(both[0].post.text, "ok");
    assert.equal(both[0].get.text, "40{");
    assert.equal(both[0].tooLarge.status, 413);
    assert.deepEqual([both[0].gone.status, both[0].gone.text], [400, unknown.text]);
  }
});
