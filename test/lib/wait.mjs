// Waiting for what must happen, with a deadline and a message that says what did not.
import { setTimeout as delay } from "node:timers/promises";

// DEADLINE is how long, in milliseconds, anything may take that must happen soon. It is generous: a passing test never
// waits for it.
export const DEADLINE = 15_000;

// eventually polls until probe returns something truthy, and returns that. What probe throws ends the wait at once.
export async function eventually(what, probe, { deadline = DEADLINE, detail } = {}) {
  const end = Date.now() + deadline;
  for (;;) {
    const result = await probe();
    if (result) return result;
    if (Date.now() > end) throw new Error(`waited ${deadline} ms in vain for ${what}${detail ? `\n${detail()}` : ""}`);
    await delay(20);
  }
}

// within rejects when a promise does not settle in time.
export function within(what, promise, deadline = DEADLINE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadline} ms in vain for ${what}`)), deadline);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Inbox keeps everything that arrived, in order, and lets tests wait for what has yet to arrive.
export class Inbox {
  items = [];
  #waiting = new Set();

  push(item) {
    this.items.push(item);
    for (const check of [...this.#waiting]) check();
  }

  // wait returns the first item, arrived or to arrive, that matches.
  wait(what, matches, deadline = DEADLINE) {
    return this.until(what, () => this.items.find(matches), deadline);
  }

  // count waits until n items match and returns them all.
  count(what, n, matches, deadline = DEADLINE) {
    return this.until(
      `${n} × ${what}`,
      () => {
        const found = this.items.filter(matches);
        return found.length >= n ? found : undefined;
      },
      deadline,
    );
  }

  // until waits for a value computed from what has arrived.
  until(what, value, deadline = DEADLINE) {
    const now = value();
    if (now !== undefined) return Promise.resolve(now);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(check);
        const seen = this.items.slice(-12).map(show).join("\n  ");
        reject(new Error(`waited ${deadline} ms in vain for ${what}; ${this.items.length} arrived, the last of them:\n  ${seen}`));
      }, deadline);
      const check = () => {
        try {
          const result = value();
          if (result === undefined) return;
          resolve(result);
        } catch (err) {
          reject(err);
        }
        clearTimeout(timer);
        this.#waiting.delete(check);
      };
      this.#waiting.add(check);
    });
  }
}

function show(item) {
  const text = JSON.stringify(item) ?? String(item);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

let serial = 0;

// unique makes a name that no other case uses. The dots keep it from ever having the shape of a socket id.
export function unique(kind) {
  return `${kind}.${process.pid}.${++serial}`;
}
