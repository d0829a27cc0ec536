"""The loads of the suite of streams, each for a number of seconds and the same for every client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

from benchmarks.load import WARM_UP, percentiles

ENDLESS = 10**9  # items
_LOOK = 50  # items between two looks at the clock
_clock = time.perf_counter

Talk: TypeAlias = tuple[Callable[[bytes], Awaitable[object]], Callable[[], Awaitable[bytes]]]


class Client(Protocol):
    """What a contender's client can do."""

    def receive(self, item: bytes) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """That item from the server, again and again without end."""

    async def send(self, items: AsyncIterator[bytes]) -> int:
        """Send the items; gives how many the server has taken, by its word."""

    def talk(self) -> AbstractAsyncContextManager[Talk]:
        """A conversation with a server that sends back each item: how to send one, how to receive one."""


async def from_server(client: Client, item: bytes, seconds: float) -> dict[str, float]:
    """Items a second that arrive on one stream."""
    async with client.receive(item) as items:
        await _received(items, seconds * WARM_UP)
        return {"rate": await _received(items, seconds)}


async def _received(items: AsyncIterator[bytes], seconds: float) -> float:
    count, start = 0, _clock()
    async for _ in items:
        count += 1
        if not count % _LOOK and (now := _clock()) - start >= seconds:
            return count / (now - start)
    raise AssertionError("a stream without end has ended")


async def to_server(client: Client, item: bytes, seconds: float) -> dict[str, float]:
    """Items a second of one stream, from its opening to its result, which says how many were taken."""
    await _taken(client, item, seconds * WARM_UP)
    return {"rate": await _taken(client, item, seconds)}


async def _taken(client: Client, item: bytes, seconds: float) -> float:
    start = _clock()

    async def items() -> AsyncIterator[bytes]:
        while _clock() - start < seconds:
            for _ in range(_LOOK):
                yield item

    count = await client.send(items())
    return count / (_clock() - start)


async def ping_pong(client: Client, item: bytes, seconds: float) -> dict[str, float]:
    """Round trips a second of one conversation, one after the other, each of them timed."""
    latencies: list[float] = []
    async with client.talk() as (send, receive):

        async def repeat(seconds: float) -> float:
            count, start = 0, _clock()
            now = start
            while now - start < seconds:
                before = now
                await send(item)
                if await receive() != item:
                    raise AssertionError("a wrong answer")
                now = _clock()
                latencies.append(now - before)
                count += 1
            return count / (now - start)

        await repeat(seconds * WARM_UP)
        latencies.clear()
        return {"rate": await repeat(seconds), **percentiles(latencies)}


Load: TypeAlias = Callable[[Client, bytes, float], Awaitable[dict[str, Any]]]

# By name; the order is that of the table.
LOADS: dict[str, Load] = {"from server": from_server, "to server": to_server, "ping-pong": ping_pong}
