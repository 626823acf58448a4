// A client of our echo_server, by ws for Node.
//
// Usage: client.js [--ca FILE] [--deflate] URL      everything but compression; --deflate: the server must accept it
//        client.js --every-deflate FILE URL         compression as the client asks for it at URL, and as servers want it,
//                                                   whose parameters and URLs are the lines of FILE

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import WebSocket from "ws";

const LENGTHS = [0, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20];
const CLOSES = [[1000, ""], [1000, "done"], [1001, "going away"], [3000, "grüße"], [4999, "x"]];
const CONNECTIONS = 100;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    ca: { type: "string" },
    deflate: { type: "boolean", default: false },
    "every-deflate": { type: "string" },
  },
});
const [url] = positionals;
const ca = values.ca && readFileSync(values.ca);

async function open(url, protocols = [], options = {}) {
  const socket = new WebSocket(url, protocols, { ca, maxPayload: 0, ...options });
  await once(socket, "open");
  return socket;
}

function next(socket) {
  return new Promise((resolve, reject) => {
    const closed = (code) => reject(new Error(`${socket.url}: closed with ${code}`));
    socket.once("close", closed);
    socket.once("message", (data, isBinary) => {
      socket.off("close", closed);
      resolve(isBinary ? data : data.toString());
    });
  });
}

async function echoed(socket, message) {
  const answer = next(socket);
  socket.send(message);
  const echo = await answer;
  // assert.deepEqual takes long for long ones.
  const same = typeof message === "string" ? echo === message : Buffer.compare(echo, message) === 0;
  assert(same, `echo of ${message.length} ${typeof message}`);
}

async function close(socket, code = 1000, reason = "") {
  const closed = once(socket, "close");
  socket.close(code, reason);
  const [answer] = await closed;
  assert.equal(answer, code, "close is answered");
}

async function check() {
  const socket = await open(url, ["chat.v3", "chat.v2"]);
  assert.equal(socket.protocol, "chat.v2");
  assert.equal(socket.extensions !== "", values.deflate, "compression is what the server says");
  for (const length of LENGTHS) {
    await echoed(socket, "ü".repeat(length / 2) + "u".repeat(length % 2));
    await echoed(socket, Buffer.alloc(length, "0123456789"));
  }
  const whole = next(socket);
  for (const [index, part] of ["grüße ", "", "in ", "parts"].entries()) socket.send(part, { fin: index === 3 });
  assert.equal(await whole, "grüße in parts");
  const ponged = once(socket, "pong");
  socket.ping("there?");
  assert.equal((await ponged)[0].toString(), "there?");
  await close(socket);

  for (const [code, reason] of CLOSES) {
    const socket = await open(url);
    assert.equal(socket.protocol, "");
    await close(socket, code, reason);
  }

  await Promise.all(
    Array.from({ length: CONNECTIONS }, async (_, index) => {
      const socket = await open(url);
      await echoed(socket, String(index));
      await close(socket);
    }),
  );
  console.log(`${url}${values.deflate ? ", compressed" : ""}: works from Node`);
}

// Bytes that repeat what came before, up to 40,000 bytes back, more often than not.
function repetitive(length) {
  let seed = 7;
  const random = (below) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  const data = Buffer.alloc(length);
  for (let at = 0; at < length; at += 64) {
    const start = at - 64 - random(40_000);
    if (start < 0 || random(5) === 0) for (let i = at; i < at + 64 && i < length; i++) data[i] = random(256);
    else data.copy(data, at, start, start + 64);
  }
  return data;
}

async function deflated(url, options, named, data, most) {
  const socket = await open(url, [], { perMessageDeflate: { threshold: 0, ...options } });
  const { params } = socket._extensions["permessage-deflate"];
  const agreed = { server_max_window_bits: 15, client_max_window_bits: 15, ...params };
  assert.deepEqual(agreed, named);
  for (const length of LENGTHS.filter((length) => length <= most)) {
    await echoed(socket, data.subarray(0, length));
    await echoed(socket, data.toString("latin1", 0, length / 2));
  }
  await close(socket);
}

async function checkEveryDeflate(file) {
  const data = Buffer.concat(Array(16).fill(repetitive(1 << 20)));
  let count = 0;
  for (const line of readFileSync(file, "ascii").trim().split("\n")) {
    const [params, wanting] = line.split(" ");
    const named = Object.fromEntries(
      params.split(",").map((param) => {
        const [name, value] = param.split("=");
        return [name, value ? Number(value) : true];
      }),
    );
    const asked = {
      serverNoContextTakeover: named.server_no_context_takeover,
      clientNoContextTakeover: named.client_no_context_takeover,
      serverMaxWindowBits: named.server_max_window_bits,
      clientMaxWindowBits: named.client_max_window_bits,
    };
    const same = named.server_max_window_bits === named.client_max_window_bits;
    const ends = same && [9, 15].includes(named.server_max_window_bits);
    const long = same ? 1 << 20 : 65_536;
    await deflated(url, asked, named, data, ends ? 16 << 20 : long);
    await deflated(wanting, {}, named, data, long);
    count += 2;
  }
  console.log(`${url}: ${count} ways to compress work from Node`);
}

await (values["every-deflate"] ? checkEveryDeflate(values["every-deflate"]) : check());
