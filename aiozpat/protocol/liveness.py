"""Whether a peer is alive: pings when it is silent, and judges it only on time that it really had."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What to do after a tick."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class Liveness:
    """The heartbeat of one peer; time is an argument.

    A peer is dead after `misses` intervals in which nothing of it arrived. Time that our own loop stood still does not
    count: the peer's words may lie unread, so a late tick forgives as much as it was late. Whoever calls `tick` has
    read all that has arrived.

    Args:
        interval: Seconds of silence after which to ping, and between ticks at most.
        misses: Intervals of silence that make a peer dead.
        now: The time, in seconds, of any clock that only goes forward.

    Attributes:
        heard: When something of the peer was last read; set by whoever reads.
    """

    __slots__ = ("_interval", "_misses", "_ticked", "heard")

    def __init__(self, interval: float, misses: int, now: float) -> None:
        self._interval = interval
        self._misses = misses
        self.heard = now
        self._ticked = now

    def late(self, now: float) -> bool:
        """Whether the peer has left a ping unanswered for half an interval; as of the last tick's reading."""
        return now - self.heard >= self._interval * 1.5

    def tick(self, now: float) -> Verdict:
        """Judge; call it at least every half interval."""
        late = now - self._ticked - self._interval / 2
        self._ticked = now
        if late > self._interval / 2:
            self.heard = min(now, self.heard + late)
        silence = now - self.heard
        if silence >= self._interval * self._misses:
            return Verdict.DEAD
        return Verdict.PING if silence >= self._interval * 0.75 else Verdict.WAIT
