"""Streams as a client uses them: items that arrive, items that are sent, and the block that ends both."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
import warnings
from collections import deque
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from aiozpat.checks import LONGEST
from aiozpat.codec import Raw
from aiozpat.errors import Cancelled, Closed, DeadlineExceeded, RpcError, Unimplemented, UsageError
from aiozpat.protocol.records import Opening
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.current import current_job
from aiozpat.rpc.flows import DecodesItems, Outbound, pump
from aiozpat.rpc.interceptors import ClientCall, ClientInterceptor, chain
from aiozpat.rpc.pending import Decodes, NeverRan, StreamCall, of_a_call

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("aiozpat.client")
_monotonic = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a stream is opened with.

    Attributes:
        method: The full name.
        params: By position or by name.
        source: The items to send, where an iterator gives them.
        sends: Whether this side sends items.
        window: Units that the server may be ahead; 0 where a result is wanted, no items.
        timeout: Seconds for all of it, infinite if there is no limit.
        idle: Seconds to wait for an item at most.
        items: Decodes the items.
        result: Decodes the result.
        metadata: Text by name.
        wait_for_ready: As for `Client.call`.
        interceptors: The client's.
    """

    method: str
    params: Any
    source: AsyncIterable[Any] | None
    sends: bool
    window: int
    timeout: float
    idle: float
    items: DecodesItems
    result: Decodes
    metadata: Mapping[str, str] | None
    wait_for_ready: bool | None
    interceptors: Sequence[ClientInterceptor]


class NoResult:
    """In the place of a result's decoder, where items are wanted: there is none to decode.

    Args:
        method: The full name, for messages.
    """

    __slots__ = ("_method",)

    def __init__(self, method: str) -> None:
        self._method = method

    def plain(self, raw: Raw) -> Any:
        """Say so."""
        raise Unimplemented(f"{self._method} gives one result, and streams no items: use call() or open()")

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> Any:
        """Say so."""
        return self.plain(raw)


class Opener(Protocol):
    """What a stream needs of its client."""

    streams: int

    async def connection(self, deadline: float, wait: bool | None) -> Connection:
        """A connection that takes calls, waited for if need be."""

    def after(self, signal: NeverRan, wait: bool | None) -> RpcError | None:
        """Why a call did not run, unless another session may take it."""


