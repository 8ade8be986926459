// The files of deploy/ as the tests run them: with addresses of their own, and not otherwise changed.
import { execFileSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

const sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"]; // not in everybody's PATH

// program is the path of a program, undefined where it is not installed.
export function program(name) {
  return [...(process.env.PATH ?? "").split(delimiter), ...sbin].map((dir) => join(dir, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

// lacking is the reason for which cases are skipped that need a program, false where there is none. With
// EDGE_E2E=required a program that is missing is an error.
export function lacking(name) {
  if (program(name)) return false;
  const text = `${name} is not installed (Debian: apt-get install ${name}); \`make tools\` installs what it can`;
  if (process.env.EDGE_E2E === "required") throw new Error(text);
  return text;
}

// shipped is the text of a file of deploy/ after the changes, each [what to replace, with what, how often it is there].
// What is not there that often is an error: the test would run something else than it says.
export function shipped(name, changes) {
  let text = readFileSync(fileURLToPath(new URL(`../../deploy/${name}`, import.meta.url)), "utf8");
  for (const [from, to, times = 1] of changes) {
    const parts = text.split(from);
    if (parts.length !== times + 1) throw new Error(`deploy/${name} has ${JSON.stringify(from)} ${parts.length - 1} times instead of ${times}`);
    text = parts.join(to);
  }
  return text;
}

// certificate makes a certificate for 127.0.0.1 that signs itself, and returns it and the paths of its files: `pem` has
// both, as HAProxy wants it.
export function certificate() {
  const dir = scratch();
  const [cert, key, pem] = ["cert", "key", "pem"].map((name) => join(dir, name));
  const args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=edge -addext subjectAltName=IP:127.0.0.1";
  execFileSync(program("openssl"), [...args.split(" "), "-out", cert, "-keyout", key], { stdio: "pipe" });
  const ca = readFileSync(cert, "utf8");
  writeFileSync(pem, ca + readFileSync(key, "utf8"));
  return { ca, cert, key, pem };
}

// scratch makes a directory that is removed after the test file.
export function scratch() {
  const dir = mkdtempSync(join(tmpdir(), "edge-balancer-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
