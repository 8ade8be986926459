// nginx with deploy/nginx.conf, on ports of the test's own.
import { writeFileSync } from "node:fs";
import { userInfo } from "node:os";

import { accepts, Child, freePort } from "./process.mjs";
import { program, scratch, shipped } from "./shipped.mjs";
import { eventually } from "./wait.mjs";

// Nginx is one running nginx in front of three nodes.
export class Nginx {
  // start returns when nginx listens. With sticky a client's address decides on its node; with tls, a certificate, clients
  // come by TLS.
  static async start(addresses, { sticky = false, tls } = {}) {
    const nginx = new Nginx();
    nginx.port = await freePort();
    nginx.scheme = tls ? "https" : "http";
    const dir = scratch();
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((what) => `    ${what}_temp_path ${dir}/${what};\n`);
    const changes = [
      ["user www-data;", `user ${userInfo().username};`], // who may enter the directory
      ["http {\n", `http {\n${temporary.join("")}`],
      ...(tls
        ? [
            ["        listen 80 ", "        # listen 80 "],
            ["        #     listen 443 ", `        listen 127.0.0.1:${nginx.port} `],
            ["        #     ssl_", "        ssl_", 4],
            ["/etc/ssl/edge.pem", tls.cert],
            ["/etc/ssl/edge.key", tls.key],
          ]
        : [["        listen 80 ", `        listen 127.0.0.1:${nginx.port} `]]),
      ...addresses.map((address, i) => [`server 127.0.0.1:300${i + 1} `, `server ${address} `]),
    ];
    if (sticky) changes.push(["#     ip_hash;", "\n        ip_hash;"]);
    writeFileSync(`${dir}/nginx.conf`, shipped("nginx.conf", changes));
    const args = ["-e", "stderr", "-p", dir, "-c", `${dir}/nginx.conf`, "-g", `daemon off; pid ${dir}/nginx.pid;`];
    nginx.child = new Child("nginx", program("nginx"), args, {}, { last: "SIGTERM" }); // its workers would outlive a SIGKILL
    await listening(nginx);
    return nginx;
  }

  get url() {
    return `${this.scheme}://127.0.0.1:${this.port}`;
  }

  stop() {
    return this.child.stop();
  }
}

// listening waits until a balancer accepts connections.
export function listening({ child, port }) {
  return eventually(
    `${child.name} to listen`,
    async () => {
      if (child.exit) throw new Error(`${child.name} ended\n${child.log()}`);
      return accepts(port);
    },
    { detail: () => child.log() },
  );
}
