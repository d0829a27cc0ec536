"""Senders that wait for room, in order."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from aiozpat.checks import LONGEST, seconds
from aiozpat.errors import TimedOut


def within(timeout: float) -> asyncio.Timeout:
    """`asyncio.timeout`, for numbers only: not-a-number would take down the loop.

    Raises:
        ValueError, TypeError: It is none.
    """
    return asyncio.timeout(min(seconds("timeout", timeout), LONGEST))


class Line:
    """A line of senders in front of one queue of ZeroMQ's.

    The first in line is woken when there may be room, and sends in its own step. So a sender that is cancelled or runs
    out of time has sent nothing, always: its message is queued whole when `send` returns, and not at all otherwise.

    Args:
        nowhere: What to say first where there was no room in time; nothing, or that there are no peers to have it.
    """

    __slots__ = ("_nowhere", "waiters")

    def __init__(self, nowhere: Callable[[], str]) -> None:
        self._nowhere = nowhere
        # Each under its first future: who gives up in the middle of a long line leaves it at no cost.
        self.waiters: OrderedDict[asyncio.Future[None], asyncio.Future[None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.waiters)

    def wake(self) -> None:
        """There may be room: the first in line may try."""
        first = next(iter(self.waiters.values()), None)
        if first is not None and not first.done():
            first.set_result(None)

    async def send(self, attempt: Callable[[], bool], timeout: float | None) -> None:
        """Try at once if nobody stands in line, and `wait` otherwise; arguments and errors as there."""
        if self.waiters or not attempt():
            await self.wait(attempt, timeout)

    async def wait(self, attempt: Callable[[], bool], timeout: float | None) -> None:
        """Stand in line, and try until it succeeds.

        Args:
            attempt: Sends without blocking; False if there is no room. What it raises ends the sending.
            timeout: Seconds to wait for room; `None` waits for ever.

        Raises:
            TimedOut: There was no room in time; nothing was sent.
        """
        if timeout is None:
            await self._wait(attempt)
            return
        try:
            async with within(timeout):
                await self._wait(attempt)
        except TimeoutError:
            text = f"no peer to take it, or no room in a peer's queue, within {timeout} s; nothing was sent"
            raise TimedOut(self._nowhere() + text) from None

    async def _wait(self, attempt: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        waiter = self.waiters[place] = place
        try:
            while True:
                await waiter
                if attempt():
                    return
                waiter = self.waiters[place] = loop.create_future()
        finally:
            del self.waiters[place]
            self.wake()
