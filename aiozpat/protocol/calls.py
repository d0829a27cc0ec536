"""Deadlines of many calls at the price of one timer: the nearest is armed, and a scan finds what has expired."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar


class HasDeadline(Protocol):
    """Anything that ends at a time."""

    deadline: float


T = TypeVar("T", bound=HasDeadline)

_LEAST = 0.002  # seconds between scans
_PER_CALL = 2e-6  # more seconds for each call scanned: at most a few percent of the time goes into scanning


def next_scan(nearest: float, now: float, count: int) -> float:
    """Seconds from now to the next scan, for the nearest of `count` deadlines."""
    return max(nearest - now, _LEAST + count * _PER_CALL)


def scan(calls: Iterable[T], now: float) -> tuple[list[T], float]:
    """The calls whose time is over, and the nearest deadline of the others (infinity when there are none)."""
    expired: list[T] = []
    nearest = math.inf
    for call in calls:
        deadline = call.deadline
        if deadline <= now:
            expired.append(call)
        elif deadline < nearest:
            nearest = deadline
    return expired, nearest
