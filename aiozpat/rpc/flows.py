"""Both ends of a stream's flow, as clients and servers use them: items that are sent, and items that arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Sequence
from contextvars import Context
from typing import Any, Generic, Protocol, Self, TypeVar

from aiozpat.codec import BUFFER_TYPES, ENCODE_ERRORS, Raw, Values, described, extract, is_large, pack, pack_rich
from aiozpat.errors import DeadlineExceeded, InvalidArgument, ProtocolError, ResourceExhausted, UsageError
from aiozpat.protocol.flow import JOIN_BYTES, MAX_WINDOW, ReceiveFlow, SendFlow, credit_record
from aiozpat.protocol.outbox import Outbox
from aiozpat.protocol.records import BUFFER_THRESHOLD, RECORD_BYTES, Buffer, Item, array_length
from aiozpat.rpc.buffers import check_buffers
from aiozpat.rpc.turns import Turns

T = TypeVar("T")

_ITEM_BYTES = RECORD_BYTES - JOIN_BYTES


class DecodesItems(Protocol):
    """`ItemDecoder`, of whichever codec."""

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> tuple[list[Any], BaseException | None]:
        """The items, those before the first that is not of the type if there is one; and what is wrong with that."""


class Link(Protocol):
    """What a stream knows of its session."""

    outbox: Outbox
    turns: Turns
    peer_buffer_bytes: int
    values: Values | None  # of a codec that is not MessagePack

    def post(self) -> None:
        """Something was put into the outbox."""

    def push(self) -> None:
        """Enough for a message was."""

    def drain(self) -> bool:
        """Take what has arrived, before time is called; False if there is more than can be taken at once."""


class Outbound:
    """Sends items.

    Args:
        link: The session.
        flow: The stream's credit, and what waits to be sent.
        what: The method, for messages.
        wrong: The error for an item that can't be encoded, from what to say and what it was.
    """

    __slots__ = ("_link", "_pack", "_stopped", "_turn", "_waiter", "_what", "_wrong", "flow")

    def __init__(
        self,
        link: Link,
        flow: SendFlow,
        what: str,
        wrong: Callable[[str, Exception], Exception] = lambda message, _: InvalidArgument(message),
    ) -> None:
        self._link = link
        self._wrong = wrong
        self.flow = flow
        self._what = what
        self._pack = pack if link.values is None else link.values.pack
        self._stopped = False
        self._turn = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether an item may be made now: not before others that wait for their turn."""
        turns = self._link.turns
        return self.flow.room and turns.room and (not turns.waiting or self._turn)

    async def wait(self) -> None:
        """Wait until an item may be made, the call is over, or `stop` was called."""
        if self._waiter is not None:
            raise UsageError(f"{self._what}: another task sends on this stream already")
        turns = self._link.turns
        try:
            while not (self.ready or self._stopped or self.flow.ended):
                if self.flow.room:
                    turns.enter(self)
                else:
                    turns.leave(self)  # what a record's bytes cost shows when it is made
                self._turn = False
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        finally:
            self._waiter = None
            self._turn = False
            turns.leave(self)

    def put(self, value: Any) -> bool:
        """Encode an item and queue it, nothing if the call is over; whether another one may be made now.

        Raises:
            RpcError: It can't be encoded.
            ResourceExhausted: It is larger than the other side takes.
        """
        flow = self.flow
        if flow.ended:
            return False
        kind = type(value)
        if kind in BUFFER_TYPES and (kind is memoryview or len(value) >= BUFFER_THRESHOLD) and self._put_large(value):
            return self.ready
        try:
            data = self._pack(value)
        except ENCODE_ERRORS as error:
            rich = self._pack_rich(value, error)
            if rich is None:
                return self.ready
            data = rich
        nbytes = len(data)
        if nbytes > _ITEM_BYTES:
            raise ResourceExhausted(
                f"{self._what}: an item of {nbytes} bytes is over the limit of {_ITEM_BYTES}; large data as bytes, "
                "an item of its own, travels apart"
            )
        values = flow.values
        values.append(data)
        flow.nbytes = nbytes = flow.nbytes + nbytes
        count = len(values)
        if count == 1:
            self._link.outbox.begin(flow)
            self._link.post()
            if flow.values is not values:  # it was sent at once, or made a record that waits
                return self.ready
        if count < flow.most and nbytes < JOIN_BYTES:
            # Each seal begins a new first item, and others seal too: thousands of streams may come here at every one.
            return count > 1 or self._link.turns.room
        self._link.outbox.seal()
        self._link.push()
        return self.ready

    def _put_large(self, value: Any) -> bool:
        """Queue an item that travels as a buffer; False if it is none."""
        if self._link.values is not None or not is_large(value):
            return False
        buffers: list[Buffer] = []
        reference = pack(extract(value, buffers))
        self._put_apart(reference, buffers)
        return True

    def _pack_rich(self, value: Any, error: Exception) -> bytes | None:
        """Encode an item with types that MessagePack does not know; None if it was queued as buffers."""
        if self._link.values is not None:
            raise self._wrong(f"an item of {self._what} can't be encoded: {described(error)}", error) from error
        buffers: list[Buffer] = []
        try:
            data = pack_rich(value, buffers, copy=True)
        except ENCODE_ERRORS as worse:
            raise self._wrong(f"an item of {self._what} can't be encoded: {described(worse)}", worse) from worse
        if not buffers:
            return data
        self._put_apart(data, buffers)
        return None

    def _put_apart(self, data: bytes, buffers: list[Buffer]) -> None:
        """Queue an item that refers to buffers, in a record of its own."""
        check_buffers(f"{self._what}: an item", len(data), buffers, self._link.peer_buffer_bytes)
        record = self.flow.seal_large(data, len(buffers), sum(len(buffer) for buffer in buffers))
        self._link.outbox.append(record, buffers)
        self._link.post()

    def grant(self, units: int) -> None:
        """The other side takes so much more."""
        self.flow.grant(units)
        self.wake()

    def take_turn(self) -> None:
        """It is this stream's turn."""
        self._turn = True
        self.wake()

    def wake(self) -> None:
        """Look again whether an item may be made."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def stop(self) -> None:
        """No more items will be made: who waits to make one need not."""
        self._stopped = True
        self.wake()

    def end(self) -> None:
        """The call is over: nothing more is sent."""
        if not self.flow.ended:
            self.flow.ended = True
            self._link.outbox.drop(self.flow)
            self.wake()


async def pump(items: AsyncIterable[Any], outbound: Outbound) -> None:
    """Send what an iterator gives, as far as the other side's credit goes, until it ends or the call does."""
    put = outbound.put
    try:
        if not outbound.ready:  # the client may not read, and thousands of streams may each make one item
            await outbound.wait()
        async for item in items:
            if not put(item):
                await outbound.wait()
                if outbound.flow.ended:
                    break
    finally:
        close = getattr(items, "aclose", None)  # a generator has one, another iterator need not
        if close is not None:
            await close()


