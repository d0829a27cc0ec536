"""Interceptors: code around every call of a client or server, in one shape for results and streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from aiozpat.checks import LONGEST
from aiozpat.errors import DeadlineExceeded, RpcError
from aiozpat.observability.calls import Proceed
from aiozpat.rpc.current import Call
from aiozpat.rpc.requests import as_dict

C = TypeVar("C")
Interceptor = TypeVar("Interceptor")


class ClientCall:
    """A call as a client's interceptors see it.

    Attributes:
        method: The full name.
        metadata: What travels beside the params; may be changed until the call proceeds.
        streams: Whether items are sent or come back. Where they come back the call lasts as long as its block, and has
            no result.
    """

    __slots__ = ("_params", "metadata", "method", "streams")

    def __init__(self, method: str, params: Any, metadata: Mapping[str, str] | None, *, streams: bool) -> None:
        self.method = method
        self._params = params
        self.metadata: dict[str, str] = as_dict(metadata or {})
        self.streams = streams

    @property
    def params(self) -> Any:
        """By position or by name; not to be changed."""
        return self._params

    def __repr__(self) -> str:
        return f"<aiozpat.ClientCall of {self.method}>"


ClientInterceptor: TypeAlias = Callable[[ClientCall, Proceed], Awaitable[Any]]
ServerInterceptor: TypeAlias = Callable[[Call, Proceed], Awaitable[Any]]


def checked(interceptors: Iterable[Interceptor]) -> tuple[Interceptor, ...]:
    """Interceptors as a tuple.

    Raises:
        TypeError: One of them can't be called, or it is no list.
    """
    if callable(interceptors) or not isinstance(interceptors, Iterable):
        raise TypeError(f"interceptors are a list; got {interceptors!r}")
    every = tuple(interceptors)
    for interceptor in every:
        if not callable(interceptor) or isinstance(interceptor, type):
            raise TypeError(f"an interceptor is `async def f(call, proceed)`; got {interceptor!r}")
    return every


def chain(interceptors: Sequence[Callable[[C, Proceed], Awaitable[Any]]], call: C, last: Proceed) -> Proceed:
    """What runs a call through its interceptors, the first one outermost.

    Args:
        interceptors: Each is given the call, and `proceed`, which runs all that is further in and gives its result.
        call: The call.
        last: The call itself.
    """
    proceed = last
    for interceptor in reversed(interceptors):
        proceed = partial(_step, interceptor, call, proceed)
    return proceed


def _step(interceptor: Callable[[C, Proceed], Awaitable[Any]], call: C, proceed: Proceed) -> Awaitable[Any]:
    """One interceptor's part; that it is written without `async` is found out here, where it has given something."""
    part: object = interceptor(call, proceed)
    if not isinstance(part, Awaitable):
        raise TypeError(f"an interceptor is `async def f(call, proceed)`; {interceptor!r} gave {part!r}")
    return part


async def run_within(
    deadline: float, interceptors: Sequence[ClientInterceptor], call: ClientCall, last: Proceed
) -> Any:
    """Run a client's call through its interceptors, all of it within its time.

    Args:
        deadline: Until when, `time.monotonic()`.
        interceptors: As for `chain`.
        call: The call.
        last: The call itself. While it is under way it keeps to the deadline by itself: it knows what has arrived.

    Raises:
        DeadlineExceeded: The time was over while an interceptor did something else.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + min(LONGEST, deadline - time.monotonic())
    under_way = 0
    limit = asyncio.timeout_at(until)

    def bound(when: float | None) -> None:
        with contextlib.suppress(RuntimeError):  # it is over, for an interceptor that proceeds all the same
            limit.reschedule(when)

    async def proceed() -> Any:
        nonlocal under_way
        under_way += 1
        bound(None)
        try:
            return await last()
        finally:
            under_way -= 1
            if not under_way:
                bound(until)

    try:
        async with limit:
            return await chain(interceptors, call, proceed)()
    except RpcError as error:  # also an interceptor's own
        error.from_call = True
        raise
    except TimeoutError:
        if not limit.expired():
            raise
        late = DeadlineExceeded(f"{call.method}: its interceptors took all the time there was for it")
        late.from_call = True
        raise late from None
