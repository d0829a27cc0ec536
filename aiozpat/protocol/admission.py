"""How many calls run and how many wait, of one method and in all; past both, an immediate refusal."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Generic, TypeVar

J = TypeVar("J")


class Decision(Enum):
    """What becomes of a call that asks for a place."""

    RUN = "run"
    WAIT = "wait"
    REFUSE = "refuse"


class Gate(Generic[J]):
    """A limit on what runs at once, with a bounded queue in front of it.

    Args:
        max_concurrency: How many may run.
        max_queued: How many may wait, in order.

    Attributes:
        running: How many run.
        queue: Who waits, oldest first.
    """

    __slots__ = ("max_concurrency", "max_queued", "queue", "running")

    def __init__(self, max_concurrency: int, max_queued: int) -> None:
        self.max_concurrency = max_concurrency
        self.max_queued = max_queued
        self.running = 0
        self.queue: OrderedDict[int, J] = OrderedDict()

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self.queue)

    def enter(self, job: J) -> Decision:
        """Ask for a place; a job told to wait comes out of a later `leave`."""
        if self.running < self.max_concurrency:
            self.running += 1
            return Decision.RUN
        if len(self.queue) >= self.max_queued:
            return Decision.REFUSE
        self.queue[id(job)] = job
        return Decision.WAIT

    def leave(self) -> J | None:
        """Give a place back; the job that gets it, if one waits."""
        if self.queue:
            return self.queue.popitem(last=False)[1]
        self.running -= 1
        return None

    def withdraw(self, job: J) -> bool:
        """Take a waiting job out of the queue; False if it does not wait."""
        return self.queue.pop(id(job), None) is not None


class Admission(Generic[J]):
    """A limit for all jobs, behind limits of their own that some have: those need a place of both.

    Who has a place of its own and none of all holds that one while it waits for the other.

    Args:
        max_concurrency: How many of all may run.
        max_queued: How many may wait for that, in order.

    Attributes:
        gate: The limit for all.
    """

    __slots__ = ("gate",)

    def __init__(self, max_concurrency: int, max_queued: int) -> None:
        self.gate: Gate[J] = Gate(max_concurrency, max_queued)

    def enter(self, job: J, own: Gate[J] | None) -> Decision:
        """Ask for a job's places; one told to wait comes out of a later `leave` or `withdraw`."""
        decision = Decision.RUN if own is None else own.enter(job)
        if decision is Decision.RUN:
            decision = self.gate.enter(job)
            if decision is Decision.REFUSE and own is not None:
                own.leave()  # to nobody: it had a place free, so none waits for one
        return decision

    def leave(self, own: Gate[J] | None) -> list[J]:
        """Give a job's places back; those that waited for them, and have all of theirs now."""
        successor = self.gate.leave()
        return [*([] if successor is None else [successor]), *self._pass_on(own)]

    def withdraw(self, job: J, own: Gate[J] | None) -> list[J] | None:
        """Take a waiting job out of its queue, and tell as `leave` does; None if it does not wait."""
        if self.gate.withdraw(job):
            return self._pass_on(own)
        return [] if own is not None and own.withdraw(job) else None

    def _pass_on(self, own: Gate[J] | None) -> list[J]:
        """A place of a job's own limit is free; who gets that needs one of all, to run or at least to wait.

        One of these was given back just before, so nobody is refused here.
        """
        job = own.leave() if own is not None else None
        return [job] if job is not None and self.gate.enter(job) is Decision.RUN else []
