// HAProxy with deploy/haproxy.cfg, on ports of the test's own.
import { writeFileSync } from "node:fs";

import { listening } from "./nginx.mjs";
import { Child, freePort } from "./process.mjs";
import { program, scratch, shipped } from "./shipped.mjs";

// HAProxy is one running haproxy in front of three nodes.
export class HAProxy {
  // start returns when haproxy listens. With proxyProtocol it tells the nodes of its clients in a PROXY header.
  static async start(addresses, { proxyProtocol = false } = {}) {
    const haproxy = new HAProxy();
    haproxy.port = await freePort();
    const dir = scratch();
    const header = proxyProtocol ? [["    #     default-server send-proxy-v2\n", "    default-server send-proxy-v2\n", 2], ["    option forwardfor ", "    # option forwardfor "]] : [];
    writeFileSync(
      `${dir}/haproxy.cfg`,
      shipped("haproxy.cfg", [
        ["    user haproxy\n    group haproxy\n", ""],
        ["    maxconn 65536 ", "    maxconn 4096 "], // two files each, which not everybody may open
        ["    bind :80\n", `    bind 127.0.0.1:${haproxy.port}\n`],
        ...addresses.map((address, i) => [`    server edge-${i + 1} 127.0.0.1:300${i + 1}\n`, `    server edge-${i + 1} ${address}\n`, 2]),
        ...header,
      ]),
    );
    haproxy.child = new Child("haproxy", program("haproxy"), ["-db", "-f", `${dir}/haproxy.cfg`], {});
    await listening(haproxy);
    return haproxy;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  stop() {
    return this.child.stop();
  }
}
