"""The rate of one end of a flow, looked at from within the loop that sends or receives."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from benchmarks.child import Cue
from benchmarks.load import WARM_UP

Extra = Callable[[], dict[str, float]]

_EVERY_BYTES = 4096  # that may pass between two looks at the clock


class Meter:
    """Says "running" at the first message; then, at each cue, it warms up, measures, and prints its figures.

    All ends call `look` from a loop that counts in the same way, so that none pays more for being measured.

    Args:
        cue: When to measure.
        seconds: How long, after a warm-up.
        size: Bytes of a message.
    """

    def __init__(self, cue: Cue, seconds: float, size: int) -> None:
        self._cue = cue
        self._seconds = seconds
        self._every = max(1, _EVERY_BYTES // size)
        self._step = self._at_first
        self._due = 0.0
        self._first = self._start = self._cpu = 0.0
        self.extra: Extra = dict
        """What else to print with the figures."""

    def look(self, count: int) -> int:
        """Called with the number of messages so far; gives the number at which to call it again."""
        self._step(count, time.perf_counter())
        return count + self._every

    def _at_first(self, count: int, now: float) -> None:
        print("running", flush=True)
        self._step = self._at_cue

    def _at_cue(self, count: int, now: float) -> None:
        if self._cue.given():
            self._due = now + self._seconds * WARM_UP
            self._step = self._after_warm_up

    def _after_warm_up(self, count: int, now: float) -> None:
        if now >= self._due:
            self._first, self._start, self._cpu = count, now, time.process_time()
            self._due = now + self._seconds
            self._step = self._at_end

    def _at_end(self, count: int, now: float) -> None:
        if now >= self._due:
            passed = count - self._first
            cpu = time.process_time() - self._cpu
            figures = {"rate": passed / (now - self._start), "cpu_us": cpu / passed * 1e6, **self.extra()}
            print(json.dumps(figures), flush=True)
            self._step = self._at_cue


def repeat(one: Callable[[], object], meter: Meter) -> NoReturn:
    """Send or receive for ever, one message at a time."""
    count = due = 0
    while True:
        one()
        count += 1
        if count >= due:
            due = meter.look(count)


async def repeat_await(one: Callable[[], Awaitable[object]], meter: Meter, messages: int = 1) -> NoReturn:
    """The same where it is awaited; `messages` is how many at a time."""
    count = due = 0
    while True:
        await one()
        count += messages
        if count >= due:
            due = meter.look(count)
