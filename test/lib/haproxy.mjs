// HAProxy with deploy/haproxy.cfg, on ports of the test's own.
import { writeFileSync } from "node:fs";

import { listening } from "./nginx.mjs";
import { Child, freePort } from "./process.mjs";
import { program, scratch, shipped } from "./shipped.mjs";

// HAProxy is one running haproxy in front of three nodes.
export class HAProxy {
  // start returns when HAProxy listens. With tls, a certificate, clients come by TLS; with proxyProtocol it tells the
  // nodes of its clients in a PROXY header.
  static async start(addresses, { tls, proxyProtocol = false } = {}) {
    const haproxy = new HAProxy();
    haproxy.port = await freePort();
    haproxy.scheme = tls ? "https" : "http";
    const dir = scratch();
    const header = proxyProtocol ? [["    #     default-server send-proxy-v2\n", "    default-server send-proxy-v2\n", 2], ["    option forwardfor ", "    # option forwardfor "]] : [];
    writeFileSync(
      `${dir}/haproxy.cfg`,
      shipped("haproxy.cfg", [
        ["    user haproxy\n    group haproxy\n", ""],
        ["    maxconn 65536 ", "    maxconn 4096 "], // two files each, which not everybody may open
        ...(tls
          ? [
              ["    bind :80\n", ""],
              ["    #     bind :443 ssl crt /etc/ssl/edge.pem ", `    bind 127.0.0.1:${haproxy.port} ssl crt ${tls.pem} `],
            ]
          : [["    bind :80\n", `    bind 127.0.0.1:${haproxy.port}\n`]]),
        ...addresses.map((address, i) => [`    server edge-${i + 1} 127.0.0.1:300${i + 1}\n`, `    server edge-${i + 1} ${address}\n`, 2]),
        ...header,
      ]),
    );
    haproxy.child = new Child("haproxy", program("haproxy"), ["-db", "-f", `${dir}/haproxy.cfg`], {});
    await listening(haproxy);
    return haproxy;
  }

  get url() {
    return `${this.scheme}://127.0.0.1:${this.port}`;
  }

  stop() {
    return this.child.stop();
  }
}
