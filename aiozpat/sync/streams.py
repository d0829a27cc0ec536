"""Streams as threads use them: blocks that give plain iterators."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from aiozpat.errors import Closed, UsageError
from aiozpat.rpc import streams as rpc
from aiozpat.sync.background import Lease

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S", bound=rpc.Stream[Any])


class _Block(Generic[T, S]):
    """What streams and conversations have in common.

    Args:
        lease: The client's hold on the loop.
        method: The full name, for messages.
        make: Makes the stream, on the loop.
    """

    _stream: S | None = None  # of the class too: __del__ runs even if __init__ raised
    _left = False

    def __init__(self, lease: Lease, method: str, make: Callable[[], S]) -> None:
        self._lease = lease
        self._method = method
        self._make = make
        self._items: deque[T] = deque()  # that have come, all of one message
        self._reading = asyncio.Lock()  # on the loop: an interrupted read takes a moment to be over there

    def __repr__(self) -> str:
        state = "left" if self._left else "open" if self._stream is not None else "new"
        return f"<aiozpat.sync.{type(self).__name__} of {self._method}, {state}>"

    def __del__(self) -> None:
        if self._drop():
            warnings.warn(f"{self!r} was left open; use `with`", ResourceWarning, source=self, stacklevel=1)

    def _drop(self) -> bool:
        """End the call, from whichever thread collects garbage; whether there was one to end."""
        stream = self._stream
        if stream is None or self._left or self._lease.over or self._lease.forked:
            return False
        pending = stream._pending
        there_was = pending is not None and not pending.future.done()
        stream.drop()
        return there_was

    def __enter__(self) -> Self:
        if self._stream is not None or self._left:
            raise UsageError(f"{self!r} was entered before; make a new one")
        try:
            self._lease.run(self._open)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    async def _open(self) -> None:
        self._stream = self._make()
        await self._stream.__aenter__()

    def _leave(self) -> None:
        try:
            self._left = True
            self._items.clear()
            if self._lease.forked:
                return
            with contextlib.suppress(Closed):  # the client is closed, and with it all its streams
                self._lease.run(self._close)
        except BaseException:
            if self._stream is not None:  # interrupted: the loop may not have come to it
                self._stream.drop()
            raise

    async def _close(self) -> None:
        if self._stream is not None:
            await self._stream.__aexit__(None, None, None)

    def _opened(self) -> S:
        """The stream, inside its block."""
        if self._left:
            raise Closed(f"the block of {self!r} was left")
        if self._stream is None:
            raise UsageError(f"{self!r} is used inside its block: with client.stream(...) as items")
        return self._stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                self._opened()
            if not self._lease.run(self._fetch):
                raise StopIteration

    async def _fetch(self) -> bool:
        """Take the next item, and all that came with it: a way to the loop and back costs more than many items.

        They go into the queue here, on the loop, so that a thread that is interrupted loses none. False at the end.
        """
        async with self._reading:
            if self._items:
                return True  # another thread has fetched
            stream = self._opened()
            try:
                self._items.append(await anext(stream))
            except StopAsyncIteration:
                return False
            pending = stream._pending
            if pending is not None and pending.inbound is not None:
                # The sender is credited for them when the next are asked for, or an item is sent.
                self._items.extend(pending.inbound.current)
                pending.inbound.current.clear()
            return True


class Stream(_Block[T, rpc.Stream[Any]]):
    """Items that a method yields, as they come; made by `Client.stream`.

    A block: leaving it, in whatever way, ends the call on the server too. Inside it, `for` gives the items in order.
    Interrupting a waiting read loses none. A consumer that is slow stops the producer, which is never further ahead
    than the window. Several threads may read one stream: each item goes to one of them.
    """


class Conversation(_Block[T, rpc.Conversation[Any, Any]], Generic[T, R]):
    """Items in both directions, or to the server with one result; made by `Client.open`.

    One thread may send while another reads; several may do either.
    """

    def send(self, item: Any) -> None:
        """Send an item, as soon as the server's handler is not too far behind.

        Interrupted while it waits, it may have been sent or not.

        Raises:
            RpcError: The call has ended, in this way.
            InvalidArgument: The item can't be encoded.
            ResourceExhausted: It is larger than the server takes.
            Closed: The call has ended well, or `end` was called, or the block was left.
        """
        self._do(lambda stream: stream.send(item))

    def end(self) -> None:
        """Say that no more items come; the handler's iteration ends after those sent. Ending twice is harmless."""
        self._do(lambda stream: stream.end())

    def result(self) -> R:
        """Wait for the result, for methods that give one; None where the answer was a stream, at its end.

        A stream's items are to be read first: with as many unread as `window` allows, it does not end. There is no time
        limit for it but the conversation's `timeout`.

        Raises:
            RpcError: As for `Client.call`.
        """
        value: R = self._do(lambda stream: stream.result())
        return value

    def _do(self, act: Callable[[rpc.Conversation[Any, Any]], Coroutine[Any, Any, Any]]) -> Any:
        """Do something with the conversation, on the loop."""
        stream = self._opened()

        async def do() -> Any:
            pending = stream._pending
            if pending is not None and pending.inbound is not None and not self._items:
                pending.inbound.credit()  # all were handed out: the handler may wait for that, and this for the handler
            return await act(stream)

        return self._lease.run(do)