class Stream(Generic[T]):
    """Items that a method yields, as they come; made by `Client.stream`.

    A block: leaving it, in whatever way, ends the call on the server too. Inside it, `async for` gives the items in
    order. Cancelling a waiting read loses none. A consumer that is slow stops the producer, which is never further
    ahead than the window. One task reads at a time; a second one gets `UsageError`.
    """

    _pending: StreamCall | None = None  # of the class too: __del__ runs even if __init__ raised
    _left = False
    _opens_again = False

    def __init__(self, client: Opener, request: StreamRequest) -> None:
        self._client = client
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._pump: asyncio.Task[None] | None = None
        self._around: asyncio.Future[Any] | None = None
        self._over: asyncio.Future[None] | None = None  # what the interceptors wait for: the last of its calls
        self._deadline = math.inf

    def __repr__(self) -> str:
        state = "left" if self._left else "open" if self._pending is not None else "new"
        return f"<aiozpat.{type(self).__name__} of {self._request.method}, {state}>"

    def __del__(self) -> None:
        pending = self._pending
        if pending is not None and not self._left:
            if not pending.future.done():
                warnings.warn(f"{self!r} was left open; use `async with`", ResourceWarning, source=self, stacklevel=1)
            self.drop()

    @property
    def opened(self) -> bool:
        """Whether it was entered, and its call sent."""
        return self._pending is not None or self._left

    def drop(self) -> None:
        """End the call, from whichever thread collects garbage; for who can't wait."""
        connection, pending, over = self._connection, self._pending, self._over
        if not self._left and connection is not None and pending is not None:
            refused = over is not None and not over.done() and pending.future.done()  # and nobody makes it again
            connection.abandon_threadsafe(pending, self._pump, self._around if refused else None)
        self._left = True

    def _check_loop(self) -> None:
        """See to it that it is used where it was made: elsewhere, nobody would wake who waits."""
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; use it there")

    async def __aenter__(self) -> Self:
        self._check_loop()
        if self.opened:
            raise UsageError(f"{self!r} was entered before; make a new one")
        now = _monotonic()
        self._deadline = now + self._request.timeout
        job = current_job()
        if job is not None:
            self._deadline = min(self._deadline, job.deadline)
        if self._request.interceptors:
            connection, pending = await self._open_around()
        else:
            connection, pending = await self._open()
        source = self._request.source
        if source is not None:
            self._pump = asyncio.create_task(_send_all(source, connection, pending))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._check_loop()
        self._left = True
        connection, pending = self._connection, self._pending
        if connection is None or pending is None:
            return
        closed = Closed(f"the block of this stream of {self._request.method} was left")
        connection.fail(pending, closed)
        if pending.inbound is not None:
            pending.inbound.leave(closed)
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait({self._pump})
        if self._around is not None and self._over is not None:
            pending.future.add_done_callback(partial(_pass_on, self._over, True))  # even if it never ran
            await asyncio.wait({self._around})
            if not self._around.cancelled() and (failure := self._around.exception()) is not None:
                own = self._over.cancelled() or failure is not self._over.exception()
                level = logging.WARNING if own else logging.DEBUG  # nobody else gets it
                _log.log(level, "an interceptor of %s ended with %r", self._request.method, failure)

    async def _open_around(self) -> tuple[Connection, StreamCall]:
        """Send the call through the interceptors, which then last as long as the call; in a task of their own."""
        request = self._request
        seen = ClientCall(request.method, request.params, request.metadata, streams=True)
        sent: asyncio.Future[tuple[Connection, StreamCall]] = asyncio.get_running_loop().create_future()
        self._over = over = asyncio.get_running_loop().create_future()
        holder = [self]  # emptied: who drops a stream ends it, so its interceptors' task must not refer to it

        async def last() -> None:
            if not holder:
                raise UsageError(f"an interceptor of {request.method} has awaited proceed() twice; a stream opens once")
            stream = holder.pop()
            stream._request = dataclasses.replace(stream._request, metadata=seen.metadata or None)
            connection, pending = await stream._open()
            del stream
            sent.set_result((connection, pending))
            try:
                await asyncio.shield(over)
            except Closed:
                _log.debug("%s: its block was left, which is no failure", request.method)

        self._around = asyncio.ensure_future(chain(request.interceptors, seen, last)())
        self._around.add_done_callback(_look_at)
        either: set[asyncio.Future[Any]] = {sent, self._around}
        left = min(self._deadline - _monotonic(), request.idle, LONGEST)
        try:
            done, _ = await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done and not holder:  # it waits for a connection, which has its own time
                left = min(request.idle, LONGEST)
                done, _ = await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise of_a_call(
                    DeadlineExceeded(f"{request.method}: an interceptor took all the time there was to open it")
                )
            if not sent.done():
                try:
                    await self._around
                except RpcError as error:
                    error.from_call = True
                    raise
                raise UsageError(
                    f"an interceptor of {request.method} did not await proceed(), or kept what that raised"
                )
        except BaseException:
            holder.clear()  # an interceptor that is cancelled, and proceeds all the same, opens nothing
            self._around.cancel()
            if self._connection is not None and self._pending is not None:  # in this very moment
                self._left = True
                self._connection.fail(self._pending, Closed(f"this stream of {request.method} was cancelled"))
            raise
        return sent.result()

    async def _open(self, by: float = math.inf) -> tuple[Connection, StreamCall]:
        """Send the call, by that time at the latest."""
        request = self._request
        opening = Opening(
            request.window, request.sends, 0 if request.idle == math.inf else max(1, round(request.idle * 1000))
        )
        try:
            until = min(self._deadline, _monotonic() + request.idle, by)
            connection = await self._client.connection(until, request.wait_for_ready)
            if self._left:  # by another task, while a reader waited for a session
                raise Closed(f"the block of this stream of {request.method} was left")
            self._pending = connection.open(
                request.method,
                request.params,
                self._deadline,
                request.result,
                request.metadata,
                opening,
                request.items,
            )
            self._connection = connection
        except RpcError as error:
            raise of_a_call(error) from None
        if self._over is not None:
            self._pending.future.add_done_callback(partial(_pass_on, self._over, request.sends))
        self._client.streams += 1
        return connection, self._pending

    def __aiter__(self) -> Self:
        if not self._request.window:
            raise UsageError(f"{self._request.method} was opened for a result; it gives no items")
        return self

    async def __anext__(self) -> T:
        pending = self._pending
        if pending is None or pending.inbound is None:
            if self._left:
                raise Closed(f"the block of {self!r} was left")
            raise UsageError("the items of a stream are read inside its block: async with client.stream(...) as items")
        current: deque[T] = pending.inbound.current
        if len(current) > 1:
            return current.popleft()
        self._check_loop()
        by = math.inf
        while True:
            try:
                return cast("T", await pending.inbound.advance())
            except NeverRan as signal:
                by = min(by, _monotonic() + self._request.idle)  # of all that turn it away together
                pending = await self._again(signal, by)
            except RpcError as error:
                if self._connection is not None:
                    self._connection.fail(pending, error)  # nothing came in time: so the call is over
                raise of_a_call(error) from None

    async def _again(self, signal: NeverRan, by: float) -> StreamCall:
        """The call did not run: open it on another session, unless items were sent, which nobody kept."""
        if self._request.sends:
            raise of_a_call(signal)
        reason = self._client.after(signal, self._request.wait_for_ready)
        if reason is not None:
            raise of_a_call(reason)
        if self._opens_again:
            raise UsageError(f"{self._request.method}: another task reads this stream already")
        self._opens_again = True
        try:
            return (await self._open(by))[1]
        finally:
            self._opens_again = False


