"""How many calls a second, here and now, by aiozpat and by plain zmq.asyncio: each in two processes, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from functools import partial

import zmq.asyncio

from aiozpat.cli import plain
from aiozpat.cli.children import ANY_PORT, Child, end_with_parent
from aiozpat.rpc import Client, Server, Service
from aiozpat.running import run

IN_FLIGHT = 256
SIZE = 64  # bytes
ROUNDS = 3
_SECONDS = 0.4  # for each measurement, after a quarter of it to warm up
_MODULE = "aiozpat.cli.comparison"
_NAMES = {"aiozpat": "aiozpat, all of it on", "plain": "zmq.asyncio, a task a message"}


async def compare() -> None:
    """Measure, and print both rates and their ratio."""
    print(
        f"\nThroughput: {SIZE} bytes, {IN_FLIGHT} calls in flight, two processes, {ROUNDS} rounds in turns.", flush=True
    )
    rates: dict[str, list[float]] = {name: [] for name in _NAMES}
    async with contextlib.AsyncExitStack() as stack:
        endpoints = {}
        for name in _NAMES:
            server = await stack.enter_async_context(Child("server", name, module=_MODULE))
            endpoints[name] = await server.line()
        for _ in range(ROUNDS):
            for name, measured in rates.items():
                measured.append(await _measure(name, endpoints[name]))
    for name, measured in rates.items():
        print(f"  {_NAMES[name]:<32} {statistics.median(measured):>9,.0f} calls/s", flush=True)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["aiozpat"], rates["plain"], strict=True))
    print(f"  {'ratio':<32} {ratio:>9.1f}", flush=True)


async def _measure(name: str, endpoint: str) -> float:
    async with Child("client", name, endpoint, module=_MODULE) as child:
        return float(await child.line())


async def _serve_aiozpat() -> None:
    service = Service("echo")

    @service.method
    async def echo(data: bytes) -> bytes:
        return data

    async with Server(service, bind=ANY_PORT) as server:
        _say(server.endpoint)
        await server.serve_forever()


async def _load(name: str, endpoint: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if name == "aiozpat":
            client = await stack.enter_async_context(Client(endpoint))
            await client.ready()
            _say(f"{await _rate(partial(client.call, 'echo.echo'))}")
        else:
            context = stack.enter_context(zmq.asyncio.Context())
            _say(f"{await _rate(await stack.enter_async_context(plain.client(context, endpoint)))}")


async def _rate(ask: plain.Ask) -> float:
    """Calls a second with so many callers, each with one call in flight."""
    payload = bytes(SIZE)
    count, stopped = 0, False

    async def caller() -> None:
        nonlocal count
        while not stopped:
            if await ask(payload) != payload:
                raise AssertionError("a wrong reply")
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(caller())
        await asyncio.sleep(_SECONDS / 4)
        before, start = count, time.perf_counter()
        await asyncio.sleep(_SECONDS)
        rate = (count - before) / (time.perf_counter() - start)
        stopped = True
    return rate


def _say(line: str) -> None:
    print(line, flush=True)


def main(role: str, name: str, endpoint: str = "") -> None:
    """Play one side of one contender."""
    end_with_parent()
    if role == "client":
        run(_load(name, endpoint))
    elif name == "aiozpat":
        run(_serve_aiozpat())
    else:
        run(plain.serve(_say))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
