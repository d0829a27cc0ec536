"""The load: a number of callers, each with one call in flight at a time, for a number of seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

Ask = Callable[[bytes], Awaitable[Any]]

WARM_UP = 0.2  # share of the measured time


async def drive(asks: list[Ask], in_flight: int, seconds: float, size: int) -> dict[str, Any]:
    """Keep `in_flight` calls in flight by each of `asks` for `seconds`, after a warm-up.

    Args:
        asks: One coroutine function for each client; takes the payload, returns it.
        in_flight: Callers of each client.
        seconds: How long to measure.
        size: Bytes of payload.

    Returns:
        `rate` in calls a second; with one in flight in all, `p50_us` and `p99_us` too.
    """
    count = 0
    stopped = False
    latencies: list[float] | None = [] if len(asks) * in_flight == 1 else None

    async def caller(ask: Ask, payload: bytes) -> None:
        nonlocal count
        while not stopped:
            if await ask(payload) != payload:
                raise AssertionError("a wrong reply")
            count += 1

    async def timed_caller(ask: Ask, payload: bytes, into: list[float]) -> None:
        nonlocal count
        clock = time.perf_counter
        while not stopped:
            start = clock()
            if await ask(payload) != payload:
                raise AssertionError("a wrong reply")
            into.append(clock() - start)
            count += 1

    tasks = []
    for number, ask in enumerate(asks * in_flight):
        payload = b"%d " % number + b"x" * size  # each caller's own: another's reply would be a wrong one
        made = caller(ask, payload[:size]) if latencies is None else timed_caller(ask, payload[:size], latencies)
        tasks.append(asyncio.create_task(made))
    await asyncio.sleep(seconds * WARM_UP)
    if latencies is not None:
        latencies.clear()
    first, start = count, time.perf_counter()
    await asyncio.sleep(seconds)
    last, end = count, time.perf_counter()
    stopped = True
    if last == first:
        raise AssertionError(f"no call came back within {seconds:g} s")
    await asyncio.gather(*tasks)
    return {"rate": (last - first) / (end - start), **percentiles(latencies)}


def percentiles(latencies: list[float] | None) -> dict[str, float]:
    """`p50_us` and `p99_us` of latencies in seconds; nothing where none were taken."""
    if not latencies:
        return {}
    latencies.sort()
    return {
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[len(latencies) * 99 // 100] * 1e6,
    }
