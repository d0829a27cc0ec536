"""What runs around a client's calls: interceptors, and hedging."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from aiozpat.checks import flag, params_of
from aiozpat.errors import RpcError, UsageError
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.hedge import race
from aiozpat.rpc.interceptors import ClientCall, ClientInterceptor, run_within
from aiozpat.rpc.retry import Budget
from aiozpat.rpc.streams import source_of

_monotonic = time.monotonic
# The connections that the attempts of a hedged call have gone by; each looks for another one.
connections_tried: ContextVar[list[Connection] | None] = ContextVar("aiozpat_tried", default=None)


class Around:
    """A client's `call` and `notify`, for one with interceptors or hedging: the plain ones so pay for neither.

    Args:
        call: The plain one.
        notify: The plain one.
        deadline_after: Gives the deadline of a call with that timeout.
        interceptors: The first one is the outermost.
        budget: Of attempts beside the first ones, where there is a policy for them.
        hedge: Seconds after which a second attempt is made; None for no hedging.
        idempotent: The methods that may run twice.
    """

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        notify: Callable[..., Awaitable[None]],
        *,
        deadline_after: Callable[[float | None], float],
        interceptors: Sequence[ClientInterceptor],
        budget: Budget | None,
        hedge: float | None,
        idempotent: Container[str],
    ) -> None:
        self._call = call
        self._notify = notify
        self._deadline_after = deadline_after
        self._interceptors = interceptors
        self._budget = budget
        self._hedge = hedge
        self._idempotent = idempotent

    async def call(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotent: bool = False,
        **options: Any,
    ) -> Any:
        """As `Client.call`."""
        deadline = self._deadline_after(timeout)  # of all attempts together
        values = params_of(args, params)
        streams = source_of(values)[1] is not None
        seen = ClientCall(method, values, metadata, streams=streams)

        begun = False

        async def attempt() -> Any:
            nonlocal begun
            if begun and streams:
                raise UsageError(f"{method}: an interceptor called proceed() twice; no iterator is read twice")
            begun = True
            return await self._call(
                method,
                *args,
                params=params,
                timeout=deadline - _monotonic(),
                metadata=seen.metadata or None,
                idempotent=idempotent,
                **options,
            )

        last = attempt
        twice = flag("idempotent", idempotent) or method in self._idempotent
        if twice and not streams and self._budget is not None and self._hedge is not None:  # no iterator is read twice
            last = partial(self._hedged, attempt, self._budget, self._hedge)
        if not self._interceptors:
            return await last()
        return await run_within(deadline, self._interceptors, seen, last)

    async def _hedged(self, attempt: Callable[[], Awaitable[Any]], budget: Budget, delay: float) -> Any:
        """Make a call once, and once more where it takes long."""
        policy, tried = budget.policy, list[Connection]()

        def again() -> bool:  # not where none was sent yet: it waits for a connection, as the second would
            return 0 < len(tried) < policy.attempts and budget.spend()

        def final(error: BaseException) -> bool:
            return isinstance(error, RpcError) and error.code not in policy.codes

        before = connections_tried.set(tried)
        try:
            return await race(attempt, delay, again=again, final=final)
        finally:
            connections_tried.reset(before)

    async def notify(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """As `Client.notify`."""
        deadline = self._deadline_after(timeout)
        seen = ClientCall(method, params_of(args, params), metadata, streams=False)

        async def last() -> None:
            left = deadline - _monotonic()
            await self._notify(method, *args, params=params, timeout=left, metadata=seen.metadata or None, **options)

        await run_within(deadline, self._interceptors, seen, last)
