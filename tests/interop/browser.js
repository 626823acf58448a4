// A browser as client of our echo_server.
//
// Usage: browser.js --page URL --key HASH --every-deflate FILE (plain|deflate)=URL…
//
// The page is where the script runs; HASH is of the key that the servers' certificate has. Those at plain= must not
// compress, those at deflate= must. FILE has lines of parameters and the URL of a server that wants them.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const LENGTHS = [0, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20];
const CLOSES = [[1000, ""], [1000, "done"], [3000, "grüße"], [4999, "x"]];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { page: { type: "string" }, key: { type: "string" }, "every-deflate": { type: "string" } },
});

const profile = mkdtempSync(join(tmpdir(), "browser-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium",
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    `--ignore-certificate-errors-spki-list=${values.key}`,
  ],
});

// In the page: echoes of everything up to so long, then a close. Gives the extensions and how it was closed.
async function talk({ url, lengths, protocols, code, reason }) {
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  const next = (kind) =>
    new Promise((resolve, reject) => {
      socket.addEventListener(kind, resolve, { once: true });
      socket.addEventListener("close", (event) => reject(new Error(`${url}: closed, ${event.code}`)), { once: true });
    });
  await next("open");
  let seed = 7;
  const random = (below) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (const length of lengths) {
    // It repeats what came before, up to 40,000 bytes back, more often than not.
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += 64) {
      const start = at - 64 - random(40_000);
      if (start < 0 || random(5) === 0) for (let i = at; i < at + 64 && i < length; i++) bytes[i] = random(256);
      else bytes.copyWithin(at, start, start + 64);
    }
    const text = new TextDecoder("latin1").decode(bytes.subarray(0, length / 2));
    for (const message of [bytes, text]) {
      const answer = next("message");
      socket.send(message);
      let { data } = await answer;
      let same = data === text;
      if (message !== text) {
        data = new Uint8Array(data);
        same = data.length === length && data.every((byte, index) => byte === bytes[index]);
      }
      if (!same) throw new Error(`${url}: echo of ${length} ${typeof message}`);
    }
  }
  const closed = new Promise((resolve) => socket.addEventListener("close", resolve, { once: true }));
  socket.close(code, reason);
  const event = await closed;
  const { extensions, protocol } = socket;
  return { extensions, protocol, clean: event.wasClean, code: event.code };
}

try {
  const page = await browser.newPage();
  await page.goto(values.page);
  for (const argument of positionals) {
    const [how, url] = argument.split(/=(.*)/);
    const lengths = LENGTHS;
    const result = await page.evaluate(talk, { url, lengths, protocols: ["chat.v3", "chat.v2"], code: 1000, reason: "" });
    const extensions = how === "deflate" ? "permessage-deflate" : "";
    assert.deepEqual(result, { extensions, protocol: "chat.v2", clean: true, code: 1000 });
    for (const [code, reason] of CLOSES) {
      const result = await page.evaluate(talk, { url, lengths: [1], protocols: [], code, reason });
      assert.deepEqual(result, { extensions, protocol: "", clean: true, code });
    }
    console.log(`${url}${extensions && ", compressed"}: works from a browser`);
  }
  let count = 0;
  for (const line of readFileSync(values["every-deflate"], "ascii").trim().split("\n")) {
    const [params, url] = line.split(" ");
    const bits = [...params.matchAll(/=(\d+)/g)].map((found) => Number(found[1]));
    const same = bits[0] === bits[1];
    const most = same && [9, 15].includes(bits[0]) ? 16 << 20 : same ? 1 << 20 : 65_536;
    const lengths = LENGTHS.filter((length) => length <= most);
    const result = await page.evaluate(talk, { url, lengths, protocols: [], code: 1000, reason: "" });
    // What is said to be 15 need not be said.
    const said = (text) => text.split(/[;,] ?/).filter((param) => !param.endsWith("=15")).sort();
    assert.deepEqual(said(result.extensions), said(`permessage-deflate,${params}`));
    count += 1;
  }
  console.log(`${count} ways to compress work from a browser`);
} finally {
  await browser.close();
  rmSync(profile, { recursive: true });
}
