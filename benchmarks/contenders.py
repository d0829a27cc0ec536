"""The contenders, each a server and a client for the same echo; run by `benchmarks.processes`, not by hand."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import zmq
import zmq.asyncio

import aiozpat
from aiozpat.cli import plain
from benchmarks import child, reader
from benchmarks.load import WARM_UP, Ask, drive, percentiles

_CONTENDERS = ("aiozpat", "blocking", "blocking-multipart", "req-rep", "zmq.asyncio", "reader", "grpc.aio", "nats.py")
_CONNECT = 60.0  # seconds for all the clients to connect, on a machine that does other work too


# aiozpat, as its README uses it


async def serve_aiozpat() -> None:
    """Echo, at default settings."""
    service = aiozpat.Service("bench")

    @service.method
    async def echo(data: bytes) -> bytes:
        return data

    @service.method
    async def suspend(data: bytes) -> bytes:
        await asyncio.sleep(0)
        return data

    held = 0
    never = asyncio.Event()

    @service.method
    async def hold() -> None:
        nonlocal held
        held += 1
        try:
            await never.wait()  # not a sleep: its timer would be the handler's memory, not the library's
        finally:
            held -= 1

    @service.method(name="held")
    async def count_held() -> int:
        return held

    async with aiozpat.Server(service, bind=child.ANY_PORT) as server:
        print(server.endpoint, flush=True)
        await server.serve_forever()


@contextlib.asynccontextmanager
async def aiozpat_clients(endpoint: str, count: int, timeout: float) -> AsyncIterator[list[aiozpat.Client]]:
    """Clients that are connected; they connect all at once."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(aiozpat.Client(endpoint, timeout=timeout)) for _ in range(count)]
        await asyncio.gather(*(client.ready(_CONNECT) for client in clients))
        yield clients


async def load_aiozpat(arguments: argparse.Namespace) -> dict[str, Any]:
    """Calls with a deadline each, on one client or several."""
    async with aiozpat_clients(arguments.endpoint, arguments.clients, arguments.timeout) as clients:
        asks: list[Ask] = [partial(client.call, f"bench.{arguments.method}") for client in clients]
        return await drive(asks, arguments.in_flight, arguments.seconds, arguments.size)


# pyzmq, blocking


def serve_blocking() -> None:
    """The fastest ROUTER echo loop: frame by frame, since `recv_multipart` spends most of its time in Python."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        _bind_and_say(socket)
        receive, send, more = socket.recv, socket.send, zmq.SNDMORE
        while True:
            identity = receive()
            body = receive()
            send(identity, more)
            send(body)


def serve_blocking_multipart() -> None:
    """The ROUTER echo loop as documentation shows it."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        _bind_and_say(socket)
        while True:
            socket.send_multipart(socket.recv_multipart())


def load_blocking(arguments: argparse.Namespace) -> dict[str, Any]:
    """A DEALER that keeps the pipe full: one send for each reply."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        _connect(socket, arguments.endpoint)
        payload = b"x" * arguments.size
        if arguments.in_flight == 1:
            return _lockstep(socket, payload, arguments.seconds)
        receive, send = socket.recv, socket.send
        for _ in range(arguments.in_flight):
            send(payload)

        def one() -> None:
            receive()
            send(payload)

        return _blocking_rate(one, arguments.seconds)


def serve_rep() -> None:
    """REP, one request at a time."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        _bind_and_say(socket)
        receive, send = socket.recv, socket.send
        while True:
            send(receive())


def load_req(arguments: argparse.Namespace) -> dict[str, Any]:
    """REQ in lockstep."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        _connect(socket, arguments.endpoint)
        return _lockstep(socket, b"x" * arguments.size, arguments.seconds)


def _lockstep(socket: zmq.Socket[Any], payload: bytes, seconds: float) -> dict[str, Any]:
    """One request after the other, each of them timed."""
    latencies: list[float] = []
    receive, send, clock = socket.recv, socket.send, time.perf_counter

    def one() -> None:
        start = clock()
        send(payload)
        receive()
        latencies.append(clock() - start)

    figures = _blocking_rate(one, seconds, latencies.clear)
    return {**figures, **percentiles(latencies)}


def _blocking_rate(one: Callable[[], None], seconds: float, warm: Callable[[], None] | None = None) -> dict[str, float]:
    """The rate of `one`, after the warm-up that the other contenders have; `warm` is called at the end of that."""
    end = time.perf_counter() + seconds * WARM_UP
    while time.perf_counter() < end:
        one()
    if warm is not None:
        warm()
    count, start = 0, time.perf_counter()
    end = start + seconds
    while (now := time.perf_counter()) < end:
        for _ in range(50):
            one()
        count += 50
    return {"rate": count / (now - start)}


def _connect(socket: zmq.Socket[Any], endpoint: str) -> None:
    socket.linger = 0
    _unlimit(socket)
    socket.connect(endpoint)


def _unlimit(socket: zmq.Socket[Any]) -> None:
    # The load bounds what is in flight. At the default of 1000 messages a ROUTER would drop replies without a word, and
    # the client would wait for them for ever.
    socket.set_hwm(0)


def _bind_and_say(socket: zmq.Socket[Any]) -> None:
    _unlimit(socket)
    socket.bind(child.ANY_PORT)
    print(socket.get_string(zmq.LAST_ENDPOINT), flush=True)


# zmq.asyncio, one task a message


async def load_zmq_asyncio(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same callers as for aiozpat; all sockets share one context."""
    with zmq.asyncio.Context() as context:
        context.max_sockets = 2 * arguments.clients + 64  # the default of 1023 is not enough for many clients
        async with contextlib.AsyncExitStack() as stack:
            asks = [
                await stack.enter_async_context(plain.client(context, arguments.endpoint))
                for _ in range(arguments.clients)
            ]
            return await drive(asks, arguments.in_flight, arguments.seconds, arguments.size)


