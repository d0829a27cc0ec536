"""Stubs: an interface's methods as calls of a client."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar, cast

from aiozpat.errors import InvalidArgument
from aiozpat.rpc.interface import InterfaceMethod, methods_of, service_name
from aiozpat.rpc.streams import Stream

T = TypeVar("T")
Bound: TypeAlias = tuple[tuple[Any, ...], dict[str, Any] | None]  # params by position, or by name


class StubOptions(NamedTuple):
    """What a stub's calls have in common, and its streams, as `Client.call` and `Client.stream` take it."""

    calls: Mapping[str, Any]
    streams: Mapping[str, Any]


def stub_options(
    *,
    timeout: float | None,
    idle_timeout: float | None,
    window: int,
    metadata: Mapping[str, str] | None,
    wait_for_ready: bool | None,
) -> StubOptions:
    """Those of `Client.stub`, sorted."""
    calls = {"timeout": timeout, "metadata": metadata, "wait_for_ready": wait_for_ready}
    return StubOptions(calls, {**calls, "idle_timeout": idle_timeout, "window": window})


class Arguments:
    """How a stub's arguments become params.

    Args:
        method: The full name, for messages.
        declared: The interface's method.

    Attributes:
        names: The params', in order.
    """

    def __init__(self, method: str, declared: InterfaceMethod) -> None:
        self._method = method
        self._signature = inspect.signature(declared.function.__get__(object()))
        parameters = self._signature.parameters.values()
        self.names = [parameter.name for parameter in parameters]
        required = sum(parameter.default is parameter.empty for parameter in parameters)
        by_name = any(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
        self._by_position = range(0) if by_name else range(required, len(parameters) + 1)  # how many there may be

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        """The params by position, or by name where a name was given.

        Raises:
            InvalidArgument: They don't fit the method.
        """
        if not kwargs and len(args) in self._by_position:
            return args, None
        try:
            return (), self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArgument(f"{self._method}: {error}") from None


def make_stub(
    client: Any,
    interface: type[T],
    service: str | None,
    options: StubOptions,
    *,
    arguments: type[Arguments],
    items: Callable[[Any], Any],
) -> T:
    """An object with the methods of an interface, each of which calls the server's.

    Args:
        client: Whose calls: one of either kind.
        interface: The interface.
        service: The service's name, None for the interface's.
        options: What its calls have in common, and its streams.
        arguments: How arguments become params.
        items: What a method that streams its replies gives for the client's stream.

    Raises:
        UsageError: It is no interface.
    """
    every = methods_of(interface)  # which checks it
    prefix = service or service_name(interface)
    methods = {}
    for declared in every:
        bind = arguments(f"{prefix}.{declared.name}", declared).bind
        methods[declared.attribute] = _caller(client, declared, f"{prefix}.{declared.name}", options, bind, items)
    # A class of its own, so that it is an instance of the interface; its constructor is the implementation's affair.
    shown = {"__repr__": lambda _: f"<stub of {interface.__name__} by {client!r}>"}
    stub: Any = object.__new__(type(f"{interface.__name__}Stub", (interface,), shown))
    vars(stub).update(methods)
    return cast("T", stub)


def _caller(
    client: Any,
    declared: InterfaceMethod,
    method: str,
    options: StubOptions,
    bind: Callable[[tuple[Any, ...], dict[str, Any]], Bound],
    items: Callable[[Any], Any],
) -> Callable[..., Any]:
    """The function that stands for one method."""
    result = declared.signature.result
    idempotent = declared.options.idempotent

    def call(*args: Any, **kwargs: Any) -> Any:
        args, params = bind(args, kwargs)
        return client.call(method, *args, params=params, result_type=result, idempotent=idempotent, **options.calls)

    def stream(*args: Any, **kwargs: Any) -> Any:
        args, params = bind(args, kwargs)
        return items(client.stream(method, *args, params=params, item_type=result, **options.streams))

    caller = stream if declared.signature.replies else call
    functools.update_wrapper(caller, declared.function)
    return caller


class StubStream(Generic[T]):
    """The items of a stub's stream method: an async iterator that opens at the first item, and ends when it is dropped.

    `async with` ends it at a certain moment, as for `Stream`; so does `aclose`, and `contextlib.aclosing` with it.
    """

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._entered = False
        self._over = False  # used up, or closed

    def __repr__(self) -> str:
        return repr(self._stream)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        if not self._entered:
            await self.__aenter__()
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            await self.aclose()
            raise

    async def __aenter__(self) -> Self:
        self._entered = True
        try:
            await self._stream.__aenter__()
        except BaseException:
            self._entered = self._stream.opened  # if there was no connection yet, the next read tries again
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream, here and on the server."""
        self._entered = self._over = True
        await self._stream.__aexit__(None, None, None)

    def __del__(self) -> None:
        self._stream.drop()