class Inbound(Generic[T]):
    """Items that arrive, as an async iterator.

    Args:
        link: The session.
        key: The call's id.
        window: Units that the sender may be ahead.
        decoder: Of the items.
        what: The method, for messages.
        idle: Seconds to wait for an item at most; 0 waits for as long as the call may last.
        wrong: The error for an item that is not of its type.
        on_wrong: Called with that error after such an item: the stream is of no use any more.

    Attributes:
        current: Items of the record that is read now.
        begun: Whether any item has come.
    """

    __slots__ = (
        "_cost",
        "_decoder",
        "_ended",
        "_error",
        "_flow",
        "_idle",
        "_key",
        "_link",
        "_on_wrong",
        "_records",
        "_waiter",
        "_what",
        "_wrong",
        "begun",
        "current",
    )

    def __init__(
        self,
        link: Link,
        key: int,
        window: int,
        decoder: DecodesItems,
        what: str,
        *,
        idle: float,
        wrong: Callable[[str], Exception],
        on_wrong: Callable[[Exception], None] | None = None,
    ) -> None:
        self.current: deque[T] = deque()
        self.begun = False
        self._link = link
        self._key = key
        self._flow = ReceiveFlow(window)
        self._decoder = decoder
        self._what = what
        self._idle = idle
        self._wrong = wrong
        self._on_wrong = on_wrong
        self._records: deque[tuple[deque[T], int]] = deque()
        self._cost = 0  # of the record that is read now
        self._ended = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<aiozpat stream of items of {self._what}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        current = self.current
        if len(current) > 1:
            return current.popleft()
        return await self.advance()

    async def advance(self) -> T:
        """The next item where it is the last of its record, or the first, which is waited for if need be."""
        while True:
            if self.current:
                item = self.current.popleft()
                if not self.current:
                    self.credit()
                return item
            self.credit()
            if self._records:
                self.current, self._cost = self._records.popleft()
            elif not self._ended:
                await self._wait()
            elif self._error is not None:
                raise self._error
            else:
                raise StopAsyncIteration

    def credit(self) -> None:
        """All items of the record that is read now are handed out: let the sender go on.

        At once, not when the next item is asked for: who has sent one for one would wait for each other, either side
        for the other's credit. By several records where one must not hold so many units, as after a very large item.
        """
        if not self._cost or self._ended:
            return
        units, self._cost = self._flow.consume(self._cost), 0
        if not units:
            return
        while units:
            part = min(units, MAX_WINDOW)
            units -= part
            self._link.outbox.control(credit_record(self._key, part))
        self._link.post()

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise UsageError(f"{self._what}: another task reads this stream already")
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        # Not in the reader's context: asyncio keeps timers that are cancelled, and with it a handler's params.
        timer = loop.call_later(self._idle, self._on_idle, waiter, context=Context()) if self._idle else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _on_idle(self, waiter: asyncio.Future[None]) -> None:
        # An item that has arrived while our own loop stood still is an item in time.
        if not self._link.drain() and not waiter.done():
            asyncio.get_running_loop().call_soon(self._on_idle, waiter)
        elif not waiter.done():
            waiter.set_exception(DeadlineExceeded(f"{self._what}: no item for {self._idle:g} seconds (idle_timeout)"))

    def feed(self, record: Item, buffers: Sequence[memoryview]) -> None:
        """Take the items of one record.

        Raises:
            ProtocolError: More than was granted, or no array.
        """
        view = memoryview(record.values)
        if not (0x90 <= view[0] <= 0x9F or view[0] in (0xDC, 0xDD)):
            raise ProtocolError("the items of a record are an array")
        count = array_length(view)
        if not count:
            raise ProtocolError("a record of items without an item")  # it would cost nothing
        nbytes = len(view) + sum(map(len, buffers))
        cost = self._flow.arrive(count, nbytes)
        self.begun = True
        if self._ended:
            return
        values, error = self._decoder.decode(record.values, buffers)
        self._records.append((deque(values), cost))
        if error is not None:
            wrong = self._wrong(f"{self._what}: an item is not what was asked for: {described(error)}")
            on_wrong = self._on_wrong
            self.finish(wrong)
            if on_wrong is not None:
                on_wrong(wrong)
        self._wake()

    def finish(self, error: BaseException | None = None) -> None:
        """Nothing more comes: the iteration ends after what is there, with the error if there is one."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._on_wrong = None  # it refers to the call, which refers to this
            self._wake()

    def leave(self, error: BaseException) -> None:
        """Nobody is to read any more, not even what is there: who does all the same gets the error."""
        self.current.clear()
        self._records.clear()
        self.finish()
        self._error = error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
