// A load balancer in one screen: TCP connections go to the first node that accepts them.
import net from "node:net";

// balancer listens on a port of its own and returns {url, close}.
export async function balancer(t, addresses) {
  const open = new Set();
  const server = net.createServer((client) => {
    open.add(client);
    client.on("error", () => {});
    client.on("close", () => open.delete(client));
    forward(client, [...addresses]);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    for (const client of open) client.destroy();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

function forward(client, addresses) {
  const address = addresses.shift();
  if (!address) return client.destroy();
  const [host, port] = address.split(":");
  const upstream = net.connect(Number(port), host);
  const next = () => forward(client, addresses);
  upstream.once("error", next);
  upstream.once("connect", () => {
    upstream.off("error", next);
    upstream.on("error", () => client.destroy());
    upstream.on("close", () => client.end());
    client.on("close", () => upstream.destroy());
    client.pipe(upstream);
    upstream.pipe(client);
  });
}
