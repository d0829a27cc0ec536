"""Received messages that wait for somebody to take them: bounded, and safe against cancelled receives."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from aiozpat.checks import whole_number
from aiozpat.endpoints.line import within
from aiozpat.errors import Closed, TimedOut

M = TypeVar("M")
R = TypeVar("R")

_YIELD = 128  # messages taken without waiting, after which the loop's other tasks get a turn
_SHARE = 8  # the same where other receivers wait: none of them starves


class Inbox(Generic[M]):
    """A queue between the socket's reader and the receivers.

    A waiting receiver gets a bare wake-up, never the message: it takes that in its own step. So cancelling a receiver,
    whenever it happens, loses nothing; a wake-up that meets a cancelled receiver goes to the next one.

    Args:
        limit: Messages held at most; past it the socket is read no more, so that ZeroMQ's own limits hold.
        pause: Called when the limit is reached.
        resume: Called when there is room again.
        nowhere: What to say first where no message came in time; nothing, or that none can come.

    Attributes:
        messages: What is here, the oldest first.
        free: How many of them may be taken by `messages.popleft()` alone, each taken off this number: nobody waits or
            has been woken, and nothing else is to be seen to. `take` does the rest.
    """

    def __init__(
        self, limit: int, pause: Callable[[], None], resume: Callable[[], None], nowhere: Callable[[], str]
    ) -> None:
        self._limit = limit
        self._half = limit // 2
        self._pause = pause
        self._resume = resume
        self._nowhere = nowhere
        self.messages: deque[M] = deque()
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # who gives up leaves at no cost
        self._paused = False
        self._woken = 0  # receivers that have been told, and have not run yet
        self._credit = 0  # messages that may be taken without a turn for the loop's other tasks
        self.free = 0
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def room(self) -> int:
        """How many more messages it takes."""
        return self._limit - len(self.messages)

    def put(self, message: M) -> None:
        """Add a message, and wake a receiver."""
        self.extend((message,))

    def extend(self, messages: Collection[M]) -> None:
        """Add messages, and wake a receiver for each, as far as there are receivers that wait."""
        self.messages.extend(messages)
        for _ in messages:
            if not self._waiters:
                break
            self._wake_one()
        if len(self.messages) >= self._limit and not self._paused:
            self._paused = True
            self._pause()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                self._woken += 1
                return

    def clear(self) -> None:
        """Forget what nobody has taken."""
        self.free = 0
        self.messages.clear()

    def close(self, reason: str) -> None:
        """Give out no message any more; receivers get `Closed`."""
        self._closed = reason
        self.clear()
        while self._waiters:
            self._wake_one()

    async def take(self, timeout: float | None) -> M:
        """The oldest message, waited for if there is none.

        Raises:
            TimedOut: None came in time.
            Closed: The inbox was closed.
        """
        await self._until_some(timeout)
        return self._after_taking(self.messages.popleft())

    async def take_many(self, limit: int, timeout: float | None) -> list[M]:
        """Up to `limit` messages: at least one, waited for if need be, and what else is there.

        Raises:
            ValueError, TypeError: `limit` is no whole number above 0.
            TimedOut, Closed: As for `take`.
        """
        if type(limit) is not int or limit < 1:
            whole_number("limit", limit)
        await self._until_some(timeout)
        messages = self.messages
        if len(messages) <= limit:
            taken = list(messages)
            messages.clear()
        else:
            taken = [messages.popleft() for _ in range(limit)]
        return self._after_taking(taken)

    async def _until_some(self, timeout: float | None) -> None:
        turn = _SHARE if self._waiters or self._woken else _YIELD
        if self._credit:
            self._credit = min(self._credit, turn) - 1
        else:
            self._credit = turn
            await asyncio.sleep(0)  # before anything is taken: cancelled here, nothing is lost
        if self.messages:
            return
        if timeout is None:
            await self._wait()
            return
        try:
            async with within(timeout):
                await self._wait()
        except TimeoutError:
            raise TimedOut(f"{self._nowhere()}no message within {timeout} s") from None

    async def _wait(self) -> None:
        while not self.messages:
            if self._closed is not None:
                raise Closed(self._closed)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = None
            try:
                await waiter
                self._woken -= 1
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._woken -= 1
                    self._wake_one()  # the wake-up was meant for whoever takes the message
                else:
                    self._waiters.pop(waiter, None)
                raise

    def _after_taking(self, taken: R) -> R:
        self._credit += self.free  # what was not made use of
        self.free = 0
        left = len(self.messages)
        if left and self._waiters:
            self._wake_one()
        if self._paused and left <= self._half:
            self._paused = False
            self._resume()
        if left and not (self._waiters or self._woken):
            # Down to half at most where it is paused: who takes that one comes by here.
            self.free = min(self._credit, left - self._half - 1 if self._paused else left)
            self._credit -= self.free
        return taken
