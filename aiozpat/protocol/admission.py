"""How many calls run and how many wait; past both, an immediate refusal."""

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
