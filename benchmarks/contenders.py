"""The contenders, each a server and a client for the same echo; run by `benchmarks.processes`, not by hand."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import zmq
import zmq.asyncio

import aiozpat
from aiozpat.running import loop_factory
from benchmarks.load import Ask, drive

ANY_PORT = "tcp://127.0.0.1:*"


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

    @service.method
    async def hold(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async with aiozpat.Server(service, bind=ANY_PORT) as server:
        print(server.endpoint, flush=True)
        await server.serve_forever()


async def load_aiozpat(arguments: argparse.Namespace) -> dict[str, Any]:
    """Calls with the default deadline, on one client or several."""
    async with contextlib.AsyncExitStack() as stack:
        asks: list[Ask] = []
        for _ in range(arguments.clients):
            client = await stack.enter_async_context(aiozpat.Client(arguments.endpoint))
            await client.ready()
            asks.append(partial(client.call, f"bench.{arguments.method}"))
        return await drive(asks, arguments.in_flight, arguments.seconds, arguments.size)


# pyzmq, blocking


def serve_blocking() -> None:
    """The ROUTER echo loop of the ZeroMQ guide."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        _bind_and_say(socket)
        while True:
            socket.send_multipart(socket.recv_multipart())


def load_blocking(arguments: argparse.Namespace) -> dict[str, Any]:
    """A DEALER that keeps the pipe full: one send for each reply."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(arguments.endpoint)
        payload = b"x" * arguments.size
        for _ in range(arguments.in_flight):
            socket.send(payload)

        def one() -> None:
            socket.recv()
            socket.send(payload)

        return _blocking_rate(one, arguments.seconds)


def serve_rep() -> None:
    """REP, one request at a time."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        _bind_and_say(socket)
        while True:
            socket.send(socket.recv())


def load_req(arguments: argparse.Namespace) -> dict[str, Any]:
    """REQ in lockstep, with latencies."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(arguments.endpoint)
        payload = b"x" * arguments.size
        latencies: list[float] = []
        clock = time.perf_counter

        def one() -> None:
            start = clock()
            socket.send(payload)
            socket.recv()
            latencies.append(clock() - start)

        figures = _blocking_rate(one, arguments.seconds)
        latencies.sort()
        figures["p50_us"] = latencies[len(latencies) // 2] * 1e6
        figures["p99_us"] = latencies[len(latencies) * 99 // 100] * 1e6
        return figures


def _blocking_rate(one: Any, seconds: float) -> dict[str, Any]:
    end = time.perf_counter() + seconds * 0.2
    while time.perf_counter() < end:
        one()
    count, start = 0, time.perf_counter()
    end = start + seconds
    while (now := time.perf_counter()) < end:
        for _ in range(50):
            one()
        count += 50
    return {"rate": count / (now - start)}


def _bind_and_say(socket: zmq.Socket[bytes]) -> None:
    socket.bind(ANY_PORT)
    print(socket.get_string(zmq.LAST_ENDPOINT), flush=True)


# zmq.asyncio, one task a message


async def serve_zmq_asyncio() -> None:
    """A ROUTER that starts a task for each message; each task sends its own reply."""
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.ROUTER)
    _bind_and_say(socket)
    tasks = set()

    async def handle(frames: list[bytes]) -> None:
        await socket.send_multipart(frames)

    while True:
        task = asyncio.create_task(handle(await socket.recv_multipart()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


@contextlib.asynccontextmanager
async def _zmq_asyncio_client(context: zmq.asyncio.Context, endpoint: str) -> AsyncIterator[Ask]:
    """A DEALER with a table of futures, as everybody writes it."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint)
    futures: dict[bytes, asyncio.Future[bytes]] = {}
    numbers = iter(range(1 << 62))
    loop = asyncio.get_running_loop()

    async def receive() -> None:
        while True:
            number, body = await socket.recv_multipart()
            futures.pop(number).set_result(body)

    async def ask(payload: bytes) -> bytes:
        number = next(numbers).to_bytes(8, "big")
        future = futures[number] = loop.create_future()
        await socket.send_multipart([number, payload])
        return await future

    receiver = asyncio.create_task(receive())
    try:
        yield ask
    finally:
        receiver.cancel()
        await asyncio.wait({receiver})
        socket.close()


async def load_zmq_asyncio(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same callers as for aiozpat."""
    with zmq.asyncio.Context() as context:
        context.max_sockets = 4096
        async with contextlib.AsyncExitStack() as stack:
            asks = [
                await stack.enter_async_context(_zmq_asyncio_client(context, arguments.endpoint))
                for _ in range(arguments.clients)
            ]
            return await drive(asks, arguments.in_flight, arguments.seconds, arguments.size)


# The command line


def _run(coroutine: Coroutine[Any, Any, Any], loop: str) -> Any:
    """aiozpat.run's loop, or plain asyncio's."""
    if loop == "uvloop":
        return aiozpat.run(coroutine)
    return asyncio.run(coroutine)


def _run_peer(coroutine: Coroutine[Any, Any, Any], loop: str) -> Any:
    """For zmq.asyncio, the same loops without what else aiozpat.run does."""
    with asyncio.Runner(loop_factory=loop_factory() if loop == "uvloop" else None) as runner:
        return runner.run(coroutine)


def main() -> None:
    """One contender, one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("contender", choices=["aiozpat", "blocking", "req-rep", "zmq.asyncio"])
    parser.add_argument("--loop", default="uvloop", choices=["uvloop", "asyncio"])
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--method", default="echo", choices=["echo", "suspend"])
    parser.add_argument("--cpu", type=int, default=-1)
    arguments = parser.parse_args()
    if arguments.cpu >= 0:
        os.sched_setaffinity(0, {arguments.cpu})
    with contextlib.suppress(KeyboardInterrupt):
        figures = _roles(arguments)
        if figures is not None:
            print(json.dumps(figures), flush=True)


def _roles(arguments: argparse.Namespace) -> dict[str, Any] | None:
    serving = arguments.role == "server"
    if arguments.contender == "aiozpat":
        return _run(serve_aiozpat() if serving else load_aiozpat(arguments), arguments.loop)  # type: ignore[no-any-return]
    if arguments.contender == "zmq.asyncio":
        coroutine: Any = serve_zmq_asyncio() if serving else load_zmq_asyncio(arguments)
        return _run_peer(coroutine, arguments.loop)  # type: ignore[no-any-return]
    if arguments.contender == "blocking":
        return serve_blocking() if serving else load_blocking(arguments)  # type: ignore[func-returns-value]
    return serve_rep() if serving else load_req(arguments)  # type: ignore[func-returns-value]


if __name__ == "__main__":
    main()
