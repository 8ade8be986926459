// A Redis that can never be used ends the node at its start, by name.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Edge, Redis } from "../lib/process.mjs";

test("a node of a Redis Cluster is refused", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "edge-cluster-"));
  const redis = await Redis.start("--cluster-enabled", "yes", "--dir", dir);
  t.after(async () => {
    await redis.down();
    await rm(dir, { recursive: true });
  });
  const edge = await Edge.start({ AUTH: "none", REDIS_URL: redis.url }, { waitReady: false });
  t.after(() => edge.stop());
  assert.deepEqual(await edge.child.ended(), { code: 1, signal: null });
  assert.match(edge.child.lines.at(-1), /Redis Cluster .*not supported/, edge.child.log());
});
