"""Both ends of the suite of large messages: echoes by several ways; run by `benchmarks.large`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

import zmq

import aiozpat
from benchmarks import child, reader
from benchmarks.load import WARM_UP

Ask: TypeAlias = Callable[[Any], Awaitable[Any]]

_CONNECT = 60.0  # seconds, on a machine that does other work too
_WARM_UP_NUMBERS = 128 * 1024
_SETTLE = 0.3  # seconds until what the warm-up used is given back
_clock = time.perf_counter


# pyzmq, blocking


async def serve_blocking() -> None:
    """REP that sends back the frame that it got; nothing else runs on this loop, so it may block."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(child.ANY_PORT)
        child.say(socket.get_string(zmq.LAST_ENDPOINT))
        while True:
            socket.send(socket.recv(copy=False), copy=False)


@contextlib.asynccontextmanager
async def ask_blocking(endpoint: str) -> AsyncIterator[Ask]:
    """REQ, blocking in the same way."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)

        async def ask(payload: memoryview) -> memoryview:
            socket.send(payload, copy=False)
            return socket.recv(copy=False).buffer

        yield ask


# aiozpat; no limit but that of a frame is in the way of one large call at a time


async def serve_aiozpat(size: int) -> None:
    """Echo by views of what has arrived, and by bytes."""
    service = aiozpat.Service("bench")

    @service.method(name="memoryview")
    async def echo_view(data: memoryview) -> memoryview:
        return data

    @service.method(name="bytes")
    async def echo_bytes(data: bytes) -> bytes:
        return data

    async with aiozpat.Server(service, bind=child.ANY_PORT, options=_options(size)) as server:
        child.say(server.endpoint)
        await server.serve_forever()


@contextlib.asynccontextmanager
async def ask_aiozpat(endpoint: str, kind: type, size: int) -> AsyncIterator[Ask]:
    """Calls with a deadline each, whose results are of that type."""
    async with aiozpat.Client(endpoint, options=_options(size)) as client:
        await client.ready(_CONNECT)
        yield partial(client.call, f"bench.{kind.__name__}", result_type=kind)


def _options(size: int) -> aiozpat.SocketOptions:
    """The defaults, unless frames are larger than that."""
    return aiozpat.SocketOptions(max_message_bytes=max(size, aiozpat.SocketOptions().max_message_bytes))


# grpc.aio


@contextlib.asynccontextmanager
async def ask_grpc(endpoint: str) -> AsyncIterator[Ask]:
    """A unary method of `benchmarks.grpc_aio`."""
    from benchmarks import grpc_aio  # it need not be installed

    async with grpc_aio.channel(endpoint) as channel:
        yield channel.unary_unary("/bench/echo")


# What is done with them


async def measure(arguments: argparse.Namespace, ask: Ask) -> dict[str, float]:
    """Echoes a second, one after the other."""
    payload = b"x" * arguments.size
    if bytes(await ask(payload)) != payload:
        raise AssertionError("a wrong reply")
    await _rate(ask, payload, arguments.seconds * WARM_UP)
    return {"rate": await _rate(ask, payload, arguments.seconds)}


async def _rate(ask: Ask, payload: bytes, seconds: float) -> float:
    count, start = 0, _clock()
    while (now := _clock()) - start < seconds:
        # Not compared: that would take as long as some of them take for the echo.
        if len(await ask(payload)) != len(payload):
            raise AssertionError("a wrong reply")
        count += 1
    return count / (now - start)


async def hold(arguments: argparse.Namespace, cue: child.Cue, ask: Ask) -> None:
    """One echo of an array, which is held with its reply; a pause before and after, for a look at the memory."""
    values = array("d", os.urandom(arguments.size))
    as_sent = _AS_SENT[arguments.contender]
    await ask(as_sent(values[:_WARM_UP_NUMBERS]))
    await asyncio.sleep(_SETTLE)
    child.say("before")
    await asyncio.to_thread(cue.wait)
    reply = await ask(as_sent(values))
    child.say("after")
    await asyncio.to_thread(cue.wait)
    if bytes(reply) != values.tobytes():
        raise AssertionError("a wrong reply")


def _view(values: array[float]) -> memoryview:
    """What needs no copy: a queued message may not change, so aiozpat would copy what is not read-only."""
    return memoryview(values).toreadonly().cast("B")


def _bytes(values: array[float]) -> bytes:
    """What grpc.aio takes, and nothing else."""
    return values.tobytes()


_AS_SENT: dict[str, Callable[[array[float]], Any]] = {
    "blocking": _view,
    "reader": _view,
    "aiozpat-memoryview": _view,
    "aiozpat-bytes": _bytes,
    "grpc.aio": _bytes,
}


# The command line


def main() -> None:
    """One contender, one role."""
    parser = child.end_parser(__doc__, _AS_SENT)
    parser.add_argument("--hold", action="store_true", help="the client echoes an array once, and waits")
    arguments, cue = child.begin(parser)
    child.finish(_serve(arguments) if arguments.role == "server" else _load(arguments, cue))


def _serve(arguments: argparse.Namespace) -> Coroutine[Any, Any, None]:
    if arguments.contender == "blocking":
        return serve_blocking()
    if arguments.contender == "reader":
        return reader.serve(large=True)
    if arguments.contender == "grpc.aio":
        from benchmarks import grpc_aio  # it need not be installed

        return grpc_aio.serve(child.say)
    return serve_aiozpat(arguments.size)


async def _load(arguments: argparse.Namespace, cue: child.Cue) -> dict[str, float] | None:
    endpoint, size = arguments.endpoint, arguments.size
    asks: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Ask]]] = {
        "blocking": partial(ask_blocking, endpoint),
        "reader": partial(reader.client, endpoint, large=True),
        "aiozpat-memoryview": partial(ask_aiozpat, endpoint, memoryview, size),
        "aiozpat-bytes": partial(ask_aiozpat, endpoint, bytes, size),
        "grpc.aio": partial(ask_grpc, endpoint),
    }
    async with asks[arguments.contender]() as ask:
        if not arguments.hold:
            return await measure(arguments, ask)
        await hold(arguments, cue, ask)
        return None


if __name__ == "__main__":
    main()
