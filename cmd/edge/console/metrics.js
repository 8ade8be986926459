// What Prometheus's text format says, and quantiles of what happened between two looks.
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format

/** Reads a scrape: a Map of metric name to its series, each {labels, value}. */
export function parse(text) {
  const all = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line[0] === "#") continue;
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!m) continue;
    const labels = {};
    for (const [, name, value] of (m[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    if (!all.has(m[1])) all.set(m[1], []);
    all.get(m[1]).push({ labels, value: m[3] === "+Inf" ? Infinity : Number(m[3]) });
  }
  return all;
}

/** The sum of all series of a metric, 0 if there are none. */
export const total = (scrape, name) => (scrape.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);

/** A histogram's cumulative buckets, as [upper bound, count] in order. */
export function buckets(scrape, name) {
  const list = (scrape.get(`${name}_bucket`) ?? []).map(({ labels, value }) => [labels.le === "+Inf" ? Infinity : Number(labels.le), value]);
  return list.sort(([a], [b]) => a - b);
}

/**
 * The q-quantile of what was observed between two looks at a histogram, as
 * Prometheus's histogram_quantile estimates it; undefined if nothing was.
 */
export function quantile(q, before, after) {
  const counts = after.map(([le, n], i) => [le, n - (before[i]?.[1] ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (!(all > 0)) return undefined;
  const rank = q * all;
  const i = counts.findIndex(([, n]) => n >= rank);
  if (counts[i][0] === Infinity) return counts[i - 1]?.[0];
  const [low, below] = i === 0 ? [0, 0] : counts[i - 1];
  const [high, upTo] = counts[i];
  return low + (high - low) * ((rank - below) / (upTo - below));
}
