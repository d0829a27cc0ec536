"""Waiting until something is so: the conditions are looked at again whenever something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from aiozpat.endpoints.line import within
from aiozpat.errors import Closed, TimedOut


class _Waiter(NamedTuple):
    met: Callable[[], bool]
    future: asyncio.Future[None]


class Conditions:
    """Coroutines that wait for a state of one endpoint."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []

    async def until(self, met: Callable[[], bool], timeout: float | None, problem: Callable[[], str]) -> None:
        """Wait until `met`.

        Args:
            met: Whether the state has come about.
            timeout: Seconds to wait; `None` waits for ever.
            problem: What to say if it has not.

        Raises:
            TimedOut: It has not come about in time.
            Closed: `close` was called.
        """
        if met():
            return
        waiter = _Waiter(met, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            if timeout is None:
                await waiter.future
                return
            async with within(timeout):
                await waiter.future
        except TimeoutError:
            raise TimedOut(f"{problem()} after {timeout} s") from None
        finally:
            self._waiters.remove(waiter)

    def changed(self) -> None:
        """Something is not as it was: look again."""
        for met, future in self._waiters:
            if not future.done() and met():
                future.set_result(None)

    def close(self, reason: str) -> None:
        """Nothing will change any more."""
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(Closed(reason))
