"""A gate: so many run, so many wait in order, and past both there is a refusal at once."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiozpat.protocol.admission import Decision, Gate


class Job:
    """A call; all jobs are equal, so a gate must tell them apart by identity."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job)

    __hash__ = None  # type: ignore[assignment]  # nor can it be hashed


def test_jobs_run_then_wait_then_are_refused() -> None:
    gate: Gate[Job] = Gate(max_concurrency=2, max_queued=1)
    decisions = [gate.enter(Job()) for _ in range(4)]
    assert decisions == [Decision.RUN, Decision.RUN, Decision.WAIT, Decision.REFUSE]
    assert (gate.running, gate.queued) == (2, 1)


def test_without_a_queue_the_refusal_comes_at_the_limit() -> None:
    gate: Gate[Job] = Gate(max_concurrency=1, max_queued=0)
    assert gate.enter(Job()) is Decision.RUN
    assert gate.enter(Job()) is Decision.REFUSE


def test_a_place_goes_to_who_waited_longest() -> None:
    gate: Gate[Job] = Gate(max_concurrency=1, max_queued=3)
    gate.enter(Job())
    waiting = [Job(), Job(), Job()]
    for job in waiting:
        gate.enter(job)
    for job in waiting:
        assert gate.leave() is job
        assert gate.running == 1
    assert gate.leave() is None
    assert gate.running == 0


def test_a_newcomer_does_not_overtake_who_waits() -> None:
    gate: Gate[Job] = Gate(max_concurrency=1, max_queued=2)
    gate.enter(Job())
    first, second = Job(), Job()
    gate.enter(first)
    assert gate.leave() is first  # it has the place now
    assert gate.enter(second) is Decision.WAIT


def test_a_place_in_the_queue_is_free_after_a_withdrawal() -> None:
    gate: Gate[Job] = Gate(max_concurrency=1, max_queued=1)
    running, waiting, late = Job(), Job(), Job()
    gate.enter(running)
    gate.enter(waiting)
    assert gate.enter(late) is Decision.REFUSE
    assert gate.withdraw(waiting)
    assert not gate.withdraw(waiting)
    assert gate.enter(late) is Decision.WAIT
    assert gate.leave() is late


def test_who_runs_or_was_never_there_can_not_withdraw() -> None:
    gate: Gate[Job] = Gate(max_concurrency=1, max_queued=1)
    running = Job()
    gate.enter(running)
    gate.enter(Job())
    assert not gate.withdraw(running)
    assert not gate.withdraw(Job())
    assert (gate.running, gate.queued) == (1, 1)


@pytest.mark.parametrize("max_queued", [0, 1, 5])
@pytest.mark.parametrize("max_concurrency", [1, 2, 7])
@given(script=st.lists(st.sampled_from(("enter", "leave", "withdraw first", "withdraw last")), max_size=60))
def test_a_gate_keeps_its_limits_and_its_order(max_concurrency: int, max_queued: int, script: list[str]) -> None:
    gate: Gate[Job] = Gate(max_concurrency, max_queued)
    running, waiting = 0, deque[Job]()
    for what in script:
        if what == "enter":
            job = Job()
            decision = gate.enter(job)
            if running < max_concurrency:
                assert decision is Decision.RUN
                running += 1
            elif len(waiting) < max_queued:
                assert decision is Decision.WAIT
                waiting.append(job)
            else:
                assert decision is Decision.REFUSE
        elif what == "leave" and running:
            successor = gate.leave()
            if waiting:
                assert successor is waiting.popleft()
            else:
                assert successor is None
                running -= 1
        elif waiting and what != "leave":
            assert gate.withdraw(waiting.popleft() if what == "withdraw first" else waiting.pop())
        assert (gate.running, gate.queued) == (running, len(waiting))
