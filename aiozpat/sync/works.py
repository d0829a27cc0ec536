"""What the loop does for threads that wait: coroutines, and plain calls, which need none."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from aiozpat.errors import AiozpatError, Cancelled, Closed, RpcError
from aiozpat.rpc import Client
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.pending import Answer, NeverRan, Pending
from aiozpat.sync.handoff import Waiter

T = TypeVar("T")

_monotonic = time.monotonic
_EAGER = sys.version_info >= (3, 12)
ENDED = "the client was closed"


class Runner(Protocol):
    """Where works run."""

    loop: asyncio.AbstractEventLoop
    over: AiozpatError | None  # why it runs nothing any more

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
            self._task.add_done_callback(self._never_began)

    def _never_began(self, task: asyncio.Task[None]) -> None:
        """The loop ended before the first step; `_run` ends in no other way by being cancelled."""
        if task.cancelled():
            self._error = Closed(ENDED)
            self._runner.finish(self)

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

    def abort(self) -> None:
        """End all sessions, and the calls in flight with them, without a word to the servers."""
        self._pool.abort()

    def begin(
        self,
        method: str,
        values: Any,
        deadline: float,
        result_type: Any,
        metadata: Mapping[str, str] | None,
        answer: Answer,
    ) -> tuple[Connection, Pending[Any]] | None:
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
            pending = connection.start(method, values, deadline, left, decoder, metadata, answer)
        except RpcError:  # it was not sent: `call` comes to the same, and knows what to make of it
            return None
        self._calls += 1
        return connection, pending


# Method, params by position or by name, result type, metadata, whether to wait for a connection, whether idempotent.
Request: TypeAlias = tuple[
    str, tuple[Any, ...], dict[str, Any] | None, Any, Mapping[str, str] | None, bool | None, bool
]


class Call(Work[Any]):
    """A call; a plain one without a coroutine, a task and a future, which would be half of what it costs.

    Args:
        client: Makes it.
        request: What `Client.call` was given.
        timeout: Seconds from now, None for the client's own.
    """

    __slots__ = ("_begun", "_client", "_deadline", "_request")

    def __init__(self, client: LoopClient, request: Request, timeout: float | None) -> None:
        super().__init__()
        self._client = client
        self._request = request
        self._deadline = client._deadline_after(timeout)
        self._begun: tuple[Connection, Pending[Any]] | None = None

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        """The call where it is none of the plain ones."""
        method, args, params, result_type, metadata, wait_for_ready, idempotent = self._request
        return self._client.call(
            method,
            *args,
            params=params,
            timeout=self._deadline - _monotonic(),
            result_type=result_type,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
            idempotent=idempotent,
        )

    def start(self, runner: Runner) -> None:
        """Begin, on the loop; nothing is done if nobody waits any more."""
        if self.abandoned:
            return
        self._runner = runner
        try:
            self._begun = self._begin()
        except Exception as error:
            self._error = error
            runner.finish(self)
            return
        if self._begun is None:
            super().start(runner)

    def _begin(self) -> tuple[Connection, Pending[Any]] | None:
        method, values, params, result_type, metadata, _, _ = self._request
        if params is None:
            return self._client.begin(method, values, self._deadline, result_type, metadata, self)
        if values:
            return None  # `call` refuses both
        return self._client.begin(method, params, self._deadline, result_type, metadata, self)

    def done(self) -> bool:
        """Whether nobody waits any more; as an `Answer`."""
        return self.abandoned

    def set_result(self, result: Any) -> None:
        """The call went well; as an `Answer`."""
        self._begun = None  # it refers to this
        self._result = result
        self._runner.finish(self)

    def set_exception(self, exception: BaseException) -> None:
        """The call failed, or never ran; as an `Answer`."""
        self._begun = None
        if isinstance(exception, NeverRan) and self._runner.over is None:
            # Not at once: whoever says so is in the middle of ending the connection.
            self._runner.loop.call_soon(super().start, self._runner)
            return
        error = exception.reason if isinstance(exception, NeverRan) else exception
        if isinstance(error, RpcError):
            error.from_call = True
        self._error = error
        self._runner.finish(self)

    def withdraw(self) -> None:
        """Nobody waits any more; on the loop."""
        super().withdraw()
        if self._begun is not None:
            connection, pending = self._begun
            connection.abandon(pending)
