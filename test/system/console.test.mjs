// The page of the operators' listener, in a browser: its figures, its plot, and two users who talk over it.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { openBrowser, picture } from "../lib/browser.mjs";
import { connect } from "../lib/client.mjs";
import { Cluster } from "../lib/process.mjs";
import { eventually } from "../lib/wait.mjs";

const ADMIN_TOKEN = "token of the tests";
// The clients' listener takes no other origin than this, and the console needs none.
const cluster = await Cluster.start(2, { ADMIN_TOKEN, ORIGINS: "https://app.example" });
const [node, other] = cluster.nodes;
const browser = await openBrowser();
after(async () => {
  await browser.close();
  await cluster.stop();
});

const desktop = { width: 1280, height: 900 };
const phone = { width: 390, height: 844 };

// open is a page of the console with the token given; what it complains about is an error.
async function open(t, viewport) {
  const context = await browser.newContext({ viewport, hasTouch: viewport === phone, isMobile: viewport === phone, deviceScaleFactor: 2 });
  t.after(() => context.close());
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (m) => m.type() === "error" && !m.text().includes("401") && complaints.push(m.text()));
  page.on("pageerror", (e) => complaints.push(e.stack));
  t.after(() => assert.deepEqual(complaints, [], "the browser complains"));
  await page.goto(node.admin);
  await page.locator("#token").fill(ADMIN_TOKEN);
  await page.getByRole("button", { name: "Open" }).click();
  await page.locator("#state.good").waitFor();
  return page;
}

const pane = (page, name) => page.locator(`.client[aria-label="${name}"]`);

async function enter(page, name, room) {
  await pane(page, name).locator("[name=room]").fill(room);
  await pane(page, name).getByRole("button", { name: "Connect", exact: true }).click();
  await pane(page, name).locator("[name=text]:enabled").waitFor();
}

async function say(page, name, text) {
  await pane(page, name).locator("[name=text]").fill(text);
  await pane(page, name).getByRole("button", { name: "Send" }).click();
}

const hears = (page, name, line) => pane(page, name).locator(".log li", { hasText: line }).waitFor();

test("without the token nothing is shown, and a wrong one is refused in words", async (t) => {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(node.admin);
  await page.locator("#token").fill("another");
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByText("the node does not take this token").waitFor();
  assert.equal(await page.locator("#board").isVisible(), false);
});

test("the node's figures, its latencies and its rooms are live", async (t) => {
  const page = await open(t, desktop);
  const clients = await Promise.all([node, node, node, other].map(({ url }) => connect(t, url)));
  await Promise.all(clients.map((c) => c.join("lounge")));
  const talk = setInterval(() => clients.forEach(({ socket }) => socket.emit("message", "lounge", "hello")), 20);
  t.after(() => clearInterval(talk));
  await page.locator("#rooms td", { hasText: "lounge" }).waitFor();
  await page.locator("#latency-text", { hasText: /p50 [\d.]+ m?s, p99 [\d.]+ m?s/ }).waitFor();
  const tile = (name) => page.locator(".tile", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd");
  await eventually("three connections", async () => (await tile("connections").textContent()) === "3");
  await eventually("deliveries", async () => Number.parseFloat(await tile("deliveries").textContent()) > 0);
  await eventually("the line of p99 in the plot", () => coloured(page));
  await picture(page, "console-desktop");
});

// coloured tells whether the plot has pixels of the colour of the p99 line.
function coloured(page) {
  return page.evaluate(() => {
    const canvas = document.getElementById("latency");
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = getComputedStyle(canvas).getPropertyValue("--p99");
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let n = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) n++;
    return n > 50;
  });
}

test("two users talk, see each other come and go, and a cut connection misses nothing, on a phone", async (t) => {
  const page = await open(t, phone);
  await enter(page, "ada", "console");
  await enter(page, "bob", "console");
  await pane(page, "ada").locator(".presence", { hasText: "in console: ada, bob" }).waitFor();
  await say(page, "ada", "hello bob");
  await hears(page, "bob", "hello bob");
  await hears(page, "ada", "hello bob");

  await pane(page, "bob").getByRole("button", { name: "Cut" }).click();
  await hears(page, "bob", "cut");
  await say(page, "ada", "said while bob was away");
  await hears(page, "ada", "said while bob was away");
  await hears(page, "bob", "connected again: recovered");
  await hears(page, "bob", "said while bob was away");
  assert.equal(await pane(page, "bob").locator(".log li", { hasText: "said while bob was away" }).count(), 1);

  // A client that is none of the page's takes part, over another node.
  const eve = await connect(t, other.url, { userId: "eve" });
  await eve.join("console");
  await hears(page, "ada", "eve is here");
  await eve.ok("message", "console", { text: "hello from afar" });
  await hears(page, "bob", "hello from afar");

  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  assert.equal(wide, false, "the page is wider than the phone");
  await picture(page, "console-phone");
  await pane(page, "bob").getByRole("button", { name: "Disconnect" }).click();
  await hears(page, "ada", "bob left");
});
