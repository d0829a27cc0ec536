"""Plain iterators among the params of a call: each is pulled in a thread of its own, and sent item by item."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from aiozpat.checks import named
from aiozpat.errors import UsageError
from aiozpat.sync.handoff import Mailbox

T = TypeVar("T")

_AHEAD = 64  # items that are pulled before they are asked for: as many as a server takes ahead of its handler
_PLAIN = frozenset({bool, bytes, bytearray, dict, float, int, list, memoryview, set, str, tuple, type(None)})


@dataclass(frozen=True, slots=True)
class _End:
    """What follows the last item."""

    error: BaseException | None


class Source(Generic[T]):
    """An iterator that blocks, as an async one.

    Args:
        items: What is pulled, in a thread, in the context of who makes this. A generator is closed in that thread too,
            as soon as its `next` has returned.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._context = copy_context()
        self._room = threading.Semaphore(_AHEAD)
        self._closed = False
        self._end: _End | None = None
        self._mailbox: Mailbox[T | _End] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._mailbox is None:
            self._mailbox = self._begin()
        things = self._mailbox.things
        while not things and self._end is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._end is None:
            thing = things.popleft()
            if not isinstance(thing, _End):
                self._room.release()
                return thing
            self._end = thing
        raise StopAsyncIteration if self._end.error is None else _presentable(self._end.error)

    async def aclose(self) -> None:
        """Pull no more."""
        self._closed = True
        self._room.release()

    def _begin(self) -> Mailbox[T | _End]:
        mailbox: Mailbox[T | _End] = Mailbox(asyncio.get_running_loop(), self._wake)
        thread = threading.Thread(
            target=self._context.run, args=(self._pull, mailbox), name="aiozpat-sync-source", daemon=True
        )
        thread.start()
        return mailbox

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pull(self, mailbox: Mailbox[T | _End]) -> None:
        """The thread."""
        try:
            end = _End(self._pull_all(mailbox))
            mailbox.put(end)
        except RuntimeError:
            return  # the loop is closed, and nobody there to be told

    def _pull_all(self, mailbox: Mailbox[T | _End]) -> BaseException | None:
        """Pull until the end, or until nobody wants more; gives what the iterator raised."""
        try:
            iterator = iter(self._items)
            try:
                while self._room.acquire() and not self._closed:
                    try:
                        item = next(iterator)
                    except StopIteration:
                        break
                    mailbox.put(item)
            finally:
                if isinstance(iterator, Generator):  # a file, say, is its owner's to close
                    iterator.close()
        except BaseException as error:
            return error
        return None


def _presentable(error: BaseException) -> Exception:
    """An exception that may pass through an event loop: some would stop it, or pass for an end."""
    if isinstance(error, Exception) and not isinstance(error, StopAsyncIteration):
        return error
    failure = UsageError(f"the iterator that was given raised {error!r}")
    failure.__cause__ = error
    return failure


def sources_in(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Params by position, the plain iterators among them ready to be sent."""
    for value in args:
        if type(value) not in _PLAIN:
            return tuple(as_source(value) for value in args)
    return args


def named_sources_in(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The same of params by name."""
    return None if params is None else {name: as_source(value) for name, value in named(params).items()}


def as_source(value: Any) -> Any:
    """A value as it is, unless it is an iterator."""
    return Source(value) if type(value) not in _PLAIN and isinstance(value, Iterator) else value
