// The plot of latencies: time to the right, milliseconds upwards on a logarithmic scale, deliveries as an area behind.

const span = 5 * 60_000; // milliseconds shown
const low = 0.0001, high = 5; // seconds at the lower and the upper edge
const ticks = [0.001, 0.01, 0.1, 1];
const goal = 0.2;
const left = 52, right = 56, top = 8, bottom = 20; // pixels around the plot

const seconds = (s) => (s < 1 ? `${+(s * 1000).toPrecision(2)} ms` : `${+s.toPrecision(2)} s`);
export const format = (s) => (s === undefined ? "–" : seconds(s));

/** A number as people read it: 12, 3.4k, 1.2M. */
export function short(n) {
  for (const [unit, size] of [["M", 1e6], ["k", 1e3]]) if (n >= size) return `${(n / size).toFixed(n >= 100 * size ? 0 : 1)}${unit}`;
  return `${Math.round(n)}`;
}

/** Draws points, each {at, p50, p99, rate}, in order of time, as it is at now. */
export function draw(canvas, points, now) {
  const scale = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const g = canvas.getContext("2d");
  g.scale(scale, scale);
  g.clearRect(0, 0, width, height);
  const colour = (name) => getComputedStyle(canvas).getPropertyValue(name);
  const x = (at) => left + (1 - (now - at) / span) * (width - left - right);
  const y = (s) => top + (1 - Math.log(Math.min(Math.max(s, low), high) / low) / Math.log(high / low)) * (height - top - bottom);
  const shown = points.filter(({ at }) => at >= now - span);

  g.font = "12px system-ui, sans-serif";
  area(g, shown, x, height, colour);
  axes(g, width, height, x, y, now, colour);
  for (const [name, of] of [["--p50", "p50"], ["--p99", "p99"]]) line(g, shown, x, y, of, colour(name));
}

function area(g, shown, x, height, colour) {
  const most = Math.max(1, ...shown.map(({ rate }) => rate ?? 0));
  const y = (rate) => top + (1 - (0.9 * rate) / most) * (height - top - bottom);
  g.fillStyle = colour("--rate");
  g.globalAlpha = 0.35;
  g.beginPath();
  shown.forEach(({ at, rate = 0 }, i) => (i === 0 ? (g.moveTo(x(at), height - bottom), g.lineTo(x(at), y(rate))) : g.lineTo(x(at), y(rate))));
  if (shown.length) g.lineTo(x(shown.at(-1).at), height - bottom);
  g.fill();
  g.globalAlpha = 1;
  g.fillStyle = colour("--quiet");
  g.textAlign = "left";
  g.fillText(`${short(most)}/s`, g.canvas.getBoundingClientRect().width - right + 6, y(most) + 4);
}

function axes(g, width, height, x, y, now, colour) {
  g.lineWidth = 1;
  g.strokeStyle = colour("--line");
  g.fillStyle = colour("--quiet");
  g.textAlign = "right";
  for (const s of ticks) {
    rule(g, left, width - right, y(s));
    g.fillText(seconds(s), left - 8, y(s) + 4);
  }
  g.textAlign = "center";
  const step = width < 500 ? 5 : 1; // minutes between two labels
  for (let minutes = 0; minutes <= 5; minutes += step) g.fillText(minutes === 0 ? "now" : `−${minutes} min`, x(now - minutes * 60_000), height - 4);
  g.setLineDash([5, 4]);
  g.strokeStyle = colour("--goal");
  rule(g, left, width - right, y(goal));
  g.setLineDash([]);
}

function rule(g, from, to, at) {
  g.beginPath();
  g.moveTo(from, Math.round(at) + 0.5);
  g.lineTo(to, Math.round(at) + 0.5);
  g.stroke();
}

function line(g, shown, x, y, of, colour) {
  g.strokeStyle = g.fillStyle = colour;
  g.lineWidth = 2;
  g.lineJoin = "round";
  g.beginPath();
  let open = false;
  for (const p of shown) {
    if (p[of] === undefined) {
      open = false;
      continue;
    }
    if (open) g.lineTo(x(p.at), y(p[of]));
    else g.moveTo(x(p.at), y(p[of]));
    open = true;
  }
  g.stroke();
  const last = shown.at(-1);
  if (last?.[of] !== undefined) {
    g.beginPath();
    g.arc(x(last.at), y(last[of]), 3, 0, 2 * Math.PI);
    g.fill();
  }
}
