"""From a registered method to what a server awaits for a call of it: in a thread, intercepted, or as it is."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from aiozpat.errors import RpcError, StatusCode, UsageError
from aiozpat.observability.calls import Proceed
from aiozpat.rpc.current import Call, Job, current_job
from aiozpat.rpc.flows import Outbound, pump
from aiozpat.rpc.interceptors import ServerInterceptor, chain
from aiozpat.rpc.route import positional
from aiozpat.rpc.service import Method
from aiozpat.rpc.threads import Threads


class Callables:
    """How one server runs handlers.

    Args:
        max_threads: Worker threads for plain functions.
        interceptors: What runs around each call.
    """

    def __init__(self, max_threads: int, interceptors: Sequence[ServerInterceptor]) -> None:
        self._threads = Threads(max_threads)
        self._interceptors = interceptors

    def of(self, method: Method) -> Callable[..., Any]:
        """The coroutine function for a method that gives a result; the generator function of one that streams."""
        call = self._plain(method)
        if not self._interceptors or method.signature.replies:
            return call  # around a stream they run in `stream`, all of it

        def intercepted(*args: Any) -> Awaitable[Any]:
            return self._intercept(partial(call, *args))

        return intercepted

    def _plain(self, method: Method) -> Callable[..., Any]:
        call = positional(method)
        if method.is_async:
            return call

        async def in_thread(*args: Any) -> Any:
            # Given up only when the server ends for good; a deadline leaves it, and its place, until it returns.
            job = _own_job()
            return await self._threads.run(job, partial(_unless_answered, job, call, args))

        return in_thread

    async def stream(self, call: Callable[..., AsyncIterator[Any]], args: tuple[Any, ...], outbound: Outbound) -> None:
        """Run a method that streams, and send what it yields."""
        if not self._interceptors:
            await pump(call(*args), outbound)
            return
        proceeded = False

        async def send() -> None:
            nonlocal proceeded
            proceeded = True
            await pump(call(*args), outbound)

        await self._intercept(send)
        if not proceeded:
            raise UsageError("an interceptor returned without having awaited proceed(); a stream has no other result")

    async def _intercept(self, last: Proceed) -> Any:
        """Run a call through the interceptors; what they raise before it proceeds, they refuse."""
        job = _own_job()
        proceeded = False

        def proceed() -> Awaitable[Any]:
            nonlocal proceeded
            if proceeded and job.route.streams:
                raise UsageError(f"{job.route.name}: an interceptor called proceed() twice; no stream begins again")
            proceeded = True
            return last()

        try:
            return await chain(self._interceptors, Call(job), proceed)()
        except RpcError as error:
            # Not Unavailable, which would say that the server drains.
            error.refused = error.code is StatusCode.RESOURCE_EXHAUSTED and not proceeded
            raise


def _own_job() -> Job:
    job = current_job()
    if job is None:
        raise UsageError("handlers, and interceptors, run in the task of their call")
    return job


def _unless_answered(job: Job, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Run a plain function in its thread, unless its caller has given up while it waited for one."""
    if job.answered:
        return None
    result = call(*args)
    if inspect.iscoroutine(result):
        result.close()
        raise UsageError(f"{job.route.name} is a plain function that gave a coroutine: a decorator hides `async def`")
    return result
