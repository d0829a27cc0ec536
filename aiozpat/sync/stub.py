"""Stubs for threads: an interface's methods as calls that block."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aiozpat.errors import Closed
from aiozpat.rpc import streams as rpc
from aiozpat.rpc.interface import InterfaceMethod
from aiozpat.rpc.stub import Arguments, StubOptions, stub_of
from aiozpat.sync.background import Lease
from aiozpat.sync.sources import Source
from aiozpat.sync.streams import Stream

if TYPE_CHECKING:
    from aiozpat.sync.client import Client

T = TypeVar("T")


def make_stub(client: Client, interface: type[T], service: str | None, options: StubOptions) -> T:
    """As `aiozpat.rpc.stub.make_stub`, for calls that wait."""

    def caller(declared: InterfaceMethod, method: str) -> Callable[..., Any]:
        return _caller(client, declared, method, options)

    return stub_of(client, interface, service, caller)


def _caller(client: Client, declared: InterfaceMethod, method: str, options: StubOptions) -> Callable[..., Any]:
    """The function that stands for one method."""
    arguments = Arguments(method, declared)
    takes = declared.signature.stream_at
    result = declared.signature.result
    idempotent = declared.options.idempotent

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
        """As `Arguments.bind`; what is sent item by item may be any iterable."""
        args, params = arguments.bind(args, kwargs)
        if takes is not None and params is not None:
            name = arguments.names[takes]
            if name in params:
                params[name] = Source(params[name])
        elif takes is not None and takes < len(args):
            args = (*args[:takes], Source(args[takes]), *args[takes + 1 :])
        return args, params

    def call(*args: Any, **kwargs: Any) -> Any:
        args, params = bind(args, kwargs)
        return client.call(method, *args, params=params, result_type=result, idempotent=idempotent, **options.calls)

    def stream(*args: Any, **kwargs: Any) -> StubStream[Any]:
        args, params = bind(args, kwargs)
        return StubStream.of(client.stream(method, *args, params=params, item_type=result, **options.streams))

    caller = stream if declared.signature.replies else call
    functools.update_wrapper(caller, declared.function)
    return caller


class StubStream(Stream[T]):
    """The items of a stub's stream method: an iterator that opens at the first item, and ends when it is dropped.

    `with` ends it at a certain moment, as for `Stream`; so does `close`, and `contextlib.closing` with it.
    """

    _used_up = False

    def __init__(self, lease: Lease, method: str, make: Callable[[], rpc.Stream[Any]]) -> None:
        super().__init__(lease, method, make)
        self._opening = threading.Lock()

    @classmethod
    def of(cls, stream: Stream[T]) -> StubStream[T]:
        """The same as another, which is new."""
        return cls(stream._lease, stream._method, stream._make)

    def __next__(self) -> T:
        if self._used_up:
            raise StopIteration
        if self._stream is None:
            with self._opening:  # two threads may read it
                self._open_once()
        try:
            return super().__next__()
        except StopIteration:
            self._used_up = True
            self.close()
            raise
        except Closed:
            if self._used_up:  # by another thread, just now
                raise StopIteration from None
            raise

    def _open_once(self) -> None:
        if self._stream is None and not self._left:
            self.__enter__()

    def close(self) -> None:
        """End the stream, here and on the server."""
        self._leave()

    def __del__(self) -> None:
        self._drop()
