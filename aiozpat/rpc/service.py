"""Services: named groups of methods, typed by their annotations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar, overload
from weakref import WeakSet

from aiozpat.checks import flag, whole_number
from aiozpat.codec import TYPE_ERRORS, ItemDecoder
from aiozpat.errors import UsageError
from aiozpat.rpc.interface import MAX_QUEUED, MethodOptions, implemented, inner, not_a_function
from aiozpat.rpc.lifespan import Lifespan
from aiozpat.rpc.params import Params
from aiozpat.rpc.signature import Signature, signature_of

F = TypeVar("F", bound=Callable[..., Any])

RESERVED = "aiozpat"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of a service, as it was registered."""

    name: str
    handler: Callable[..., Any]
    signature: Signature
    params: Params
    is_async: bool
    options: MethodOptions


class Service:
    """A named group of methods; give it to a `Server`.

    Its methods are functions, registered by `method`, or those of an object, or both.

    Args:
        name: The first part of each method's full name: identifiers (in ASCII) joined by dots.
        implementation: An object whose methods are served: those of `interface`, or without one those that are marked
            with `aiozpat.method`.
        interface: The class that says what the object has to have, and that clients make their stubs from.
        version: Anything that tells versions apart, usually semantic.
        lifespan: Makes the async context manager that a server enters before its first call and leaves after its last,
            once for each server: `contextlib.asynccontextmanager` over a function that opens what the handlers need,
            and yields it. They have it as `current_call().state`. Where it ends before that (a task group of its
            own fails, say), this is logged as an error and counted, `serve_forever` drains, and closing the server
            raises what it raised.

    Raises:
        ValueError: The name is not made of identifiers, or is reserved.
        TypeError: The name or the version is no text, or the lifespan no function.
        UsageError: The object does not match the interface, or has nothing to serve; the message names the difference.
    """

    def __init__(
        self,
        name: str,
        implementation: object | None = None,
        *,
        interface: type | None = None,
        version: str = "0.0.0",
        lifespan: Lifespan | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a service's name is text; got {name!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"a service's name is made of ASCII identifiers joined by dots; got {name!r}")
        if name.partition(".")[0] == RESERVED:
            raise ValueError(f"the name {RESERVED!r} is reserved for what every server answers: ping, info, ...")
        if not isinstance(version, str):
            raise TypeError(f"a version is text; got {version!r}")
        anything: object = lifespan
        made = hasattr(anything, "__aenter__") and not isinstance(anything, type)
        if anything is not None and (made or not callable(anything)):
            hint = ": give the function itself, without calling it" if made else ""
            raise TypeError(f"a lifespan is a function that gives an async context manager; got {lifespan!r}{hint}")
        self._set_up(name, version, lifespan)
        if implementation is None:
            if interface is not None:
                raise UsageError(f"Service({name!r}, implementation, interface=...): the implementation is missing")
            return
        for method in implemented(implementation, interface):
            self._register(method.handler, method.name, method.options)

    def _set_up(self, name: str, version: str, lifespan: Lifespan | None) -> None:
        self.name = name
        self.version = version
        self.lifespan = lifespan
        self._methods: dict[str, Method] = {}
        self.servers: WeakSet[Any] = WeakSet()  # that serve it now, with the methods that it had when they began

    @classmethod
    def reserved(cls, version: str, implementation: object) -> Self:
        """The service under the reserved name."""
        service = cls.__new__(cls)
        service._set_up(RESERVED, version, None)
        for method in implemented(implementation, None):
            service._register(method.handler, method.name, method.options)
        return service

    def __repr__(self) -> str:
        return f"<aiozpat.Service {self.name} {self.version}: {', '.join(self._methods) or 'no methods yet'}>"

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods registered so far."""
        return tuple(self._methods.values())

    @overload
    def method(self, handler: F, /) -> F: ...

    @overload
    def method(
        self,
        /,
        *,
        name: str | None = ...,
        idempotent: bool = ...,
        max_concurrency: int | None = ...,
        max_queued: int = ...,
    ) -> Callable[[F], F]: ...

    def method(
        self,
        handler: F | None = None,
        /,
        *,
        name: str | None = None,
        idempotent: bool = False,
        max_concurrency: int | None = None,
        max_queued: int = MAX_QUEUED,
    ) -> F | Callable[[F], F]:
        """Register a function as a method; used as a decorator, with or without arguments.

        A coroutine function runs as one task a call; a plain function in a worker thread. An async generator streams
        what it yields; a parameter that is an `AsyncIterator[T]` takes a stream from the client. The function itself
        is returned unchanged. A server serves what is registered when its block is entered; while it does, nothing more
        can be.

        Args:
            handler: The function; each parameter's annotation is its schema. What is decoded without a type (`Any`, and
                structures that hold buffers) can be made to take seconds: for strangers, write the types out. So can
                sets of tuples and dicts that have tuples for keys, by such as have all the same hash, and by JSON those
                of ints: bound them (`Annotated[set[tuple[int, int]], msgspec.Meta(max_length=100)]`, which dicts take,
                too), or take lists. A buffer for which no type was asked is bytes, but a view where it is large and in
                a field of a class. Of attrs, validators run on what arrives, and converters don't. Where a value has
                no type, a `msgspec.Raw` in it is sent as it is: one that is no MessagePack ends the session.
            name: The method's name; the function's by default.
            idempotent: Whether running it twice does no more than once, so that a client's `Retry` may try it again.
            max_concurrency: How many calls of it run at once, on one server; `None` leaves it to the server's limit.
            max_queued: How many more wait for their turn; past both, a call is refused with `ResourceExhausted`.

        Raises:
            UsageError: The function can't be a method, the message says why; or a server serves the service already.
        """
        options = MethodOptions(idempotent=idempotent, max_concurrency=max_concurrency, max_queued=max_queued)

        def register(function: F) -> F:
            self._register(function, name, options)
            return function

        return register if handler is None else register(handler)

    def _register(self, handler: Callable[..., Any], name: str | None, options: MethodOptions) -> None:
        handler = _function_of(self.name, handler)
        short = name if name is not None else getattr(handler, "__name__", "")
        if not isinstance(short, str) or not short.isidentifier():
            hint = ": give it name=" if name is None else ""
            raise UsageError(f"a method's name is an identifier; got {short!r}{hint}")
        full = f"{self.name}.{short}"
        if self.servers:
            raise UsageError(f"{full}: a server serves {self.name!r} already, without it: register it before its block")
        if short in self._methods:
            raise UsageError(f"{full} is registered already")
        try:
            if options.max_concurrency is not None:
                whole_number(f"{full}: max_concurrency", options.max_concurrency)
            whole_number(f"{full}: max_queued", options.max_queued, least=0)
            flag(f"{full}: idempotent", options.idempotent)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from None
        signature = signature_of(full, handler)
        try:
            if signature.stream_at is not None:
                ItemDecoder(signature.sends)
        except TYPE_ERRORS as error:
            raise UsageError(f"{full}: the items that it takes can't be decoded: {error}") from error
        self._methods[short] = Method(
            name=full,
            handler=handler,
            signature=signature,
            params=Params(full, signature.parameters),
            is_async=signature.replies or inspect.iscoroutinefunction(handler),
            options=options,
        )


def _function_of(service: str, given: Any) -> Callable[..., Any]:
    """The function that is given as a method."""
    if isinstance(given, classmethod):
        raise UsageError(f"{service}: {given!r} has no class here: mark it with aiozpat.method, and serve an object")
    if not inspect.isroutine(given):
        raise UsageError(f"{service}: {not_a_function('service.method', given)}")
    function: Callable[..., Any] = inner(given)
    return function
