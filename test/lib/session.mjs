// Engine.IO sessions by hand, whose requests go to the node that the test chooses.
import { randomBytes } from "node:crypto";

import { Poller } from "./conformance.mjs";
import { Raw } from "./raw.mjs";

const base = (node) => `${node.url}/socket.io/`;

// session opens a polling session on a node and returns its poller; `sid` names it, `at` reaches it through other nodes.
export function session(node) {
  return Poller.open(base(node));
}

// at is a poller for a session's requests to a node.
export function at(node, sid) {
  return new Poller(base(node), sid);
}

// member opens a polling session on a node and connects it to the namespace.
export async function member(node, auth) {
  const poller = await session(node);
  await poller.post(`40${JSON.stringify(auth)}`);
  const [reply] = await poller.packets(1);
  if (!reply.startsWith("40")) throw new Error(`CONNECT was answered ${reply}`);
  return poller;
}

// candidate asks a node for a WebSocket to which a session is to be upgraded.
export function candidate(t, node, sid) {
  return new Raw(t, node.url, { query: `EIO=4&transport=websocket&sid=${sid}` });
}

// owner is a node's name: what the ids of its sessions begin with.
export async function owner(node) {
  const poller = await session(node);
  await poller.post("1"); // closes it
  return poller.sid.slice(0, 8);
}

// forged makes up the id of a session of a node of that name.
export function forged(name) {
  return name + randomBytes(9).toString("base64url");
}
