"""Many deadlines, one timer: what has expired is found in time, and looking for it stays cheap."""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import ContextVar, copy_context
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiozpat.protocol.calls import next_scan, scan
from aiozpat.rpc.deadlines import Deadlines
from tests.support import PATIENCE


@dataclass
class Call:
    deadline: float


def test_what_is_over_is_told_from_what_is_not() -> None:
    calls = [Call(5.0), Call(1.0), Call(3.0), Call(2.0), Call(4.0)]
    expired, nearest = scan(calls, now=2.5)
    assert expired == [Call(1.0), Call(2.0)]
    assert nearest == 3.0


def test_a_call_is_over_at_its_deadline_exactly() -> None:
    assert scan([Call(2.0)], now=2.0) == ([Call(2.0)], math.inf)
    assert scan([Call(2.0)], now=math.nextafter(2.0, 0)) == ([], 2.0)


@pytest.mark.parametrize("calls", [[], [Call(1.0)], [Call(1.0), Call(0.5)]])
def test_nothing_is_nearest_when_nothing_is_left(calls: list[Call]) -> None:
    assert scan(calls, now=1.0) == (calls, math.inf)


def test_calls_may_be_an_iterator() -> None:
    expired, nearest = scan((Call(float(number)) for number in range(4)), now=1.0)
    assert (len(expired), nearest) == (2, 2.0)


@given(deadlines=st.lists(st.floats(-1e6, 1e6)), now=st.floats(-1e6, 1e6))
def test_each_call_is_either_over_or_not_nearer_than_the_nearest(deadlines: list[float], now: float) -> None:
    expired, nearest = scan([Call(deadline) for deadline in deadlines], now)
    assert [call.deadline for call in expired] == [deadline for deadline in deadlines if deadline <= now]
    assert nearest == min((deadline for deadline in deadlines if deadline > now), default=math.inf)


def test_the_next_scan_is_at_the_nearest_deadline_where_that_is_far() -> None:
    assert next_scan(nearest=15.0, now=10.0, count=1000) == 5.0


@pytest.mark.parametrize("nearest", [9.0, 10.0, 10.0001])
def test_a_near_deadline_does_not_make_a_busy_loop(nearest: float) -> None:
    few, many = next_scan(nearest, 10.0, 1), next_scan(nearest, 10.0, 16_384)
    assert 0.001 <= few <= 0.005  # and is late by no more than that
    assert few < many <= 0.05


def run(calls: list[Call]) -> tuple[int, float]:
    """Play the timer; the number of scans, and by how much the latest call was found late."""
    now, scans, latest = 0.0, 0, 0.0
    nearest = min(call.deadline for call in calls)
    while calls:
        now += next_scan(nearest, now, len(calls))
        expired, nearest = scan(calls, now)
        calls = [call for call in calls if call.deadline > now]
        scans += 1
        latest = max([latest, *(now - call.deadline for call in expired)])
    return scans, latest


@given(deadlines=st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_every_call_is_found_soon_after_its_deadline(deadlines: list[float]) -> None:
    _, latest = run([Call(deadline) for deadline in deadlines])
    assert latest < 0.005


def test_ten_thousand_different_deadlines_in_a_second_take_few_scans() -> None:
    scans, latest = run([Call(number / 10_000) for number in range(10_000)])
    assert scans < 150
    assert latest < 0.03


class Timed:
    """Calls under one timer, as those of a connection or a server."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.expired: list[Call] = []
        self.looks = 0
        self.looked = asyncio.Event()
        self.deadlines = Deadlines(asyncio.get_running_loop(), copy_context(), lambda: len(self.calls), self._look)

    def add(self, deadline: float, now: float) -> bool:
        """Add a call; whether the timer was armed for it."""
        self.calls.append(Call(deadline))
        if not deadline < self.deadlines.nearest:
            return False
        self.deadlines.arm(deadline, now)
        return True

    def _look(self) -> None:
        self.looks += 1
        expired = self.deadlines.take_expired(self.calls, time.monotonic())
        self.calls = [call for call in self.calls if call not in expired]
        self.expired += expired
        self.looked.set()


async def test_one_timer_finds_each_call_when_its_time_is_over() -> None:
    timed, now = Timed(), time.monotonic()
    assert timed.add(now + 0.02, now)
    assert not timed.add(now + 0.04, now)
    assert timed.add(now + 0.01, now)
    async with asyncio.timeout(PATIENCE):
        while timed.calls:
            await timed.looked.wait()
            timed.looked.clear()
    assert sorted(call.deadline for call in timed.expired) == [now + 0.01, now + 0.02, now + 0.04]
    assert timed.looks <= 6  # uvloop rounds to milliseconds: it may look a moment too early, and then once more
    assert timed.deadlines.nearest == math.inf


async def test_a_flood_of_passed_deadlines_does_not_put_off_the_look() -> None:
    timed, now = Timed(), time.monotonic()
    assert [timed.add(now - number, now) for number in range(100)] == [True, *[False] * 99]
    await asyncio.wait_for(timed.looked.wait(), PATIENCE)
    assert len(timed.expired) == 100


_VARIABLE: ContextVar[str] = ContextVar("_VARIABLE")


async def test_the_timer_runs_in_its_own_context_and_not_in_that_of_whoever_armed_it() -> None:
    seen = []
    looked = asyncio.Event()

    def look() -> None:
        seen.append(_VARIABLE.get("none"))
        looked.set()

    deadlines = Deadlines(asyncio.get_running_loop(), copy_context(), lambda: 0, look)
    _VARIABLE.set("of a call")
    deadlines.arm(time.monotonic(), time.monotonic())
    await asyncio.wait_for(looked.wait(), PATIENCE)
    assert seen == ["none"]


async def test_a_timer_that_was_stopped_looks_no_more() -> None:
    timed, later, now = Timed(), Timed(), time.monotonic()
    timed.add(now, now)
    later.add(now + 0.02, now)
    timed.deadlines.stop()
    await asyncio.wait_for(later.looked.wait(), PATIENCE)
    assert timed.looks == 0
