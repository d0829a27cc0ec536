"""What the loop does for threads that wait: coroutines, and plain calls, which need none."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from typing import Any, Generic, Protocol, TypeVar

from aiozpat.errors import AiozpatError, Cancelled, Closed, RpcError
from aiozpat.rpc import Client
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.current import current_job
from aiozpat.rpc.pending import NeverRan, Pending
from aiozpat.sync.handoff import Waiter

T = TypeVar("T")

_monotonic = time.monotonic
_EAGER = sys.version_info >= (3, 12)
ENDED = "the client was closed"


class Runner(Protocol):
    """Where works run."""

    loop: asyncio.AbstractEventLoop

    def finish(self, work: Work[Any]) -> None:
        """Let the thread have what came of its work; on the loop."""


class Work(Waiter, Generic[T]):
    """Something that the loop does for a thread, in a copy of the thread's context."""

    __slots__ = ("_context", "_error", "_result", "_runner", "_task")

    def __init__(self) -> None:
        super().__init__()
        self._context = copy_context()  # the deadline of a calling handler is in it, and what interceptors look for
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    def coroutine(self) -> Coroutine[Any, Any, T]:
        """What is to be done."""
        raise NotImplementedError

    def start(self, runner: Runner) -> None:
        """Begin, on the loop; nothing is done if nobody waits any more."""
        if self.abandoned:
            return
        self._runner = runner
        if _EAGER:
            self._task = asyncio.Task(
                self._run(),
                loop=runner.loop,
                context=self._context,
                eager_start=True,  # type: ignore[call-arg]  # 3.12
            )
        else:
            self._task = runner.loop.create_task(self._run(), context=self._context)

    async def _run(self) -> None:
        try:
            self._result = await self.coroutine()
        except asyncio.CancelledError:  # not by `withdraw`, after which nobody looks
            task = asyncio.current_task()
            by_the_loop = task is not None and task.cancelling()
            self._error = Closed(ENDED) if by_the_loop else Cancelled("it was cancelled in this client")
        except BaseException as error:
            self._error = error
        self._runner.finish(self)

    def fail(self, error: AiozpatError) -> None:
        """End it before it has begun, from any thread."""
        self._error = error
        self.lock.release()

    def withdraw(self) -> None:
        """Nobody waits any more; on the loop."""
        if self._task is not None:
            self._task.cancel()

    def outcome(self) -> T:
        """What came of it, once it is done."""
        if self._error is None:
            return self._result
        error, self._error = self._error, None
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


class Errand(Work[T]):
    """A coroutine function that is to be run.

    Args:
        function: The coroutine function.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        super().__init__()
        self._function = function

    def coroutine(self) -> Coroutine[Any, Any, T]:
        """What is to be done."""
        return self._function()


class LoopClient(Client):
    """What a sync client runs on the loop."""

    def deadline_after(self, timeout: float | None) -> float:
        """When a call ends that is made now, `time.monotonic()`; from any thread."""
        deadline = _monotonic() + (self._timeout if timeout is None else timeout)
        job = current_job.get()
        return deadline if job is None else min(deadline, job.deadline)

    def begin(
        self, method: str, values: Any, deadline: float, result_type: Any, metadata: Mapping[str, str] | None
    ) -> tuple[Connection, Pending] | None:
        """Send a call, as `call` does where there is nothing to decide or to wait for; None where there is."""
        connection = self._pool.usable
        left = deadline - _monotonic()
        if connection is None or not left > 0 or self._interceptors or self._budget is not None:
            return None
        try:
            decoder = self._decoders[result_type]
        except TypeError:
            decoder = self._decoders.of(result_type)
        try:
            pending = connection.start(method, values, deadline, left, decoder, metadata)
        except RpcError:  # it was not sent: `call` comes to the same, and knows what to make of it
            return None
        self._calls += 1
        return connection, pending


class Call(Work[Any]):
    """A call; a plain one without a coroutine and its task, which would be half of what it costs.

    Args:
        client: Makes it.
        method, args, params, result_type, metadata, wait_for_ready, idempotent: As for `Client.call`.
        timeout: Seconds from now, None for the client's own.
    """

    __slots__ = (
        "_args",
        "_begun",
        "_client",
        "_deadline",
        "_idempotent",
        "_metadata",
        "_method",
        "_params",
        "_result_type",
        "_wait_for_ready",
    )

    def __init__(
        self,
        client: LoopClient,
        method: str,
        args: tuple[Any, ...],
        params: dict[str, Any] | None,
        timeout: float | None,
        result_type: Any,
        metadata: Mapping[str, str] | None,
        wait_for_ready: bool | None,
        *,
        idempotent: bool,
    ) -> None:
        super().__init__()
        self._client = client
        self._method = method
        self._args = args
        self._params = params
        self._deadline = client.deadline_after(timeout)
        self._result_type = result_type
        self._metadata = metadata
        self._wait_for_ready = wait_for_ready
        self._idempotent = idempotent
        self._begun: tuple[Connection, Pending] | None = None

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        """The call where it is none of the plain ones."""
        return self._client.call(
            self._method,
            *self._args,
            params=self._params,
            timeout=self._deadline - _monotonic(),
            result_type=self._result_type,
            metadata=self._metadata,
            wait_for_ready=self._wait_for_ready,
            idempotent=self._idempotent,
        )

    def start(self, runner: Runner) -> None:
        """Begin, on the loop; nothing is done if nobody waits any more."""
        if self.abandoned:
            return
        self._runner = runner
        try:
            self._begun = begun = self._begin()
        except Exception as error:
            self._error = error
            runner.finish(self)
            return
        if begun is None:
            super().start(runner)
        else:
            begun[1].future.add_done_callback(self._on_answer)

    def _begin(self) -> tuple[Connection, Pending] | None:
        values: Any = self._args
        if self._params is not None:
            if self._args:
                return None  # `call` refuses both
            values = self._params
        return self._client.begin(self._method, values, self._deadline, self._result_type, self._metadata)

    def _on_answer(self, future: asyncio.Future[Any]) -> None:
        self._begun = None
        error = future.exception()
        if error is None:
            self._result = future.result()
        elif isinstance(error, NeverRan):
            super().start(self._runner)
            return
        else:
            if isinstance(error, RpcError):
                error.from_call = True
            self._error = error
        self._runner.finish(self)

    def withdraw(self) -> None:
        """Nobody waits any more; on the loop."""
        super().withdraw()
        if self._begun is not None:
            connection, pending = self._begun
            pending.future.remove_done_callback(self._on_answer)
            connection.abandon(pending)
