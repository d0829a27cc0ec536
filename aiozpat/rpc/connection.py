"""The calls that travel by one session of a client: how they leave, what comes back, and what ends them.

When the session breaks, what is in flight ends with `Unavailable`, and what never left may go by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import msgspec

from aiozpat.codec import Values, described
from aiozpat.errors import (
    Closed,
    DeadlineExceeded,
    Internal,
    ProtocolError,
    ResourceExhausted,
    RpcError,
    StatusCode,
    Unavailable,
    Unimplemented,
    rpc_error,
)
from aiozpat.observability.notices import Notices
from aiozpat.protocol.flow import SendFlow
from aiozpat.protocol.outbox import most_control
from aiozpat.protocol.records import (
    CANCEL,
    END,
    RECORD_BYTES,
    Credit,
    End,
    Error,
    Item,
    Opening,
    Record,
    Refused,
    Reply,
    encode,
)
from aiozpat.rpc.client_link import ClientLink
from aiozpat.rpc.deadlines import Deadlines
from aiozpat.rpc.flows import DecodesItems, Inbound, Outbound
from aiozpat.rpc.pending import A, Decodes, NeverRan, Pending, Phase, StreamCall
from aiozpat.rpc.requests import encoded
from aiozpat.rpc.settings import LinkSettings
from aiozpat.transport import Context

_log = logging.getLogger("aiozpat.client")
_monotonic = time.monotonic

_FLUSH_MOST = 256  # calls that leave at once; fewer, if that is half of what is in flight
_FULL = 0.1  # seconds for which a server that has refused a call of a method comes after others for that method

_any: Callable[[msgspec.Raw], dict[Any, Any]] = msgspec.msgpack.Decoder(dict[str | int, Any]).decode


class Connection(ClientLink):
    """One session, and the calls that travel by it.

    It has slots, and so has its base: past 30 attributes, CPython looks each of them up in a dict.

    Args:
        context: Whose loop and sockets.
        endpoint: The server's.
        turn: Which of the server's addresses to try, where its name stands for several.
        settings: What to tell it in the hello.
        max_calls: How many calls may be in flight.
        backlog_bytes: How many bytes of calls may wait to be sent.
        values: What encodes values, where that is not MessagePack.
        notices: Where losses are counted.
        on_phase: Called at each change of `phase` and of `suspect`.
    """

    __slots__ = (
        "_backlog_bytes",
        "_call_soon",
        "_deadlines",
        "_last_id",
        "_roomy",
        "_tell_phase",
        "announced",
        "calls",
        "create_future",
        "full_for",
        "full_until",
        "max_calls",
    )

    def __init__(
        self,
        context: Context,
        endpoint: str,
        turn: int,
        settings: LinkSettings,
        *,
        max_calls: int,
        backlog_bytes: int,
        values: Values | None,
        notices: Notices,
        on_phase: Callable[[Connection], None],
    ) -> None:
        super().__init__(context, endpoint, turn, settings, most_control(max_calls), values, notices)
        self.announced = False  # to whom it may concern that it takes calls
        self.calls: dict[int, Pending[Any]] = {}
        self.full_for, self.full_until = "", 0.0  # which method was refused, and how long that is remembered
        self.create_future = self._loop.create_future
        self._call_soon = self._loop.call_soon
        self.max_calls = max_calls
        self._backlog_bytes = backlog_bytes
        self._roomy = min(backlog_bytes, RECORD_BYTES)  # as long as no more waits, there is room for sure
        self._tell_phase = on_phase
        self._last_id = 0
        self._deadlines = Deadlines(self._loop, self._variables, self.calls.__len__, self._on_due)

    # Calls

    def start(
        self,
        method: str,
        params: Any,
        deadline: float,
        timeout: float,
        decoder: Decodes,
        metadata: Mapping[str, str] | None,
        future: A,
    ) -> Pending[A]:
        """Send a call, now or with others in a moment; the future, or what stands for one, gets what comes of it.

        Raises:
            InvalidArgument: The params can't be encoded.
            ResourceExhausted: Too many calls are in flight, or the params are too large.
        """
        calls = self.calls
        in_flight = len(calls) + 1
        if in_flight > self.max_calls:
            self._too_many()
        self._last_id = key = self._last_id + 1
        record, buffers = encoded(self.values, self.peer_buffer_bytes, key, method, params, timeout, metadata)
        outbox = self.outbox
        nbytes = outbox.nbytes + len(record)
        if nbytes > self._roomy:
            self._check_room(method, len(record))
        call = calls[key] = Pending(key, future, deadline, decoder, method)
        if deadline < self._deadlines.nearest:
            self._deadlines.arm(deadline, _monotonic())
        first = in_flight == 1 and self.pace.first_leaves
        if first and self._send_alone(record, buffers):
            return call
        entries = outbox.entries
        if buffers:
            outbox.add_large(key, record, buffers)
        else:
            entries[key] = record
            outbox.nbytes = nbytes
        queued = len(entries)
        if first or queued >= _FLUSH_MOST or (queued >= self.pace.least and 2 * queued >= in_flight):
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._call_soon(self._flush_in_turn, context=self._variables)
        return call

    def open(
        self,
        method: str,
        params: Any,
        deadline: float,
        decoder: Decodes,
        metadata: Mapping[str, str] | None,
        opening: Opening,
        items: DecodesItems,
    ) -> StreamCall:
        """Send a call with streams; its future gets the result, None where the answer was a stream, or the error.

        Raises:
            DeadlineExceeded: The time for it is over.
            InvalidArgument, ResourceExhausted: As for `start`.
        """
        timeout = deadline - _monotonic()
        if not timeout > 0:
            raise DeadlineExceeded(f"{method}: the time for it was over before it was sent")
        if len(self.calls) >= self.max_calls:
            self._too_many()
        self._last_id = key = self._last_id + 1
        self._put(key, key, method, params, timeout, metadata, opening)
        call = self.calls[key] = Pending(key, self.create_future(), deadline, decoder, method)
        if opening.credit:
            call.inbound = Inbound(
                self,
                key,
                opening.credit,
                items,
                method,
                idle=opening.idle * 0.001,
                wrong=Internal,
                on_wrong=partial(self.fail, call),
            )
        if opening.sends:
            call.outbound = Outbound(self, SendFlow(key, self._stream_credit), method)
        call.future.add_done_callback(partial(_close, call))
        if deadline < self._deadlines.nearest:
            self._deadlines.arm(deadline, _monotonic())
        self._later()
        return call

    def end_items(self, call: Pending[Any]) -> None:
        """Say that no more items come from this side."""
        if self.calls.get(call.id) is call:
            self.outbox.append(encode((END, call.id)))
            self._later()

    def notify(self, method: str, params: Any, timeout: float, metadata: Mapping[str, str] | None) -> None:
        """Send a call that wants no answer."""
        self._last_id += 1
        self._put(self._last_id, 0, method, params, timeout, metadata)
        self._later()

    def _put(
        self,
        key: int,
        wire_id: int,
        method: str,
        params: Any,
        timeout: float,
        metadata: Mapping[str, str] | None,
        opening: Opening | None = None,
    ) -> None:
        """Encode a call and queue it."""
        most = self.peer_buffer_bytes
        record, buffers = encoded(self.values, most, wire_id, method, params, timeout, metadata, opening)
        self._check_room(method, len(record))
        if buffers:
            self.outbox.add_large(key, record, buffers)
        else:
            self.outbox.add(key, record)

    def _too_many(self) -> NoReturn:
        raise ResourceExhausted(f"{len(self.calls)} calls of this client are in flight (max_in_flight)")

    def _check_room(self, method: str, nbytes: int) -> None:
        if nbytes > RECORD_BYTES:
            apart = "" if self.values is not None else "as a bytes param of its own, which travels apart, or "
            raise ResourceExhausted(
                f"{method}: params of {nbytes} bytes are over the limit of {RECORD_BYTES}; pass large data {apart}"
                "in pieces, as a stream"
            )
        if self.outbox.nbytes > self._backlog_bytes:
            raise ResourceExhausted(
                f"{method}: {self.outbox.nbytes} bytes of calls wait for {self.endpoint} to read them, over the limit "
                f"of {self._backlog_bytes} (backlog_bytes); await some of them before you make more"
            )

    def abandon(self, call: Pending[Any]) -> None:
        """The caller waits no more: take the call back, or tell the server if it has left."""
        if self.calls.get(call.id) is call:  # ids begin anew with each session
            del self.calls[call.id]
            self._withdraw(call.id)

    def abandon_threadsafe(self, call: Pending[Any], *tasks: asyncio.Future[Any] | None) -> None:
        """End a call with streams, and tasks that work for it, from whichever thread collects garbage."""
        if not self._loop.is_closed():
            error = Closed(f"the stream of {call.method} was dropped")
            self._loop.call_soon_threadsafe(self.fail, call, error)
            for task in tasks:
                if task is not None:
                    self._loop.call_soon_threadsafe(task.cancel)

    def fail(self, call: Pending[Any], error: BaseException) -> None:
        """End a call with streams from this side."""
        self.abandon(call)
        self._settle_call(call, error)
        call.close(error)

    def _withdraw(self, key: int) -> None:
        if not self.outbox.remove(key) and self.phase is not Phase.ENDED:
            self.outbox.control(encode((CANCEL, key)))
            self._later()
        self.turns.go_on()

    # Deadlines

    def _on_due(self) -> None:
        # A reply that has arrived while our own loop stood still is a reply in time.
        self.socket.drain()
        expired = self._deadlines.take_expired(self.calls.values(), _monotonic())
        for call in expired:
            del self.calls[call.id]
            self._withdraw(call.id)
            self._settle_call(call, DeadlineExceeded(f"{call.method}: no answer from {self.endpoint} in time"))

    @staticmethod
    def _settle_call(call: Pending[Any], error: BaseException) -> None:
        if not call.future.done():
            call.future.set_exception(error)

    # What arrives

    def _on_records(self, records: list[Record]) -> None:
        calls = self.calls
        buffers: list[memoryview] = []
        for record in records:
            if type(record) is not Reply:
                if isinstance(record, Item):
                    self._on_item(record, self._own(record, buffers) if record.buffers else ())
                else:
                    self._on_other(record)
                    if self.phase is Phase.ENDED:  # by a bye, say: what comes behind it is of no use, nor to be had
                        return
                continue
            own = self._own(record, buffers) if record.buffers else None
            call = calls.pop(record.id, None)
            if call is None:
                self._notices.count("late reply")  # its caller has given up meanwhile: nobody wants it
                continue
            try:
                if own is not None:
                    result = call.decoder.decode(record.result, own)
                else:
                    plain = call.decoder.plain  # else looked for as a method first
                    result = plain(record.result)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # also what a type's own validation raises
                wrong = Internal(f"{call.method}: the result is not what was asked for: {described(error)}")
                self._settle_call(call, error if isinstance(error, Unimplemented) else wrong)
                continue
            try:
                call.future.set_result(result)
            except asyncio.InvalidStateError:
                continue  # it was cancelled: its task has yet to have its turn, in which it abandons the call
        if buffers:
            raise ProtocolError(f"a message brought {len(buffers)} buffers that none of its records announced")

    def _own(self, record: Reply | Item, buffers: list[memoryview]) -> list[memoryview]:
        """A record's buffers, the first of those that are left; received with the first record that has any."""
        if not buffers:
            received = self._receive_buffers()
            if len(received) == record.buffers:  # as nearly always
                return received
            buffers += received
        own = buffers[: record.buffers]
        del buffers[: record.buffers]
        if len(own) != record.buffers:
            raise ProtocolError("a record announces more buffers than its message brought")
        return own

    def _on_item(self, record: Item, buffers: Sequence[memoryview]) -> None:
        call = self.calls.get(record.id)
        if call is None:
            self._notices.count("late item")  # sent before the other side knew of the end
        elif call.inbound is None:
            raise ProtocolError(f"items for call {record.id}, which is no stream")
        else:
            call.inbound.feed(record, buffers)

    def _on_end_of_items(self, record: End) -> None:
        call = self.calls.get(record.id)
        if call is None:
            return  # it was on its way when the call ended here
        if call.inbound is None:
            raise ProtocolError(f"an end of call {record.id}, which is no stream")
        del self.calls[record.id]
        if not call.future.done():
            call.future.set_result(None)

    def _on_credit(self, record: Credit) -> None:
        call = self.calls.get(record.id)
        if call is None:
            return  # it was on its way when the call ended
        if call.outbound is None:
            raise ProtocolError(f"credit for call {record.id}, which is no stream")
        call.outbound.grant(record.units)

    def _on_other(self, record: Record) -> None:
        if isinstance(record, End):
            self._on_end_of_items(record)
        elif isinstance(record, Credit):
            self._on_credit(record)
        elif isinstance(record, (Error, Refused)):
            if record.buffers:
                raise ProtocolError("an error has no buffers")
            if isinstance(record, Error):
                self._on_error(record)
            else:
                self._on_refused(record)
        else:
            super()._on_other(record)

    def _on_error(self, record: Error) -> None:
        call = self.calls.pop(record.id, None)
        if call is not None:
            self._settle_call(call, rpc_error(record.code, record.message, _details(record.details)))

    def _on_refused(self, record: Refused) -> None:
        call = self.calls.get(record.id)
        if call is None:
            return
        if call.inbound is not None and call.inbound.begun:
            raise ProtocolError(f"call {record.id} was refused, which had brought items")
        del self.calls[record.id]
        error = rpc_error(record.code, record.message, _details(record.details))
        error.refused = True
        if record.code == StatusCode.UNAVAILABLE:
            self._settle_call(call, _never_ran(call, record.message))
            self._drain_away(error)
        else:
            self.full_for, self.full_until = call.method, _monotonic() + _FULL
            self._settle_call(call, error)

    # The session's life

    def _on_phase(self) -> None:
        self._tell_phase(self)

    def _drain_away(self, reason: RpcError) -> None:
        """What has not left goes elsewhere now: none may follow the pong that says that the goaway was read."""
        if self.phase is not Phase.READY:
            return
        super()._drain_away(reason)
        self._lose_notifications(reason)
        for key in list(filter(self.outbox.of_call, self.outbox.entries)):
            self.outbox.remove(key)
            call = self.calls.pop(key, None)
            if call is not None:
                self._settle_call(call, _never_ran(call, reason.message))
        self.turns.go_on()

    def _lose_notifications(self, reason: RpcError) -> None:
        """Count those that have not left: nobody else would say that they are lost."""
        lost = sum(key not in self.calls and self.outbox.of_call(key) for key in self.outbox.entries)
        if lost:
            self._notices.note("notifications lost", f"{lost} waited to be sent when {reason.message}", lost)

    def _on_end(self, reason: RpcError) -> None:
        """What is in flight is lost, whatever the session ended for; what never left may go elsewhere."""
        self._deadlines.stop()
        self._lose_notifications(reason)
        never_left, lost = self.outbox.entries, 0
        for key, call in self.calls.items():
            if key in never_left:
                self._settle_call(call, _never_ran(call, reason.message))
            else:
                lost += 1
                self._settle_call(call, Unavailable(f"{call.method}: {reason.message}; it may have run"))
        if lost:
            self._notices.note("calls lost", f"{lost} in flight when {reason.message}", lost)
        self.calls.clear()
        self.outbox.clear()  # this object, in a cycle with its socket, may stay for a while


def _never_ran(call: Pending[Any], why: str) -> NeverRan:
    """What a call gets that never left, or met a server that drains."""
    return NeverRan(Unavailable(f"{call.method}: {why}; it did not run"))


def _details(raw: msgspec.Raw) -> dict[str, Any]:
    """An error's details; none where they can't be read."""
    try:
        return _any(raw)
    except Exception as error:
        _log.debug("details that can't be decoded: %s", error)
        return {}


def _close(call: Pending[Any], future: asyncio.Future[Any]) -> None:
    """A call with streams is over."""
    call.close(None if future.cancelled() else future.exception())
