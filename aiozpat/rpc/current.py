"""The call that a handler runs for: what it may ask of it, and what the server keeps of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from aiozpat.errors import UsageError

if TYPE_CHECKING:
    from aiozpat.rpc.flows import Inbound, Outbound
    from aiozpat.rpc.route import Route
    from aiozpat.rpc.session import Session


class Job(msgspec.Struct, eq=False):
    """One call on the server. `task` and `session` point back at it: whoever ends it clears `task`."""

    session: Session
    key: int  # of the table of calls; the call's id, or a negative number where no answer is wanted
    route: Route
    args: tuple[Any, ...]
    deadline: float  # time.monotonic()
    metadata: dict[str, str] | None
    started: bool = False
    answered: bool = False  # the caller has its answer, or wants none any more
    task: asyncio.Task[None] | None = None
    in_thread: bool = False  # its task waits for a worker thread, which nothing can end
    left: bool = False  # it does so no more, and the thread goes on
    inbound: Inbound[Any] | None = None  # items from the client
    outbound: Outbound | None = None  # items to the client


_current_job: ContextVar[Job | None] = ContextVar("aiozpat_current_job", default=None)
# Bound once: of an imported object, the compiler makes each call of a method a look-up and a bound method.
current_job, set_current_job = _current_job.get, _current_job.set

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Call:
    """The call that a handler runs for; made by `current_call`."""

    __slots__ = ("_job",)

    def __init__(self, job: Job) -> None:
        self._job = job

    def __repr__(self) -> str:
        return f"<aiozpat.Call {self.method} of {self.peer}, {self.time_left:.3f} s left>"

    @property
    def method(self) -> str:
        """The full name, as in `calc.add`."""
        return self._job.route.name

    @property
    def time_left(self) -> float:
        """Seconds until the caller's deadline; below zero once it has passed, infinite once the handler has ended."""
        return self._job.deadline - time.monotonic()

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the caller sent beside the params."""
        return self._job.metadata or _NOTHING

    @property
    def peer(self) -> str:
        """The caller's name and session, for logs; not proof of who it is."""
        return self._job.session.label

    @property
    def state(self) -> Any:
        """What the service's lifespan has yielded; None if it has none."""
        return self._job.route.state

    @property
    def params(self) -> tuple[Any, ...]:
        """The params in the order of the handler's signature, defaults filled in."""
        return self._job.args

    @property
    def streams(self) -> bool:
        """Whether items are taken or given."""
        return self._job.route.streams

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more: a plain-def handler that runs long asks now and then."""
        return self._job.answered


def current_call() -> Call:
    """The call that this handler runs for, in its task, its thread, and tasks that it started.

    Raises:
        UsageError: Not inside a handler.
    """
    job = current_job()
    if job is None:
        raise UsageError("current_call() works inside a handler that a Server runs")
    return Call(job)
