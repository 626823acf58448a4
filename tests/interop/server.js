// A server for the interop client, by ws for Node. Usage: server.js PORT [CERTIFICATE KEY]

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { WebSocketServer } from "ws";

const [port, certificate, key] = process.argv.slice(2);
const server = certificate
  ? https.createServer({ cert: readFileSync(certificate), key: readFileSync(key) })
  : http.createServer();
const handleProtocols = (offered) => (offered.has("chat.v2") ? "chat.v2" : false);

// Compression as the query wants it: deflate=server_no_context_takeover,client_max_window_bits=10
const names = {
  server_no_context_takeover: "serverNoContextTakeover",
  client_no_context_takeover: "clientNoContextTakeover",
  server_max_window_bits: "serverMaxWindowBits",
  client_max_window_bits: "clientMaxWindowBits",
};
const deflate = (query) =>
  Object.fromEntries(
    (query ? query.split(",") : []).map((param) => {
      const [name, value] = param.split("=");
      return [names[name], value ? Number(value) : true];
    }),
  );

const servers = new Map();
server.on("upgrade", (request, socket, head) => {
  const { searchParams } = new URL(request.url, "ws://localhost");
  const query = searchParams.get("deflate") ?? "";
  if (!servers.has(query)) {
    const options = { noServer: true, handleProtocols, perMessageDeflate: deflate(query) };
    servers.set(query, new WebSocketServer(options).on("connection", serve));
  }
  const chosen = servers.get(query);
  chosen.handleUpgrade(request, socket, head, (open) => chosen.emit("connection", open, request));
});

function serve(socket, request) {
  const { pathname, searchParams } = new URL(request.url, "ws://localhost");
  switch (pathname) {
    case "/close":
      socket.close(Number(searchParams.get("code")), searchParams.get("reason") ?? "");
      break;
    case "/ping":
      socket.on("pong", (payload) => {
        if (payload.toString() === "from the server") socket.send("answered");
      });
      socket.ping("from the server");
      break;
    case "/fragments":
      socket.send("one ", { fin: false });
      socket.send("", { fin: false });
      socket.send("two ", { fin: false });
      socket.send("three");
      socket.send(Buffer.from([0]), { fin: false, binary: true });
      socket.send(Buffer.from([1, 2]), { binary: true });
      break;
    default:
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  }
}
server.listen(Number(port), "127.0.0.1");
