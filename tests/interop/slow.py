"""A server that sends the head of its response one byte a second, or nothing at all. Usage: slow.py PORT

It prints a line for each connection that ends: how many bytes had been sent.
"""

import asyncio
import sys

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"


async def handle(reader, writer):
    request = await reader.readuntil(b"\r\n\r\n")
    gone = asyncio.ensure_future(reader.read())
    sent = 0
    silent = request.startswith(b"GET /silent ")
    while not gone.done():
        if not silent:
            writer.write(HEAD[sent : sent + 1])
            sent += 1
        await asyncio.wait([gone], timeout=1)
    print("closed after", sent, flush=True)
    writer.close()


async def main(port):
    server = await asyncio.start_server(handle, "127.0.0.1", int(port))
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
