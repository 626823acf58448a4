"""A server for the interop client, by Python's websockets. Usage: server.py PORT [CERTIFICATE KEY]"""

import asyncio
import contextlib
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def handle(connection):
    url = urlsplit(connection.request.path)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    match url.path:
        case "/close":
            await connection.close(int(query["code"]), query.get("reason", ""))
        case "/ping":
            answered = await connection.ping(b"from the server")
            await answered
            await connection.send("answered")
            await connection.wait_closed()
        case "/fragments":
            await connection.send(["one ", "", "two ", "three"])
            await connection.send([b"\0", b"\1\2"])
            await connection.wait_closed()
        case _:
            with contextlib.suppress(ConnectionClosedError):
                async for message in connection:
                    await connection.send(message)


def select_subprotocol(_, offered):
    return "chat.v2" if "chat.v2" in offered else None


def process_request(connection, request):
    """Compression as the query wants it: `deflate=server_no_context_takeover,client_max_window_bits=10`."""
    params = parse_qs(urlsplit(request.path).query, keep_blank_values=True).get("deflate", [""])[0]
    named = {}
    for param in filter(None, params.split(",")):
        name, _, value = param.partition("=")
        named[name] = int(value) if value else True
    connection.protocol.available_extensions = [ServerPerMessageDeflateFactory(**named)]


async def main(port, *files):
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    options = {"ssl": context, "max_size": None, "select_subprotocol": select_subprotocol, "process_request": process_request}
    async with serve(handle, "127.0.0.1", int(port), **options) as server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
