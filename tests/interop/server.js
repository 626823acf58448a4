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

new WebSocketServer({ server, handleProtocols }).on("connection", (socket, request) => {
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
});
server.listen(Number(port), "127.0.0.1");
