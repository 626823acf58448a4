"""A client of our echo_server, by Python's websockets.

Usage: client.py [--ca FILE] [--deflate] URL       everything but compression; --deflate: the server must accept it
       client.py --limit URL                       the server must take 1000 bytes and no more
       client.py --every-deflate FILE URL          compression as the client asks for it at URL, and as servers want it,
                                                   whose parameters and URLs are the lines of FILE
"""

import argparse
import asyncio
import random
import ssl

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

LENGTHS = [0, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20]
CLOSES = [(1000, ""), (1000, "done"), (1001, "going away"), (3000, "grüße"), (4999, "x")]
CONNECTIONS = 100


def expect(holds, what):
    if not holds:
        raise SystemExit(f"client.py: {what}")


async def echoed(socket, message):
    await socket.send(message)
    expect(await socket.recv() == message, f"echo of {len(message)} {type(message).__name__}")


async def check(url, options, deflate):
    options = {"max_size": None, "proxy": None, **options}

    async with connect(url, subprotocols=["chat.v3", "chat.v2"], **options) as socket:
        expect(socket.subprotocol == "chat.v2", "subprotocol")
        expect(bool(socket.protocol.extensions) == deflate, "compression is what the server says")
        for length in LENGTHS:
            await echoed(socket, "ü" * (length // 2) + "u" * (length % 2))
            await echoed(socket, bytes(range(256)) * (length // 256) + bytes(length % 256))
        await socket.send(["grüße ", "", "in ", "parts"])
        expect(await socket.recv() == "grüße in parts", "fragments")
        await (await socket.ping(b"there?"))

    for code, reason in CLOSES:
        async with connect(url, **options) as socket:
            expect(socket.subprotocol is None, "no subprotocol")
            await socket.close(code, reason)
            expect(socket.protocol.close_rcvd.code == code, f"close {code} is answered")

    async with asyncio.TaskGroup() as group:
        for index in range(CONNECTIONS):
            group.create_task(one(url, options, str(index)))
    print(f"{url}{', compressed' if deflate else ''}: works from Python")


async def one(url, options, message):
    async with connect(url, **options) as socket:
        await echoed(socket, message)


async def check_limit(url):
    async with connect(url, proxy=None) as socket:
        await echoed(socket, b"x" * 1000)
        await socket.send(b"x" * 1001)
        try:
            await socket.recv()
        except ConnectionClosedError as error:
            expect(error.rcvd and error.rcvd.code == 1009, f"too large: {error}")
        else:
            expect(False, "too large")


def repetitive(length):
    """Bytes that repeat what came before, up to 40,000 bytes back, more often than not."""
    source = random.Random(7)
    data = bytearray()
    while len(data) < length:
        start = len(data) - source.randrange(64, 40_000)
        fresh = start < 0 or source.random() < 0.2
        data += source.randbytes(64) if fresh else data[start : start + 64]
    return bytes(data[:length])


async def check_every_deflate(file, url):
    data = repetitive(1 << 20) * 16
    count = 0
    with open(file, encoding="ascii") as lines:
        for line in lines:
            params, wanting = line.split()
            named = {}
            for param in params.split(","):
                name, _, value = param.partition("=")
                named[name] = int(value) if value else True
            same = named["server_max_window_bits"] == named["client_max_window_bits"]
            ends = same and named["server_max_window_bits"] in (9, 15)
            long = 1 << 20 if same else 65_536
            asked = ClientPerMessageDeflateFactory(**named)
            for address, factory, most in [
                (url, asked, 16 << 20 if ends else long),
                (wanting, ClientPerMessageDeflateFactory(), long),
            ]:
                await deflated(address, factory, named, data, most)
                count += 1
    print(f"{url}: {count} ways to compress work from Python")


async def deflated(url, factory, named, data, most):
    async with connect(url, extensions=[factory], compression=None, max_size=None, proxy=None) as socket:
        (agreed,) = socket.protocol.extensions
        fits = (
            agreed.remote_no_context_takeover == ("server_no_context_takeover" in named)
            and agreed.local_no_context_takeover == ("client_no_context_takeover" in named)
            and agreed.remote_max_window_bits == named["server_max_window_bits"]
            and agreed.local_max_window_bits == named["client_max_window_bits"]
        )
        expect(fits, f"{named} wanted, {agreed} agreed on")
        for length in filter(lambda length: length <= most, LENGTHS):
            await echoed(socket, data[:length])
            await echoed(socket, data[:length].decode("latin-1")[: length // 2])


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ca")
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--every-deflate")
    parser.add_argument("--limit", action="store_true")
    parser.add_argument("url")
    arguments = parser.parse_args()
    encrypted = arguments.url.startswith("wss:")
    options = {"ssl": ssl.create_default_context(cafile=arguments.ca)} if encrypted else {}
    if arguments.every_deflate:
        await check_every_deflate(arguments.every_deflate, arguments.url)
    elif arguments.limit:
        await check_limit(arguments.url)
    else:
        await check(arguments.url, options, arguments.deflate)


asyncio.run(main())
