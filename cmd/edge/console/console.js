// The page of the operators' listener: what this node is, how it does, and a chat to try it.
import { client } from "./chat.js";
import { buckets, parse, quantile, total } from "./metrics.js";
import { draw, format, short } from "./plot.js";

const every = 2000; // milliseconds between two looks
const remembered = 160; // looks: five minutes and a little
const latency = "edge_publish_written_seconds";
const $ = (id) => document.getElementById(id);

// ---- the node's answers

let token = sessionStorage.getItem("token") ?? "";

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) throw Object.assign(new Error("401"), { locked: true });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${(await response.text()).slice(0, 200)}`);
  return response;
}
const json = async (path, options) => (await ask(path, options)).json();

async function ticket(user) {
  const body = JSON.stringify({ user });
  return (await json("/console/tickets", { method: "POST", headers: { "Content-Type": "application/json" }, body })).ticket;
}

// ---- what is shown

const looks = []; // {at, scrape, p50, p99, rate}

function tiles(node, look) {
  const before = looks.at(-2);
  const perSecond = (name) => (before ? (total(look.scrape, name) - total(before.scrape, name)) / ((look.at - before.at) / 1000) : 0);
  const shown = [
    ["connections", node.conns.open.toLocaleString("en"), `of ${node.conns.max.toLocaleString("en")}, ${node.conns.polling} poll`],
    ["sockets", node.sockets.toLocaleString("en"), ""],
    ["rooms", node.rooms.toLocaleString("en"), "with sockets here"],
    ["deliveries", `${short(look.rate ?? 0)}/s`, `${short(perSecond("edge_frames_received_total"))}/s received`],
    ["latency p99", format(look.p99), `p50 ${format(look.p50)}`],
    ["memory", `${short(total(look.scrape, "process_resident_memory_bytes") / 1e6)} MB`, `${total(look.scrape, "go_goroutines")} goroutines`],
    ["CPU", `${Math.round(100 * perSecond("process_cpu_seconds_total"))} %`, "of one core"],
    ["connects", `${short(perSecond("edge_connects_total"))}/s`, `${short(total(look.scrape, "edge_connects_total"))} in all`],
  ];
  const made = shown.map(([name, value, more]) => {
    const tile = $("tile").content.cloneNode(true).firstElementChild;
    [tile.children[0].textContent, tile.children[1].textContent, tile.children[2].textContent] = [name, value, more];
    return tile;
  });
  $("tiles").replaceChildren(...made);
}

function header(node) {
  const state = $("state");
  state.textContent = node.draining ? "draining" : node.ready ? "ready" : `not ready: ${node.missing}`;
  state.className = `pill ${node.ready ? "good" : "bad"}`;
  $("identity").textContent = `node ${node.node}, version ${node.version}, up ${duration(node.uptime_seconds)}`;
  document.title = `${node.ready ? "" : "! "}${node.node} – Stellara Edge`;
}

function duration(seconds) {
  const parts = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const i = Math.max(0, parts.findIndex(([size]) => seconds >= size));
  return parts.slice(i, i + 2).map(([size, unit], k) => `${Math.floor((k === 0 ? seconds : seconds % parts[i][0]) / size)} ${unit}`).join(" ");
}

function rows(table, list, empty) {
  const made = (list.length ? list : [[empty]]).map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((cell, i) => {
      const td = row.insertCell();
      td.textContent = cell;
      if (typeof cell === "number") {
        td.className = "number";
        td.textContent = cell.toLocaleString("en");
      }
      if (!list.length) [td.colSpan, td.className] = [9, "quiet"];
    });
    return row;
  });
  table.tBodies[0].replaceChildren(...made);
}

const counted = [["closed", "edge_closes_total"], ["dropped", "edge_drops_total"], ["refused", "edge_refusals_total"]];

function reasons(look) {
  const past = looks.findLast(({ at }) => at <= look.at - 60_000) ?? looks[0];
  const list = [];
  for (const [what, name] of counted) {
    for (const { labels, value } of look.scrape.get(name) ?? []) {
      if (value === 0) continue;
      const was = past.scrape.get(name)?.find((s) => s.labels.reason === labels.reason)?.value ?? 0;
      list.push([what, labels.reason, value, value - was]);
    }
  }
  list.sort((a, b) => b[3] - a[3] || b[2] - a[2]);
  rows($("reasons"), list.slice(0, 12), "nothing");
}

async function look() {
  const [node, rooms, text] = await Promise.all([json("/api/v1/node"), json("/api/v1/rooms?limit=12"), ask("/metrics").then((r) => r.text())]);
  const before = looks.at(-1);
  const now = { at: Date.now(), scrape: parse(text) };
  if (before) {
    const [was, is] = [buckets(before.scrape, latency), buckets(now.scrape, latency)];
    [now.p50, now.p99] = [quantile(0.5, was, is), quantile(0.99, was, is)];
    now.rate = Math.max(0, total(now.scrape, "edge_deliveries_total") - total(before.scrape, "edge_deliveries_total")) / ((now.at - before.at) / 1000);
  }
  looks.push(now);
  if (looks.length > remembered) looks.shift();
  header(node);
  tiles(node, now);
  reasons(now);
  rows($("rooms"), rooms.rooms.map(({ room, sockets }) => [room, sockets]), "none with sockets on this node");
  $("rooms-total").textContent = `${node.rooms.toLocaleString("en")} on this node`;
  $("latency-text").textContent = now.p99 === undefined ? "nothing was published in the last two seconds" : `last two seconds: p50 ${format(now.p50)}, p99 ${format(now.p99)}`;
  plot();
}

const plot = () => looks.length && draw($("latency"), looks, looks.at(-1).at);

// ---- in order: locked or not, then a look every two seconds

function lock(why) {
  $("board").hidden = true;
  $("unlock").hidden = false;
  $("refused").textContent = why;
  $("state").textContent = "locked";
}

let next; // the look that is to come

async function watch() {
  try {
    $("board").hidden = false;
    await look();
    $("unlock").hidden = true;
  } catch (error) {
    if (error.locked) return lock(token && "the node does not take this token");
    $("state").textContent = `no answer: ${error.message}`;
    $("state").className = "pill bad";
  }
  clearTimeout(next); // of one who was let in twice
  next = setTimeout(watch, every);
}

$("unlock").addEventListener("submit", (e) => {
  e.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("token", token);
  $("token").value = "";
  watch();
});
window.addEventListener("resize", plot);
for (const user of ["ada", "bob"]) client($("chat"), { user, room: "console", ticket });
watch();
