"""So many run, so many wait in order, and past both there is a refusal at once: of one method, and in all."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiozpat.protocol.admission import Admission, Decision, Gate


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


def test_a_place_of_ones_own_is_not_kept_by_who_is_refused() -> None:
    admission: Admission[Job] = Admission(max_concurrency=1, max_queued=0)
    own: Gate[Job] = Gate(max_concurrency=1, max_queued=0)
    assert admission.enter(Job(), None) is Decision.RUN
    assert admission.enter(Job(), own) is Decision.REFUSE
    assert own.running == 0


class _Model:
    """Who is where, by definition: in the queue of its own limit, in that of all, or running."""

    def __init__(self, admission: Admission[Job], own: Gate[Job]) -> None:
        self.admission = admission
        self.own = own
        self.running: list[tuple[Job, Gate[Job] | None]] = []
        self.waiting: list[tuple[Job, Gate[Job] | None]] = []
        self.refused = 0

    def enter(self, own: Gate[Job] | None) -> None:
        job = Job()
        decision = self.admission.enter(job, own)
        if decision is Decision.REFUSE:
            self.refused += 1
        else:
            (self.running if decision is Decision.RUN else self.waiting).append((job, own))

    def take(self, successors: list[Job]) -> None:
        for job in successors:
            place = next(place for place, (other, _) in enumerate(self.waiting) if other is job)
            self.running.append(self.waiting.pop(place))

    def leave(self, place: int) -> None:
        _, own = self.running.pop(place % len(self.running))
        self.take(self.admission.leave(own))

    def withdraw(self, place: int) -> None:
        job, own = self.waiting.pop(place % len(self.waiting))
        successors = self.admission.withdraw(job, own)
        assert successors is not None
        self.take(successors)

    def check(self) -> None:
        gate, own = self.admission.gate, self.own
        assert gate.running == len(self.running) <= gate.max_concurrency
        assert gate.queued + own.queued == len(self.waiting)
        with_own = sum(limit is not None for _, limit in [*self.running, *self.waiting])
        assert own.running == with_own - own.queued <= own.max_concurrency
        # Nobody waits for nothing.
        assert not gate.queued or gate.running == gate.max_concurrency
        assert not own.queued or own.running == own.max_concurrency


@given(
    limits=st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 4), st.integers(0, 3)),
    script=st.lists(st.tuples(st.sampled_from(("own", "other", "leave", "withdraw")), st.integers(0, 9)), max_size=80),
)
def test_both_limits_hold_and_no_place_is_lost(
    limits: tuple[int, int, int, int], script: list[tuple[str, int]]
) -> None:
    model = _Model(Admission(limits[0], limits[1]), Gate(limits[2], limits[3]))
    for what, place in script:
        if what in ("own", "other"):
            model.enter(model.own if what == "own" else None)
        elif what == "leave" and model.running:
            model.leave(place)
        elif what == "withdraw" and model.waiting:
            model.withdraw(place)
        model.check()
    while model.running:
        model.leave(0)
        model.check()
    assert not model.waiting
    assert model.admission.withdraw(Job(), model.own) is None