async def load_reader(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same callers on one socket."""
    async with reader.client(arguments.endpoint, large=False) as ask:
        return await drive([ask], arguments.in_flight, arguments.seconds, arguments.size)


# grpc.aio and nats.py, which need not be installed


async def load_grpc(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same callers on one channel; without a deadline, which is its default."""
    from benchmarks import grpc_aio

    async with grpc_aio.channel(arguments.endpoint) as channel:
        return await drive([channel.unary_unary("/bench/echo")], arguments.in_flight, arguments.seconds, arguments.size)


async def load_nats(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same callers on one connection."""
    from benchmarks import nats_py

    async with nats_py.client(arguments.endpoint, arguments.timeout) as ask:
        return await drive([ask], arguments.in_flight, arguments.seconds, arguments.size)


def _peer(arguments: argparse.Namespace) -> Coroutine[Any, Any, Any]:
    serving = arguments.role == "server"
    if arguments.contender == "nats.py":
        from benchmarks import nats_py

        return nats_py.serve(arguments.endpoint, child.say) if serving else load_nats(arguments)
    from benchmarks import grpc_aio

    return grpc_aio.serve(child.say) if serving else load_grpc(arguments)


# The command line


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every process that takes part."""
    parser.add_argument("--loop", default="uvloop", choices=["uvloop", "asyncio"], help="event loop")
    parser.add_argument("--endpoint", default="", help="of the server, for clients; of nats-server, for both")
    parser.add_argument("--clients", type=int, default=1, help="clients in this process")
    parser.add_argument("--in-flight", type=int, default=1, help="calls in flight by each client")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="deadline of an aiozpat call; the library's default"
    )
    child.add_cpu(parser)


def main() -> None:
    """One contender, one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("contender", choices=_CONTENDERS)
    add_process_arguments(parser)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to measure")
    parser.add_argument("--size", type=int, default=64, help="bytes of payload")
    parser.add_argument(
        "--method", default="echo", choices=["echo", "suspend"], help="what to call, of aiozpat's server"
    )
    parser.add_argument("--end-with-stdin", action="store_true", help="end when stdin is closed")
    arguments = parser.parse_args()
    child.prepare(arguments)
    if arguments.end_with_stdin:
        child.Cue()
    with contextlib.suppress(KeyboardInterrupt):
        figures = _roles(arguments)
        if figures is not None:
            print(json.dumps(figures), flush=True)


def _roles(arguments: argparse.Namespace) -> dict[str, Any] | None:
    serving = arguments.role == "server"
    if arguments.contender == "aiozpat":
        return child.run_on(serve_aiozpat() if serving else load_aiozpat(arguments), arguments.loop)  # type: ignore[no-any-return]
    if arguments.contender == "zmq.asyncio":
        coroutine: Any = plain.serve(partial(print, flush=True)) if serving else load_zmq_asyncio(arguments)
        return child.run_on(coroutine, arguments.loop)  # type: ignore[no-any-return]
    if arguments.contender == "reader":
        coroutine = reader.serve(large=False) if serving else load_reader(arguments)
        return child.run_on(coroutine, arguments.loop)  # type: ignore[no-any-return]
    if arguments.contender in ("grpc.aio", "nats.py"):
        return child.run_on(_peer(arguments), arguments.loop)  # type: ignore[no-any-return]
    if arguments.contender == "blocking-multipart":
        return serve_blocking_multipart() if serving else load_blocking(arguments)  # type: ignore[func-returns-value]
    if arguments.contender == "blocking":
        return serve_blocking() if serving else load_blocking(arguments)  # type: ignore[func-returns-value]
    return serve_rep() if serving else load_req(arguments)  # type: ignore[func-returns-value]


if __name__ == "__main__":
    main()
