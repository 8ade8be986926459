// The Node test runner's results as JSON lines, one per case, for the Go driver.
import { inspect } from "node:util";

export default async function* report(source) {
  for await (const { type, data } of source) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const failed = type === "test:fail";
    // A suite fails with its cases; only what it did wrong itself, in a hook, is news.
    if (data.details?.type === "suite" && !(failed && data.details.error?.failureType === "hookFailed")) continue;
    yield `${JSON.stringify({
      case: data.name,
      failed,
      skipped: data.skip === undefined ? undefined : String(data.skip),
      milliseconds: Math.round(data.details?.duration_ms ?? 0),
      error: failed ? message(data.details?.error) : undefined,
    })}\n`;
  }
}

function message(error) {
  const cause = error?.cause ?? error;
  return typeof cause === "string" ? cause : (cause?.stack ?? inspect(cause));
}
