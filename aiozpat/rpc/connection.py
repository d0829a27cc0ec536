"""One session of a client: one DEALER socket from its hello to its end, and the calls that travel by it.

libzmq would reconnect a socket silently and replay what it holds to a server that knows nothing of it. So a socket
lives for one connection only, and nothing is sent before that stands: when it breaks, or the server falls silent, the
socket is closed, what is in flight ends with `Unavailable`, and what never left may go by the next session. (Should
libzmq be faster, the server resets the unknown session and runs nothing of it.)
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, NoReturn

import msgspec

from aiozpat.codec import BUFFER_TYPES, ENCODE_ERRORS, Values, is_large
from aiozpat.errors import (
    Closed,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ProtocolError,
    ResourceExhausted,
    RpcError,
    StatusCode,
    Unavailable,
    Unimplemented,
    rpc_error,
)
from aiozpat.observability.notices import Notices
from aiozpat.protocol.calls import next_scan, scan
from aiozpat.protocol.flow import SendFlow
from aiozpat.protocol.liveness import Liveness, Verdict
from aiozpat.protocol.outbox import Outbox
from aiozpat.protocol.records import (
    BUFFER_LIMIT,
    BYE,
    CANCEL,
    CODEC,
    END,
    HEADER_LIMIT,
    PING,
    REQUEST,
    Ack,
    Buffer,
    Bye,
    Credit,
    End,
    Error,
    Goaway,
    Hello,
    Item,
    Opening,
    Ping,
    Pong,
    Record,
    Refused,
    Reply,
    Reset,
    UnknownVersion,
    encode,
    join,
    split,
    split_timeless,
)
from aiozpat.rpc.flows import DecodesItems, Inbound, Outbound
from aiozpat.rpc.pending import FAILURES, A, Decodes, NeverRan, Pending, Phase, StreamCall, failure
from aiozpat.rpc.requests import check_buffers, checked, extracted, foreign, rich
from aiozpat.rpc.settings import MISSES, LinkSettings, buffer_of, stream_window_of, window_of
from aiozpat.rpc.turns import Turns
from aiozpat.transport import Context, MonitorEvent, MonitorEventKind, Socket, SocketKind

_log = logging.getLogger("aiozpat.client")
_monotonic = time.monotonic

_FLUSH_LEAST, _FLUSH_MOST = 8, 256  # calls that leave at once: half of what is in flight, within these
_RECORD_LIMIT = HEADER_LIMIT - 1024
_LONGEST = 86_400 * 20.0  # seconds; more is not sent

_any = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Connection:
    """One session.

    Args:
        context: Whose loop and sockets.
        endpoint: The server's.
        settings: What to tell it in the hello.
        max_calls: How many calls may be in flight.
        backlog_bytes: How many bytes of calls may wait to be sent.
        values: What encodes values, where that is not MessagePack.
        notices: Where losses are counted.
        on_phase: Called at each change of `phase` and of `suspect`.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        settings: LinkSettings,
        *,
        max_calls: int,
        backlog_bytes: int,
        values: Values | None,
        notices: Notices,
        on_phase: Callable[[Connection], None],
    ) -> None:
        self.endpoint = endpoint
        self.phase = Phase.CONNECTING
        self.announced = False  # to whom it may concern that it takes calls
        self.suspect = False  # the server is late with its pongs: calls better go elsewhere, if there is an elsewhere
        self.reason: RpcError = Unavailable(f"not connected to {endpoint} yet")
        self.calls: dict[int, Pending[Any]] = {}
        self.outbox = Outbox(settings.window_bytes)
        self._loop = asyncio.get_running_loop()
        self._variables = copy_context()  # not those of whichever task calls first
        self.create_future = self._loop.create_future
        self._call_soon = self._loop.call_soon
        self._settings = settings
        self._max_calls = max_calls
        self._backlog_bytes = backlog_bytes
        self.values = values
        self._notices = notices
        self._on_phase = on_phase
        self._session = os.urandom(16)
        self._last_id = 0
        self._token = 0
        self.peer_buffer_bytes = 0
        self.turns = Turns(self.outbox)
        self._stream_credit = 0  # that each stream to the server begins with
        self._flushing = False
        self._blocked = False  # the socket took no more
        self._goodbye: asyncio.Future[None] | None = None
        self._next_scan = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._liveness = Liveness(settings.heartbeat, MISSES, _monotonic())
        self.socket = Socket(
            context,
            SocketKind.DEALER,
            settings.options,
            on_readable=self._on_readable,
            on_writable=self._on_writable,
            max_frames=1 + BUFFER_LIMIT,
            on_event=self._on_event,
        )
        self._ticker: asyncio.TimerHandle | None = None
        try:
            self.socket.connect(endpoint)
        except BaseException:
            self.socket.detach(0)
            raise
        if endpoint.startswith("inproc://"):  # it has no handshake, and no events
            self._loop.call_soon(self._greet)

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
        if in_flight > self._max_calls:
            self._too_many()
        self._last_id = key = self._last_id + 1
        self._put(key, key, method, params, timeout, metadata)
        call = calls[key] = Pending(key, future, deadline, decoder, method)
        if deadline < self._next_scan:
            self._arm(deadline)
        queued = len(self.outbox.entries)
        if in_flight == 1 or queued >= _FLUSH_MOST or (queued >= _FLUSH_LEAST and queued >= in_flight >> 1):
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._call_soon(self._flush, context=self._variables)
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
        if len(self.calls) >= self._max_calls:
            self._too_many()
        self._last_id = key = self._last_id + 1
        self._put(key, key, method, params, timeout, metadata, opening)
        call = self.calls[key] = Pending(key, self.create_future(), deadline, decoder, method)
        call.inbound = Inbound(
            self,
            key,
            opening.credit,
            items,
            method,
            idle=opening.idle * 0.001,
            wrong=Internal,
            on_wrong=partial(self.abandon, call),
        )
        call.outbound = Outbound(self, SendFlow(key, self._stream_credit), method)
        call.future.add_done_callback(partial(_close, call))
        if deadline < self._next_scan:
            self._arm(deadline)
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
        """Encode a call and queue it: what is wrong with it reaches its caller, and later changes do no harm."""
        buffers: list[Buffer] = []
        if self.values is not None:
            params = foreign(method, params, self.values)
        else:
            for value in params if type(params) is tuple else params.values():
                if type(value) in BUFFER_TYPES and is_large(value):
                    params = extracted(params, buffers)
                    break
        # Rounded up: a server that ended the call too early would make a deadline look like its own failure.
        milliseconds = int(timeout * 1000) + 1 if timeout < _LONGEST else int(_LONGEST * 1000)
        if type(method) is not str:
            raise InvalidArgument(f"a method's name is text such as 'calc.add'; got {method!r}")
        more = () if metadata is None and opening is None else (checked(metadata), opening)
        try:
            if more:
                record = encode((REQUEST, wire_id, len(buffers), method, milliseconds, params, *more))
            else:
                record = encode((REQUEST, wire_id, len(buffers), method, milliseconds, params))
        except ENCODE_ERRORS:
            params = rich(method, params, buffers, copy=not wire_id)
            record = encode((REQUEST, wire_id, len(buffers), method, milliseconds, params, *more))
        if buffers:
            check_buffers(buffers, self.peer_buffer_bytes, self.endpoint)
        outbox = self.outbox
        nbytes = outbox.nbytes
        if len(record) > _RECORD_LIMIT or nbytes > self._backlog_bytes:
            self._too_much(method, len(record))
        if buffers:
            outbox.add_large(key, record, buffers)
        else:
            outbox.entries[key] = record
            outbox.nbytes = nbytes + len(record)

    def _too_many(self) -> NoReturn:
        raise ResourceExhausted(f"{len(self.calls)} calls of this client are in flight (max_in_flight)")

    def _too_much(self, method: str, nbytes: int) -> NoReturn:
        if nbytes > _RECORD_LIMIT:
            raise ResourceExhausted(
                f"{method}: params of {nbytes} bytes are over the limit of {_RECORD_LIMIT}; pass large data as "
                "a bytes param of its own, which travels apart, or in pieces"
            )
        raise ResourceExhausted(f"{self.outbox.nbytes} bytes of calls wait for {self.endpoint} to read them")

    def abandon(self, call: Pending[Any]) -> None:
        """The caller waits no more: take the call back, or tell the server if it has left."""
        if self.calls.pop(call.id, None) is not None:
            self._withdraw(call.id)

    def abandon_threadsafe(self, call: Pending[Any]) -> None:
        """End a call with streams, from whichever thread collects garbage."""
        if not self._loop.is_closed():
            error = Closed(f"the stream of {call.method} was dropped")
            self._loop.call_soon_threadsafe(self.fail, call, error)

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

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_scan = deadline
        delay = next_scan(deadline, _monotonic(), len(self.calls))
        self._timer = self._loop.call_later(delay, self._scan, context=self._variables)

    def _scan(self) -> None:
        self._timer = None
        # A reply that has arrived while our own loop stood still is a reply in time.
        self.socket.drain()
        expired, nearest = scan(self.calls.values(), _monotonic())
        self._next_scan = math.inf
        if nearest < math.inf:
            self._arm(nearest)
        for call in expired:
            del self.calls[call.id]
            self._withdraw(call.id)
            self._settle_call(call, DeadlineExceeded(f"{call.method}: no answer from {self.endpoint} in time"))

    @staticmethod
    def _settle_call(call: Pending[Any], error: BaseException) -> None:
        if not call.future.done():
            call.future.set_exception(error)

    # What leaves

    def post(self) -> None:
        """Something was put into the outbox: send it in a moment, with what else there is by then."""
        self._later()

    def push(self) -> None:
        """Enough for a message was: send it now."""
        self._later()  # which also looks at EVENTS
        self._send()

    def _later(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush, context=self._variables)

    def _flush(self) -> None:
        """Send what the server's window and the socket allow; an ack or room for more brings us back."""
        self._flushing = False
        self._send()
        if not self.socket.closed:
            self.socket.settle()

    def _send(self) -> None:
        socket, outbox = self.socket, self.outbox
        if socket.closed or self._blocked or self.phase is Phase.CONNECTING:
            return
        while (message := outbox.peek()) is not None:
            header, buffers = message
            if not (socket.send_frames((header, *buffers)) if buffers else socket.send(header)):
                self._blocked = True
                break
            outbox.commit(len(header) + sum(map(len, buffers)))
            self.turns.go_on()
            if not outbox.pending:
                break

    def _on_writable(self) -> None:
        self._blocked = False
        self._flush()

    # What arrives

    def _on_readable(self) -> None:
        frames = self.socket.receive()
        if frames is None:
            return
        buffers: Sequence[memoryview] = ()
        nbytes = len(frames[0])
        if len(frames) > 1:
            if len(frames) > 1 + BUFFER_LIMIT:
                self.end(Unavailable(f"{self.endpoint} sent a message of more than {BUFFER_LIMIT} buffers"))
                return
            buffers = [memoryview(frame).toreadonly() for frame in frames[1:]]
            nbytes += sum(map(len, buffers))
        self._liveness.heard = _monotonic()
        outbox = self.outbox
        outbox.received += nbytes
        if outbox.received >= outbox.ack_at:
            outbox.acknowledge()
        header = memoryview(frames[0])
        try:
            self._on_records(split(header), buffers)
        except UnknownVersion as error:
            self._on_unknown_version(header, error)
            return
        except ProtocolError as error:
            self._notices.note("protocol error", f"{self.endpoint}: {error}")
            self.end(Unavailable(f"{self.endpoint} does not speak AZP/1 as this client does: {error}"))
            return
        if outbox.pending:
            self._later()

    def _on_unknown_version(self, header: memoryview, error: UnknownVersion) -> None:
        """A server of another version can still say so: a reset never changes."""
        try:
            record = split_timeless(header)
        except ProtocolError:
            record = None
        if isinstance(record, Reset):
            self._on_reset(record)
        else:
            self.end(Unimplemented(f"{self.endpoint}: {error}"))

    def _on_records(self, records: list[Record], buffers: Sequence[memoryview]) -> None:
        calls = self.calls
        taken = 0
        for record in records:
            if type(record) is Reply or type(record) is Item:
                own: Sequence[memoryview] = ()
                if record.buffers:
                    own = buffers[taken : taken + record.buffers]
                    taken += len(own)
                    if len(own) != record.buffers:
                        raise ProtocolError("a record announces more buffers than its message brought")
                if isinstance(record, Item):  # `is` narrows a union for us, not for mypy
                    self._on_item(record, own)
                    continue
                call = calls.pop(record.id, None)
                if call is None:
                    self._notices.note("late reply", f"{self.endpoint} answered call {record.id} after its end")
                    continue
                try:
                    result = call.decoder.decode(record.result, own) if own else call.decoder.plain(record.result)
                except Exception as error:  # also what a type's own validation raises
                    self._settle_call(call, Internal(f"{call.method}: the result is not what was asked for: {error}"))
                    continue
                future = call.future
                if not future.done():
                    future.set_result(result)
            else:
                self._on_other(record)
        if taken != len(buffers):
            raise ProtocolError(f"a message brought {len(buffers)} buffers, its records announced {taken}")

    def _on_item(self, record: Item, buffers: Sequence[memoryview]) -> None:
        call = self.calls.get(record.id)
        if call is None:
            self._notices.count("late item")  # sent before the other side knew of the end
        elif call.inbound is None:
            raise ProtocolError(f"items for call {record.id}, which is no stream")
        else:
            call.inbound.feed(record, buffers)

    def _on_end(self, record: End) -> None:
        call = self.calls.pop(record.id, None)
        if call is not None and not call.future.done():
            call.future.set_result(None)

    def _on_credit(self, record: Credit) -> None:
        call = self.calls.get(record.id)
        if call is None:
            return  # it was on its way when the call ended
        if call.outbound is None:
            raise ProtocolError(f"credit for call {record.id}, which is no stream")
        call.outbound.grant(record.units)

    def _on_other(self, record: Record) -> None:
        kind = type(record)
        if isinstance(record, End):
            self._on_end(record)
        elif isinstance(record, Credit):
            self._on_credit(record)
        elif kind is Error:
            self._on_error(record)  # type: ignore[arg-type]  # `kind is` narrows for us, not for mypy
        elif kind is Refused:
            self._on_refused(record)  # type: ignore[arg-type]  # as above
        elif isinstance(record, Ping):
            self.outbox.pong(record.token)
        elif isinstance(record, Ack):
            self.outbox.on_ack(record.received)
        elif isinstance(record, Hello):
            self._on_hello(record)
        elif isinstance(record, Reset):
            self._on_reset(record)
        elif isinstance(record, Goaway):
            self._drain_away(Unavailable(f"{self.endpoint}: {record.reason}"))
        elif isinstance(record, Bye):
            self._on_bye(record)
        elif not isinstance(record, Pong):
            raise ProtocolError(f"a server does not send a {kind.__name__.lower()}")

    def _drain_away(self, reason: RpcError) -> None:
        """The server takes no new calls in this session."""
        if self.phase is Phase.READY:
            self.reason = reason
            self._enter(Phase.DRAINING)

    def _on_error(self, record: Error) -> None:
        call = self.calls.pop(record.id, None)
        if call is not None:
            self._settle_call(call, rpc_error(record.code, record.message, _details(record.details)))

    def _on_refused(self, record: Refused) -> None:
        call = self.calls.pop(record.id, None)
        if call is None:
            return
        error = rpc_error(record.code, record.message, _details(record.details))
        error.refused = True
        if record.code == StatusCode.UNAVAILABLE:
            self._settle_call(call, NeverRan(error))
            self._drain_away(error)
        else:
            self._settle_call(call, error)

    def _on_hello(self, hello: Hello) -> None:
        if self.phase is not Phase.CONNECTING or hello.session != self._session:
            return
        self.outbox.resize(window_of(hello.limits, self._settings.window_bytes))
        self.peer_buffer_bytes = buffer_of(hello.limits)
        self._stream_credit = stream_window_of(hello.limits)
        self._enter(Phase.READY)

    def _on_reset(self, reset: Reset) -> None:
        error = rpc_error(reset.code, f"{self.endpoint} turned this session away: {reset.reason}")
        self._notices.note("reset by the server", error.message)
        self.end(error)

    def _on_bye(self, bye: Bye) -> None:
        if self._goodbye is not None:
            self.end(Unavailable("this client was closed"))
            return
        self.outbox.control(encode((BYE, "")))
        self._flush()
        self.end(Unavailable(f"{self.endpoint}: {bye.reason}"))

    # The session's life

    def _on_event(self, event: MonitorEvent) -> None:
        kind = event.kind
        if kind is MonitorEventKind.HANDSHAKE_SUCCEEDED:
            self._greet()
        elif kind is MonitorEventKind.DISCONNECTED and not self.socket.closed:
            self.socket.drain()
            self.end(Unavailable(f"the connection to {self.endpoint} broke"))
        elif kind in FAILURES and self.phase is Phase.CONNECTING:
            self.reason = Unavailable(f"can't connect to {self.endpoint}: {failure(event)}")

    def _greet(self) -> None:
        """The connection stands: say hello."""
        if self.phase is not Phase.CONNECTING:
            return
        self._liveness = Liveness(self._settings.heartbeat, MISSES, _monotonic())
        hello = join([self._settings.hello(self._session, CODEC if self.values is None else self.values.name)])
        if not self.socket.send(hello):
            self.end(Unavailable(f"{self.endpoint} closed the connection at once"))
            return
        self.outbox.sent += len(hello)
        self._tick()

    def _tick(self) -> None:
        if self.socket.closed:
            return
        self._ticker = self._loop.call_later(self._settings.heartbeat / 2, self._tick)
        self.socket.drain()
        verdict = self._liveness.tick(_monotonic())
        if verdict is Verdict.DEAD:
            self._notices.note("server lost", f"{self.endpoint}: no word for {MISSES} heartbeats")
            self.end(Unavailable(f"{self.endpoint} has not said a word for {MISSES} heartbeats"))
            return
        late = self._liveness.late(_monotonic())
        if late is not self.suspect:
            self.suspect = late
            self._on_phase(self)
        if verdict is Verdict.PING and self.phase is not Phase.CONNECTING:
            self._token += 1
            self.outbox.control(encode((PING, self._token)))
        self._flush()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._on_phase(self)

    def end(self, reason: RpcError) -> None:
        """End the session: what is in flight is `reason`, what never left may go elsewhere."""
        if self.phase is Phase.ENDED:
            return
        self.reason = reason
        for timer in (self._timer, self._ticker):
            if timer is not None:
                timer.cancel()
        never_left = self.outbox.entries
        lost = 0
        for key, call in self.calls.items():
            if key in never_left:
                self._settle_call(call, NeverRan(reason))
            else:
                lost += 1
                self._settle_call(call, type(reason)(f"{call.method}: {reason.message}; it may have run"))
        if lost:
            self._notices.note("calls lost", f"{lost} in flight when {reason.message}")
        self.calls.clear()
        if self._goodbye is not None and not self._goodbye.done():
            self._goodbye.set_result(None)
        self.socket.detach(0)
        self._enter(Phase.ENDED)

    async def leave(self, timeout: float) -> None:
        """Say goodbye, and wait for the server's, so that everything sent before has been read.

        Args:
            timeout: Seconds to wait for it at most.
        """
        if self.phase in (Phase.READY, Phase.DRAINING):
            self._goodbye = self._loop.create_future()
            deadline = _monotonic() + timeout
            while self.outbox.waiting and not self._goodbye.done() and _monotonic() < deadline:
                self._flush()
                await asyncio.wait({self._goodbye}, timeout=0.01)
            self.outbox.control(encode((BYE, "")))
            self._flush()
            await asyncio.wait({self._goodbye}, timeout=max(0.0, deadline - _monotonic()))
        self.end(Unavailable("this client was closed"))


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
