"""Clients that hold something while `benchmarks.memory` looks at the processes; run by it, not by hand.

Each scenario warms up, says "before" on a line and waits for a line; then it does what it is about, says "after", and
waits again. So both looks fall into a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from typing import Any

import aiozpat
from benchmarks import child
from benchmarks.contenders import add_process_arguments, aiozpat_clients

_CALLERS = 256  # calls in flight wherever a number of calls is made
_WAIT = 60.0  # seconds for the server to have begun, or ended, all the calls that are held
_FEW = 10  # clients of the warm-up: enough to load every code path, too few to hide what many cost


async def hold_clients(arguments: argparse.Namespace) -> None:
    """Clients that are connected and idle."""
    async with aiozpat_clients(arguments.endpoint, _FEW, arguments.timeout) as clients:
        for client in clients:
            await _make_calls(client, arguments.warm_up // _FEW)
    await _say("before", arguments.settle)
    async with aiozpat_clients(arguments.endpoint, arguments.clients, arguments.timeout):
        await _say("after", arguments.settle)


async def hold_calls(arguments: argparse.Namespace) -> None:
    """Calls in flight on one client, all of them running on the server."""
    async with aiozpat_clients(arguments.endpoint, 1, arguments.timeout) as (client,):
        await _make_calls(client, arguments.warm_up)
        await _held(client, 0)
        await _say("before", arguments.settle)
        calls = [asyncio.create_task(client.call("bench.hold")) for _ in range(arguments.in_flight)]
        try:
            await _held(client, arguments.in_flight)
            await _say("after", arguments.settle)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await _held(client, 0)


async def make_calls(arguments: argparse.Namespace) -> None:
    """A number of calls that leave nothing behind, if all is well."""
    async with aiozpat_clients(arguments.endpoint, 1, arguments.timeout) as (client,):
        await _make_calls(client, arguments.warm_up)
        await _say("before", arguments.settle)
        await _make_calls(client, arguments.calls)
        await _say("after", arguments.settle)


async def _make_calls(client: aiozpat.Client, count: int) -> None:
    """So many calls, neither more nor fewer."""
    payload, numbers = b"x" * 64, iter(range(count))

    async def caller() -> None:
        for _ in numbers:
            await client.call("bench.echo", payload)

    await asyncio.gather(*(caller() for _ in range(_CALLERS)))


async def _held(client: aiozpat.Client, count: int) -> None:
    """Wait until that many calls are held by the server."""
    held: Any = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WAIT):
            while (held := await client.call("bench.held")) != count:  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(0.05)
    if held != count:
        raise AssertionError(f"the server holds {held} calls; it should be {count}")


async def _say(step: str, settle: float) -> None:
    """Let the processes settle, say where we are, and wait to be told to go on."""
    await asyncio.sleep(settle)
    print(step, flush=True)
    if not await asyncio.to_thread(sys.stdin.readline):
        raise SystemExit("the measuring process is gone")


_SCENARIOS = {"clients": hold_clients, "calls-in-flight": hold_calls, "calls": make_calls}


def main() -> None:
    """One scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=_SCENARIOS)
    add_process_arguments(parser)
    parser.add_argument("--calls", type=int, default=200_000, help="calls to make")
    parser.add_argument("--warm-up", type=int, default=20_000, help="calls before the first look")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds of rest before each look")
    arguments = parser.parse_args()
    child.prepare(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        child.run_on(_SCENARIOS[arguments.scenario](arguments), arguments.loop)


if __name__ == "__main__":
    main()
