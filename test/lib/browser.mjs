// Chromium without a window, as people have it.
import { existsSync, mkdirSync } from "node:fs";

import { chromium } from "playwright-core";

// Debian's names first, then others'.
const programs = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

// openBrowser starts Chromium; the caller closes it.
export function openBrowser() {
  const executablePath = process.env.CHROMIUM_BIN ?? programs.find(existsSync);
  if (!executablePath) throw new Error("chromium is not installed (Debian: apt-get install chromium)");
  return chromium.launch({ executablePath, args: ["--no-sandbox"] }); // as root there is no sandbox
}

// picture saves what a page shows below out/, to be looked at.
export async function picture(page, name) {
  const dir = new URL("../../out/", import.meta.url).pathname;
  mkdirSync(dir, { recursive: true });
  await page.screenshot({ path: `${dir}${name}.png`, fullPage: true });
}
