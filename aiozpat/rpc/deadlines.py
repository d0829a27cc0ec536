"""The timer behind `protocol.calls`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import TypeVar

from aiozpat.protocol.calls import HasDeadline, next_scan, scan

T = TypeVar("T", bound=HasDeadline)


class Deadlines:
    """One timer for the deadlines of many calls.

    Args:
        loop: The loop.
        context: In which `on_due` runs.
        count: How many calls there are.
        on_due: Called when one may be over: it looks, by `take_expired`.

    Attributes:
        nearest: Only for a deadline before this one there is something to `arm`.
    """

    __slots__ = ("_context", "_count", "_loop", "_on_due", "_timer", "nearest")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: Context, count: Callable[[], int], on_due: Callable[[], None]
    ) -> None:
        self.nearest = math.inf
        self._loop = loop
        self._context = context
        self._count = count
        self._on_due = on_due
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, deadline: float, now: float) -> None:
        """See to it that somebody looks when this one is over."""
        self.stop()
        # A deadline that has passed can't be undercut: a flood of them must not put off the scan again and again.
        self.nearest = deadline if deadline > now else -math.inf
        delay = next_scan(deadline, now, self._count())
        self._timer = self._loop.call_later(delay, self._due, context=self._context)

    def _due(self) -> None:
        self._timer = None
        self.nearest = math.inf
        self._on_due()

    def take_expired(self, calls: Iterable[T], now: float) -> list[T]:
        """The calls whose time is over; the timer is armed for the others."""
        expired, nearest = scan(calls, now)
        if nearest < math.inf:
            self.arm(nearest, now)
        return expired

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