class Conversation(Stream[T], Generic[T, R]):
    """Items in both directions, or to the server with one result; made by `Client.open`.

    One task may read while others send; those that send wait in turn.
    """

    _ended = False

    def __init__(self, client: Opener, request: StreamRequest) -> None:
        super().__init__(client, request)
        self._turn = asyncio.Lock()
        self._in_line = 0  # tasks that send, and could not do so at once

    async def send(self, item: Any) -> None:
        """Send an item, as soon as the server's handler is not too far behind.

        There is no time limit for that but the conversation's `timeout`: a handler may wait for this side to read.
        Cancelled while it waits, nothing was sent.

        Raises:
            RpcError: The call has ended, in this way.
            InvalidArgument: The item can't be encoded.
            ResourceExhausted: It is larger than the server takes.
            Closed: The call has ended well, or `end` was called, even while this waited, or the block was left.
        """
        _, outbound, future = self._sending()
        try:
            if outbound.ready and not self._in_line and not self._ended:
                outbound.put(item)
            else:
                await self._send_in_turn(item, outbound, future)
        except RpcError as error:
            error.from_call = True
            raise

    async def _send_in_turn(self, item: Any, outbound: Outbound, future: asyncio.Future[Any]) -> None:
        self._in_line += 1
        try:
            async with self._turn:
                if not self._ended:
                    await outbound.wait()
                self._check_open(outbound, future)
                outbound.put(item)
        finally:
            self._in_line -= 1

    def _check_open(self, outbound: Outbound, future: asyncio.Future[Any]) -> None:
        """Raise why nothing can be sent any more, if so."""
        if self._ended:
            raise Closed(f"end() was called on this conversation with {self._request.method}")
        if outbound.flow.ended:
            error = future.exception() if future.done() else None
            if error is not None:
                raise of_a_call(error)
            raise Closed(f"{self._request.method} has ended; nothing can be sent any more")

    async def end(self) -> None:
        """Say that no more items come; the handler's iteration ends after those sent. Ending twice is harmless."""
        connection, outbound, _ = self._sending()
        if not self._ended and self._pending is not None:
            self._ended = True
            outbound.stop()
            connection.end_items(self._pending)

    def _sending(self) -> tuple[Connection, Outbound, asyncio.Future[Any]]:
        """What is needed to send."""
        connection, pending = self._connection, self._pending
        if connection is None or pending is None or pending.outbound is None:
            raise UsageError("a conversation is used inside its block: async with client.open(...) as conversation")
        self._check_loop()
        return connection, pending.outbound, pending.future

    async def result(self) -> R:
        """Wait for the result, for methods that give one; None where the answer was a stream, at its end.

        A stream's items are to be read first: with as many unread as `window` allows, it does not end. There is no time
        limit for it but the conversation's `timeout`. Cancelled, it may be waited for again.

        Raises:
            RpcError: As for `Client.call`.
            UsageError: Outside the block.
        """
        pending = self._pending
        if pending is None:
            raise UsageError("the result of a call is waited for inside its block: async with client.open(...)")
        self._check_loop()
        try:
            result: R = await asyncio.shield(pending.future)
        except (NeverRan, RpcError) as error:
            raise of_a_call(error) from None
        return result


def _look_at(around: asyncio.Future[Any]) -> None:
    """See what interceptors raised, or asyncio would complain of it: who reads the stream has had it, or is gone."""
    if not around.cancelled():
        around.exception()


def _pass_on(over: asyncio.Future[None], last: bool, call: asyncio.Future[Any]) -> None:
    """Tell a stream's interceptors how its call has ended; not that it never ran, unless it was the last one."""
    error = call.exception()
    if over.done() or (isinstance(error, NeverRan) and not last):
        return
    if error is None:
        over.set_result(None)
    else:
        over.set_exception(of_a_call(error))
        over.exception()  # nobody may wait for it


def source_of(params: Any) -> tuple[Any, AsyncIterable[Any] | None]:
    """Params by position or by name, without the async iterator among them; and that.

    Raises:
        UsageError: There are several.
    """
    named = params.items() if isinstance(params, dict) else enumerate(params)
    sources = {name: value for name, value in named if isinstance(value, AsyncIterable)}
    if not sources:
        return params, None
    if len(sources) > 1:
        raise UsageError("a call takes one stream from the client; several iterators were given")
    if isinstance(params, dict):
        rest: Any = {name: value for name, value in params.items() if name not in sources}
    else:
        rest = tuple(value for number, value in enumerate(params) if number not in sources)
    return rest, next(iter(sources.values()))


async def _send_all(source: AsyncIterable[Any], connection: Connection, pending: StreamCall) -> None:
    """Send what an iterator gives; an exception of its own ends the call, and reaches who waits for its answer."""
    if pending.outbound is None:
        return
    try:
        await pump(source, pending.outbound)
        connection.end_items(pending)
    except asyncio.CancelledError:
        # By who leaves the block, after it has ended the call; or else it is the iterator's own.
        connection.fail(pending, Cancelled(f"the iterator that was given to {pending.method} was cancelled"))
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # of a class of the user's, too: the caller would wait until its deadline
        if pending.future.done():  # nobody gets it
            _log.warning(
                "the iterator that was given to %s failed after the call had ended", pending.method, exc_info=error
            )
        connection.fail(pending, error)
