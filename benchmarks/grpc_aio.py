"""grpc.aio at its best: both ends of every suite that compares with it; needs grpcio.

Generic handlers without serializers: bytes in, bytes out, no protobuf. What was tried besides (its event loops, reading
by `async for` and by `read()`, writing by a generator and by `write()`, options of the channel) and made no difference
that lasts is left at its default.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from benchmarks.stream_loads import ENDLESS

_CONNECT = 60.0  # seconds, on a machine that does other work too
_OPTIONS = [("grpc.max_receive_message_length", -1)]  # the default of 4 MiB is too little for large messages


async def serve(say: Callable[[str], None]) -> None:
    """Methods of all four kinds.

    Args:
        say: Called with the endpoint.
    """
    server = grpc.aio.server(options=_OPTIONS)
    handlers = {
        "echo": grpc.unary_unary_rpc_method_handler(_echo),
        "repeat": grpc.unary_stream_rpc_method_handler(_repeat),
        "take": grpc.stream_unary_rpc_method_handler(_take),
        "talk": grpc.stream_stream_rpc_method_handler(_talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(f"127.0.0.1:{port}")
    await server.wait_for_termination()


async def _echo(request: bytes, context: Any) -> bytes:
    return request


async def _repeat(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(ENDLESS):
        yield request


async def _take(requests: AsyncIterator[bytes], context: Any) -> bytes:
    count = 0
    async for _ in requests:
        count += 1
    return b"%d" % count


async def _talk(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


@contextlib.asynccontextmanager
async def channel(endpoint: str) -> AsyncIterator[Any]:
    """A channel that is connected."""
    async with grpc.aio.insecure_channel(endpoint, options=_OPTIONS) as connected:
        await asyncio.wait_for(connected.channel_ready(), _CONNECT)
        yield connected
