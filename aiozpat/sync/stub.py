"""Stubs for threads: how their arguments become params, and their streams of replies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from aiozpat.errors import Closed
from aiozpat.rpc import streams as rpc
from aiozpat.rpc.interface import InterfaceMethod
from aiozpat.rpc.stub import Arguments, Bound
from aiozpat.sync.background import Lease
from aiozpat.sync.sources import Source
from aiozpat.sync.streams import Stream

T = TypeVar("T")


class IterableArguments(Arguments):
    """How a stub's arguments become params, where what is sent item by item may be any iterable."""

    def __init__(self, method: str, declared: InterfaceMethod) -> None:
        super().__init__(method, declared)
        self._takes = declared.signature.stream_at

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        """As `Arguments.bind`."""
        args, params = super().bind(args, kwargs)
        takes = self._takes
        if takes is not None and params is not None:
            name = self.names[takes]
            if name in params:
                params[name] = Source(params[name])
        elif takes is not None and takes < len(args):
            args = (*args[:takes], Source(args[takes]), *args[takes + 1 :])
        return args, params


class StubStream(Stream[T]):
    """The items of a stub's stream method: an iterator that opens at the first item, and ends when it is dropped.

    `with` ends it at a certain moment, as for `Stream`; so does `close`, and `contextlib.closing` with it.
    """

    _used_up = False
    _closed = False

    def __init__(self, lease: Lease, method: str, make: Callable[[], rpc.Stream[Any]]) -> None:
        super().__init__(lease, method, make)
        self._opening = threading.Lock()

    @classmethod
    def of(cls, stream: Stream[T]) -> StubStream[T]:
        """The same as another, which is new."""
        return cls(stream._lease, stream._method, stream._make)

    def __next__(self) -> T:
        if self._used_up or self._closed:
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
        self._closed = True
        self._leave()

    def __del__(self) -> None:
        self._drop()
