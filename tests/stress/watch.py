"""What goes on in the process of the clients: what was wrong, what takes too long, when the loop itself stood still."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

QUICK = 0.9  # seconds for what nothing holds up: a busy machine needs so long, a lost word costs seconds
_BEAT = 0.05  # seconds
_STALL = 0.2  # seconds without a beat: the loop stood still, or the machine
_GRACE = 2.0  # seconds beyond its limit until an operation is overdue
_KEPT = 100  # findings
_clock = time.monotonic


class Slow(msgspec.Struct, frozen=True):
    """Something took long though nothing else went on; a fault at that time may excuse it."""

    what: str
    begin: float
    end: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of the clients says at its end."""

    findings: list[str]
    slow: list[Slow]
    tally: dict[str, int]
    errors: dict[str, int]

    def merged(self, other: Report) -> Report:
        """Both together."""
        return Report(
            findings=self.findings + other.findings,
            slow=self.slow + other.slow,
            tally=Counter(self.tally) + Counter(other.tally),
            errors=Counter(self.errors) + Counter(other.errors),
        )


class Watch:
    """Findings and counts of one run."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.slow: list[Slow] = []
        self.tally: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._running: dict[object, tuple[str, float, float]] = {}
        self._stalls: deque[tuple[float, float]] = deque(maxlen=1000)  # from when to when
        self._beat = _clock()

    def find(self, what: str) -> None:
        """Write down what should not be."""
        if len(self.findings) < _KEPT:
            self.findings.append(what)
        else:
            self.tally["findings not shown"] += 1

    @contextmanager
    def operation(self, what: str, limit: float) -> Iterator[float]:
        """Something that may take so many seconds at most, however it ends; gives when it began."""
        token, begin = object(), _clock()
        self._running[token] = what, begin, limit
        try:
            yield begin
        finally:
            self._running.pop(token, None)

    @contextmanager
    def quick(self, what: str, limit: float) -> Iterator[None]:
        """Something that should not take longer, since nothing else goes on."""
        begin = _clock()
        yield
        self.lasted(what, begin, limit)

    def lasted(self, what: str, begin: float, limit: float) -> None:
        """Something that began then, and ends now, should not have taken longer than that."""
        end = _clock()
        if end - begin - self._stalled(begin, end) > limit and len(self.slow) < _KEPT:
            self.slow.append(Slow(what, begin, end))

    async def beat(self) -> None:
        """Look after the loop and what runs, until cancelled."""
        self._beat = _clock()
        while True:
            await asyncio.sleep(_BEAT)
            last, now = self._beat, _clock()
            if now - last > _STALL:
                self._stalls.append((last + _BEAT, now))
            self._beat = now
            for token, (what, begin, limit) in list(self._running.items()):
                if now - begin - self._stalled(begin, now) > limit + _GRACE:
                    del self._running[token]
                    self.find(f"overdue: {what}: {now - begin:.1f} s, {limit:g} at most")

    def _stalled(self, begin: float, end: float) -> float:
        """For how much of that time the loop stood still; it may be the first to run after that who asks."""
        stalls = [*self._stalls, (self._beat + _BEAT, end)]
        return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in stalls)

    def report(self) -> Report:
        """All of it."""
        return Report(
            findings=self.findings, slow=self.slow, tally=dict(self.tally), errors=dict(self.errors.most_common(_KEPT))
        )
