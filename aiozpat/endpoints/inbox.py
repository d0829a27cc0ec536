"""Received messages that wait for somebody to take them: bounded, and safe against cancelled receives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from aiozpat.endpoints.line import within
from aiozpat.errors import Closed, TimedOut

M = TypeVar("M")

_YIELD = 64  # messages taken without waiting, after which the loop's other tasks get a turn


class Inbox(Generic[M]):
    """A queue between the socket's reader and the receivers.

    A waiting receiver gets a bare wake-up, never the message: it takes that in its own step. So cancelling a receiver,
    whenever it happens, loses nothing; a wake-up that meets a cancelled receiver goes to the next one.

    Args:
        limit: Messages held at most; past it the socket is read no more, so that ZeroMQ's own limits hold.
        pause: Called when the limit is reached.
        resume: Called when there is room again.
    """

    def __init__(self, limit: int, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._limit = limit
        self._pause = pause
        self._resume = resume
        self._messages: deque[M] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._paused = False
        self._taken = 0
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: M) -> None:
        """Add a message, and wake a receiver."""
        self._messages.append(message)
        if self._waiters:
            self._wake_one()
        if len(self._messages) >= self._limit and not self._paused:
            self._paused = True
            self._pause()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def clear(self) -> None:
        """Forget what nobody has taken."""
        self._messages.clear()

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
        message = self._messages.popleft()
        self._after_taking()
        return message

    async def take_many(self, limit: int, timeout: float | None) -> list[M]:
        """Up to `limit` messages: at least one, waited for if need be, and what else is there."""
        if limit < 1:
            raise ValueError(f"limit is at least 1; got {limit}")
        await self._until_some(timeout)
        messages = self._messages
        taken = [messages.popleft() for _ in range(min(limit, len(messages)))]
        self._after_taking()
        return taken

    async def _until_some(self, timeout: float | None) -> None:
        self._taken += 1
        if not self._taken % _YIELD:
            await asyncio.sleep(0)  # before anything is taken: cancelled here, nothing is lost
        if self._messages:
            return
        if timeout is None:
            await self._wait()
            return
        try:
            async with within(timeout):
                await self._wait()
        except TimeoutError:
            raise TimedOut(f"no message within {timeout} s") from None

    async def _wait(self) -> None:
        while not self._messages:
            if self._closed is not None:
                raise Closed(self._closed)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()  # the wake-up was meant for whoever takes the message
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise

    def _after_taking(self) -> None:
        if self._messages and self._waiters:
            self._wake_one()
        if self._paused and len(self._messages) <= self._limit // 2:
            self._paused = False
            self._resume()
