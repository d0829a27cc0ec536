"""A client's end of one session: its socket, its hello, its heartbeats, its end; what travels by it is not its affair.

libzmq would reconnect a socket silently and replay what it holds to a server that knows nothing of it. So a socket
lives for one connection only, and nothing is sent before that stands: when it breaks, or the server falls silent, the
socket is closed. (Should libzmq be faster, the server resets the unknown session and runs nothing of it.)
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextvars import copy_context
from functools import partial

from aiozpat.codec import Values
from aiozpat.errors import (
    InvalidEndpoint,
    ProtocolError,
    RpcError,
    StatusCode,
    Unavailable,
    Unimplemented,
    rpc_error,
)
from aiozpat.observability.notices import Notices
from aiozpat.protocol.liveness import Liveness, Verdict
from aiozpat.protocol.outbox import Outbox
from aiozpat.protocol.pace import Pace
from aiozpat.protocol.records import (
    BUFFER_LIMIT,
    BYE,
    CODEC,
    PING,
    Ack,
    Buffer,
    Bye,
    Goaway,
    Hello,
    Ping,
    Pong,
    Record,
    Reset,
    UnknownVersion,
    encode,
    join,
    split,
    split_timeless,
)
from aiozpat.rpc.buffers import views
from aiozpat.rpc.pending import Phase
from aiozpat.rpc.settings import MISSES, LinkSettings, buffer_of, stream_window_of, window_of
from aiozpat.rpc.turns import Turns
from aiozpat.transport import Context, MonitorEvent, MonitorEventKind, Socket, SocketKind, is_named, look_up

_monotonic = time.monotonic
_LEAVING = 0.01  # seconds between looks at what is still to leave


class ClientLink:
    """One session.

    Args:
        context: Whose loop and sockets.
        endpoint: The server's.
        turn: Which of the server's addresses to try, where its name stands for several.
        settings: What to tell it in the hello.
        most_control: How many control records may wait while the socket takes nothing.
        values: What encodes values, where that is not MessagePack.
        notices: Where losses are counted.
    """

    __slots__ = (
        "_blocked",
        "_context",
        "_flushing",
        "_goodbye",
        "_liveness",
        "_loop",
        "_most_control",
        "_named",
        "_notices",
        "_overtaken",
        "_said_bye",
        "_session",
        "_settings",
        "_stream_credit",
        "_ticker",
        "_token",
        "_variables",
        "endpoint",
        "outbox",
        "pace",
        "peer_buffer_bytes",
        "phase",
        "reason",
        "socket",
        "suspect",
        "turns",
        "values",
    )

    def __init__(
        self,
        context: Context,
        endpoint: str,
        turn: int,
        settings: LinkSettings,
        most_control: int,
        values: Values | None,
        notices: Notices,
    ) -> None:
        self.endpoint = endpoint
        self.phase = Phase.CONNECTING
        self.suspect = False  # the server is late with its pongs: calls better go elsewhere, if there is an elsewhere
        self.reason: RpcError = Unavailable(f"not connected to {endpoint} yet")
        self.outbox = Outbox(settings.window_bytes)
        self.turns = Turns(self.outbox)
        self.pace = Pace()
        self.values = values
        self.peer_buffer_bytes = 0
        self._stream_credit = 0  # that each stream to the server begins with
        self._loop = asyncio.get_running_loop()
        self._variables = copy_context()  # not those of whichever task calls first
        self._settings = settings
        self._notices = notices
        self._session = os.urandom(16)
        self._token = 0
        self._most_control = most_control
        self._context = context
        self._flushing = False  # a flush is due at the end of this turn
        self._overtaken = False  # a message came while that was due
        self._blocked = False  # the socket took no more
        self._said_bye = False  # the server knows nothing of this session any more
        self._goodbye: asyncio.Future[None] | None = None
        self._liveness = Liveness(settings.heartbeat, MISSES, _monotonic())
        self.socket = Socket(
            context,
            SocketKind.DEALER,
            settings.socket_options(),
            on_readable=self._on_readable,
            on_writable=self._on_writable,
            max_frames=1 + BUFFER_LIMIT,
        )
        self._ticker: asyncio.TimerHandle | None = None
        self._named = is_named(endpoint)
        try:
            self.socket.watch(self._on_event)
            if self._named:
                self.reason = Unavailable(f"{endpoint} is being looked up")
                look_up(endpoint, self._loop, partial(self._on_found, turn))
            else:
                self.socket.connect(endpoint)
        except BaseException:
            self.socket.detach(0)
            raise
        if endpoint.startswith("inproc://"):  # it has no handshake, and no events
            self._loop.call_soon(self._greet)

    # What is the affair of whoever uses the session

    def _on_records(self, records: list[Record]) -> None:
        """Take a message's records; `_receive_buffers` gives what they refer to."""
        raise NotImplementedError

    def _on_phase(self) -> None:
        """`phase` has changed, or `suspect`."""
        raise NotImplementedError

    def _on_end(self, reason: RpcError) -> None:
        """The session ends: no more arrives, and what waits to be sent will not be."""
        raise NotImplementedError

    # What leaves

    def post(self) -> None:
        """Something was put into the outbox: send it in a moment, with what else there is by then."""
        self._later()

    def push(self) -> None:
        """Enough for a message was: send it now."""
        self._later()  # which also looks at EVENTS
        self._send()

    def drain(self) -> bool:
        """Take what has arrived; False if there is more."""
        return self._variables.run(self.socket.drain)

    def _later(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_in_turn, context=self._variables)

    def _flush_in_turn(self, postponed: bool = False) -> None:
        """Flush at the end of a turn of the loop; once more a turn later, if other callers were woken behind this.

        Their next calls leave with these then, among other sessions: else what came apart once would stay apart.
        """
        overtaken, self._overtaken = self._overtaken, False
        if overtaken and not postponed and not self.pace.first_leaves:
            self._loop.call_soon(self._flush_in_turn, True, context=self._variables)
            return
        self._flushing = False
        context, me = self._context, id(self)
        self.pace.turn(len(self.outbox), among_others=context.last_flushed not in (me, 0))
        context.last_flushed = me
        self._flush()

    def _flush(self) -> None:
        """Send what the server's window and the socket allow; an ack or room for more brings us back."""
        self._send()
        if not self.socket.closed:
            self.socket.settle()

    def _send_alone(self, record: bytes, buffers: Sequence[Buffer]) -> bool:
        """Send a call that no other is to be expected with, unless it has to be queued.

        In a session that is ready, and where no stream waits.
        """
        header = None if self._blocked else self.outbox.alone(record)
        if header is None:
            return False
        nbytes = self._try(header, buffers)
        if not nbytes:
            return False
        self.outbox.left_alone(nbytes)
        if not self.socket.scheduled:  # mostly it is, and looks in this turn of the loop: that saves a call
            self.socket.settle()
        return True

    def _send(self) -> None:
        socket, outbox, turns = self.socket, self.outbox, self.turns
        if socket.closed or self._blocked or self._said_bye or self.phase is Phase.CONNECTING:
            if self._blocked and outbox.controls > self._most_control:
                self._notices.note("server lost", f"{self.endpoint}: {outbox.controls} control records wait for it")
                self.end(Unavailable(f"{self.endpoint} does not read what it is told"))
            return
        while (message := outbox.peek()) is not None:
            nbytes = self._try(*message)
            if not nbytes:
                self._blocked = True
                break
            pending = outbox.commit(nbytes)
            if turns.waiting:
                turns.go_on()
            elif not pending:
                break

    def _try(self, header: bytes, buffers: Sequence[Buffer]) -> int:
        """Try to send a message; its size in bytes, 0 if there is no room."""
        if not buffers:
            return len(header) if self.socket.send(header) else 0
        frames = (header, *buffers)
        return sum(map(len, frames)) if self.socket.send_large(frames) else 0

    def _on_writable(self) -> None:
        self._blocked = False
        self._flush()

    # What arrives

    def _on_readable(self) -> None:
        header = self.socket.receive_first()
        if header is None:
            return
        self._liveness.heard = _monotonic()
        outbox = self.outbox
        outbox.received += len(header)
        try:
            records = split(header)
            if len(records) > 1 and outbox.received >= outbox.ack_at:
                self._acknowledge()  # at once: the server may wait for it
            self._overtaken = self._flushing
            self._on_records(records)
        except UnknownVersion as error:
            self._on_unknown_version(header, error)
        except ProtocolError as error:
            self._notices.note("protocol error", f"{self.endpoint}: {error}")
            self.end(Unavailable(f"{self.endpoint} does not speak AZP/1 as this client does: {error}"))
        if outbox.received >= outbox.ack_at:
            self._acknowledge()  # behind the caller just woken, with whose next call it may leave

    def _acknowledge(self) -> None:
        self.outbox.acknowledge()
        self._later()

    def _receive_buffers(self) -> list[memoryview]:
        """The message's other frames; only where a record says so, as to ask costs more than nearly all messages do.

        Frames that no record announces are read as the next message: nearly always that is none, and ends the session.
        """
        buffers = views(self.socket.receive_rest())
        self.outbox.received += sum(map(len, buffers))
        return buffers

    def _on_unknown_version(self, header: bytes, error: UnknownVersion) -> None:
        """A server of another version can still say so: a reset never changes."""
        try:
            record = split_timeless(header)
        except ProtocolError:
            record = None
        if isinstance(record, Reset):
            self._on_reset(record)
        else:
            self.end(Unimplemented(f"{self.endpoint}: {error}"))

    def _on_other(self, record: Record) -> None:
        """Take a record that has to do with the session itself."""
        if isinstance(record, Ping):
            self.outbox.pong(record.token)
            self._later()
        elif isinstance(record, Ack):
            if self.outbox.on_ack(record.received) and self.outbox.waiting:
                self._later()
        elif isinstance(record, Hello):
            self._on_hello(record)
        elif isinstance(record, Reset):
            self._on_reset(record)
        elif isinstance(record, Goaway):
            self._drain_away(Unavailable(f"{self.endpoint}: {record.reason}"))
        elif isinstance(record, Bye):
            self._on_bye(record)
        elif not isinstance(record, Pong):
            raise ProtocolError(f"a server does not send a {type(record).__name__.lower()}")

    def _drain_away(self, reason: RpcError) -> None:
        """The server takes no new calls in this session."""
        if self.phase is Phase.READY:
            self.reason = reason
            self._enter(Phase.DRAINING)

    def _on_hello(self, hello: Hello) -> None:
        if self.phase is not Phase.CONNECTING or hello.session != self._session:
            return
        self.outbox.resize(window_of(hello.limits, self._settings.window_bytes))
        self.peer_buffer_bytes = buffer_of(hello.limits, self._settings.options.max_message_bytes)
        self._stream_credit = stream_window_of(hello.limits)
        self._enter(Phase.READY)

    def _on_reset(self, reset: Reset) -> None:
        text = f"{self.endpoint} turned this session away: {reset.reason}"
        self._notices.note("reset by the server", text)
        # Its code says why there can't be a session. Of one that there was it is no matter of any single call.
        if self.phase is Phase.CONNECTING:
            self.end(rpc_error(reset.code, text))
        else:
            gave_up = (
                f"; it gives up a client of which it hears nothing for {MISSES} heartbeats, because its event loop "
                "stood still, or a message took so long to cross"
            )
            self.end(Unavailable(text + gave_up if reset.code == StatusCode.UNAVAILABLE else text))

    def _on_bye(self, bye: Bye) -> None:
        if self._goodbye is not None:
            self.end(Unavailable("this client was closed"))
            return
        self.outbox.control(encode((BYE, "")))
        self._flush()
        self.end(Unavailable(f"{self.endpoint}: {bye.reason}"))

    # The session's life

    def _on_found(self, turn: int, addresses: list[str], error: str) -> None:
        """The server's name was looked up."""
        if self.phase is Phase.ENDED:
            return
        if not addresses:
            self.end(Unavailable(f"can't look up {self.endpoint}: {error}"))
            return
        address = addresses[turn % len(addresses)]
        self.reason = Unavailable(f"not connected to {self.endpoint} yet, which is {address}")
        try:
            self.socket.connect(address)
        except InvalidEndpoint as refusal:  # the next session tries another one, if there is
            self.end(Unavailable(f"can't connect to {self.endpoint}: {refusal}"))

    def _on_event(self, event: MonitorEvent) -> None:
        kind = event.kind
        if kind is MonitorEventKind.HANDSHAKE_SUCCEEDED:
            self._greet()
        elif kind is MonitorEventKind.CONNECTED and self.phase is Phase.CONNECTING:
            text = f"{self.endpoint} is there, and has not completed ZeroMQ's handshake: is it an aiozpat Server?"
            self.reason = Unavailable(text)
        elif kind is MonitorEventKind.DISCONNECTED and not self.socket.closed:
            self.socket.drain()
            # Until there is a session, something more to the point is known.
            broke = Unavailable(f"the connection to {self.endpoint} broke")
            self.end(self.reason if self.phase is Phase.CONNECTING else broke)
        elif kind in _FAILURES and self.phase is Phase.CONNECTING:
            self.reason = Unavailable(f"can't connect to {self.endpoint}: {_failure(event)}")
            if self._named:  # the next session looks it up again: it may be somewhere else by then
                self.end(self.reason)

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
        self.reason = Unavailable(f"connected to {self.endpoint}, which has not answered yet: is it an aiozpat Server?")
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
            self._on_phase()
        if verdict is Verdict.PING and self.phase is not Phase.CONNECTING:
            self._token += 1
            self.outbox.control(encode((PING, self._token)))
        if self.phase is not Phase.CONNECTING:
            self.outbox.acknowledge_early()
        self._flush()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._on_phase()

    def end(self, reason: RpcError) -> None:
        """End the session."""
        if self.phase is Phase.ENDED:
            return
        self.reason = reason
        if self._ticker is not None:
            self._ticker.cancel()
        self._on_end(reason)
        if self._goodbye is not None and not self._goodbye.done():
            self._goodbye.set_result(None)
        self.socket.detach(0)
        if self._context.last_flushed == id(self):
            self._context.last_flushed = 0
        self._enter(Phase.ENDED)

    async def leave(self, patience: float, most: float) -> None:
        """Say goodbye, and wait for the server's, so that everything sent before has been read.

        Args:
            patience: Seconds without a sign that the server goes on reading.
            most: Seconds in all.
        """
        if self.phase in (Phase.READY, Phase.DRAINING):
            self._goodbye = goodbye = self._loop.create_future()
            end = _monotonic() + most
            bye, read, until = False, -1, end
            while not goodbye.done():
                self.drain()  # the server is not judged for a stall of our own loop
                now = _monotonic()
                if self.outbox.acked != read:
                    read, until = self.outbox.acked, min(now + patience, end)
                if now >= until:
                    break
                if not (bye or self.outbox.waiting):
                    bye = True
                    self.outbox.control(encode((BYE, "")))
                self._flush()
                self._said_bye = self._said_bye or (bye and not self.outbox.pending)
                await asyncio.wait({goodbye}, timeout=_LEAVING)
        self.end(Unavailable("this client was closed"))


_FAILURES = {
    MonitorEventKind.CLOSED,
    MonitorEventKind.CONNECT_RETRIED,
    MonitorEventKind.HANDSHAKE_FAILED_NO_DETAIL,
    MonitorEventKind.HANDSHAKE_FAILED_PROTOCOL,
    MonitorEventKind.HANDSHAKE_FAILED_AUTH,
}


def _failure(event: MonitorEvent) -> str:
    """What a monitor event says went wrong, in words."""
    if event.kind is MonitorEventKind.HANDSHAKE_FAILED_AUTH:
        return "it refused this client's key"
    if event.kind is MonitorEventKind.HANDSHAKE_FAILED_PROTOCOL:
        return "no ZeroMQ handshake: another protocol, kind of socket or security mechanism is spoken there"
    if event.kind is MonitorEventKind.HANDSHAKE_FAILED_NO_DETAIL:
        return "the connection was closed during the handshake: is a ZeroMQ socket there?"
    return "nobody listens there, there is no such host, or it does not answer; trying again"
