// A long line: TCP connections to a node on which everything takes a while, a different one on each.
import net from "node:net";

// line listens on a port of its own, adds up to `latency` milliseconds each way, and returns its URL.
export async function line(t, address, latency) {
  const [host, port] = address.split(":");
  const open = new Set();
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(port), host);
    const ms = Math.ceil(Math.random() * latency);
    carry(client, upstream, ms);
    carry(upstream, client, ms);
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("error", () => {}); // "close" follows
      socket.on("close", () => open.delete(socket));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

// carry passes on what arrives, and the end of it, in order: timers of one duration fire in the order they were set.
function carry(from, to, ms) {
  const later = (act) => setTimeout(() => !to.destroyed && act(), ms);
  from.on("data", (data) => later(() => to.write(data)));
  from.on("end", () => later(() => to.end()));
  from.on("close", () => later(() => to.destroy()));
}
