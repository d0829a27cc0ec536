"""The server's ROUTER socket: sessions come and go, records in, coalesced replies out, nobody waits for anybody."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context

from aiozpat.codec import Values
from aiozpat.errors import PeerUnreachable, ProtocolError, StatusCode
from aiozpat.observability.notices import Notices, printable
from aiozpat.protocol.liveness import Liveness, Verdict
from aiozpat.protocol.outbox import Outbox, most_control
from aiozpat.protocol.records import (
    BUFFER_LIMIT,
    BYE,
    CODEC,
    GOAWAY,
    HEADER_LIMIT,
    PING,
    RESET,
    VERSION,
    VERSIONS,
    Ack,
    Buffer,
    Bye,
    Goaway,
    Hello,
    NotAzp,
    Ping,
    Pong,
    Record,
    Request,
    UnknownVersion,
    encode,
    join,
    split,
    split_timeless,
)
from aiozpat.rpc.buffers import views
from aiozpat.rpc.executor import FLUSH_AT, Executor
from aiozpat.rpc.limits import Limits
from aiozpat.rpc.session import Session
from aiozpat.rpc.settings import MISSES, LinkSettings, buffer_of, window_of
from aiozpat.transport import DRAIN, Context, Frame, MonitorEvent, MonitorEventKind, Socket, SocketKind, source_fd

_log = logging.getLogger("aiozpat.server")
_monotonic = time.monotonic

_SENDS = 16  # messages to one client before the next one's turn
_CONFIRM = (0.0, 0.01, 0.05, 0.2)  # seconds after a disconnect at which to ask the socket whether the peer is gone


class Listener:
    """The sessions of one server.

    Args:
        context: Whose loop and sockets; it is held, until this is closed.
        settings: What to tell clients in the hello.
        limits: The server's limits.
        notices: Where drops and breaches are counted.
        codecs: What clients may encode values with, beside MessagePack, by name.
    """

    def __init__(
        self,
        context: Context,
        settings: LinkSettings,
        limits: Limits,
        notices: Notices,
        codecs: Mapping[str, Values],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._variables = copy_context()  # not those of whichever handler answers first
        self._context = context
        self._settings = settings
        self._limits = limits
        # Results stop at the limit; the errors in their place, and refusals, may come to as much again.
        self._most_waiting = 2 * limits.backlog_bytes + HEADER_LIMIT
        self._most_control = most_control(limits.max_calls_per_peer)
        self._notices = notices
        self._codecs: dict[str, Values | None] = {CODEC: None, **codecs}
        self.sessions: dict[bytes, Session] = {}
        self._by_fd: dict[int, set[Session]] = {}  # by the connection that their hello came by
        self.executor: Executor | None = None
        self._dirty: list[Session] = []
        self._next_turn: list[Session] = []  # had more to send than one turn allows
        self._flushing = False
        self._taking = False  # in the midst of a message's records
        self._blocked: dict[bytes, Session] = {}
        self._changed: asyncio.Future[None] | None = None
        self._token = 0
        self.socket = Socket(
            context,
            SocketKind.ROUTER,
            settings.socket_options(),
            on_readable=self._on_readable,
            on_writable=self._on_writable,
            max_frames=1 + BUFFER_LIMIT,
        )
        try:
            self.socket.watch(self._on_event)
        except BaseException:
            self.socket.detach(0)
            raise
        self._ticker = self._loop.call_later(settings.heartbeat / 2, self._tick)

    # What arrives

    def _on_readable(self) -> None:
        socket = self.socket
        identity = socket.receive_first()
        if identity is None:
            return
        session = self.sessions.get(identity)
        try:
            if session is None:
                self._on_stranger(identity, socket.receive_rest())
                return
            header = socket.receive_first() or b""  # a routing id never comes alone
            frames = socket.receive_rest()  # before anything is raised over the header
            self._on_message(session, len(header), split(header), frames)
        except NotAzp as error:
            self._notices.note("not azp", str(error))
        except UnknownVersion as error:
            self._reset(identity, StatusCode.UNIMPLEMENTED, str(error))
        except ProtocolError as error:
            self._reset(identity, StatusCode.INVALID_ARGUMENT, str(error))

    def _on_message(self, session: Session, nbytes: int, records: list[Record], frames: list[Frame]) -> None:
        """Take the records of a header of so many bytes, and the frames behind it."""
        session.liveness.heard = now = _monotonic()
        buffers: Sequence[memoryview] = ()
        outbox = session.outbox
        if frames:
            buffers = views(frames)
            nbytes += sum(map(len, buffers))
        outbox.received = received = outbox.received + nbytes
        if received >= outbox.ack_at:
            outbox.acknowledge()
            self._mark(session)
        self._taking = len(records) > 1  # what ends at once is sent below, together
        try:
            if self.executor is not None:
                self.executor.receive(session, records, buffers, now)
        finally:
            self._taking = False
            if self._dirty:
                if outbox.waiting or len(records) != 1 or type(records[0]) is not Request:
                    self._flush()
                else:  # an acknowledgement, which may leave with the answer
                    self._later()
        if outbox.nbytes - outbox.nbytes_apart > self._most_waiting:
            self._drop(session, "does not read what its calls get")
        if len(session.calls) > 1:
            self._later()  # behind the tasks just started, whose replies then leave together

    def drain(self) -> bool:
        """Take what has arrived, for a handler that has waited long; False if there is more."""
        return self._variables.run(self.socket.drain)  # calls that this starts have nothing of that handler's

    def control(self, session: Session, record: Record) -> None:
        """Take a record that is not about a call."""
        if type(record) is Ping:
            session.outbox.pong(record.token)
            self._mark(session)
        elif type(record) is Ack:
            if session.outbox.on_ack(record.received):
                session.stuck_since = None
                if session.outbox.waiting:
                    self._mark(session)
        elif type(record) is Bye:
            self._on_bye(session)
        elif type(record) is Pong:
            if session.awaited is not None and record.token >= session.awaited:
                session.awaited = None
                self._wake()
        elif not isinstance(record, Goaway):
            raise ProtocolError(f"a client does not send a {type(record).__name__.lower()} here")

    def _on_bye(self, session: Session) -> None:
        """The client leaves, or answers our bye: answer in the first case, and end what runs for it."""
        if not session.ending:
            session.ending = True
            session.outbox.control(encode((BYE, "")))
            self._send(session)
        self._end(session, said_goodbye=True)

    # Sessions

    def _on_stranger(self, identity: bytes, frames: list[Frame]) -> None:
        """A message from a peer without a session: a hello opens one, anything else is answered with a reset."""
        header = frames[0].bytes
        records: list[Record] = []
        first: Record | None
        try:
            records = split(header)
            first = records[0] if records else None
        except UnknownVersion:
            first = split_timeless(header)
            if not isinstance(first, Hello):
                raise
        if not isinstance(first, Hello):
            if not all(isinstance(record, Bye) for record in records):
                self._reset(identity, StatusCode.UNAVAILABLE, "no such session here: begin with a hello")
            return
        session = self._open(identity, first, source_fd(frames[0]))
        if session is not None:
            self._on_message(session, len(header), records[1:], frames[1:])

    def _open(self, identity: bytes, hello: Hello, fd: int) -> Session | None:
        """Open a session, or say why not."""
        executor = self.executor
        if not set(hello.versions) & set(VERSIONS):
            text = f"no version in common: the client speaks {hello.versions[:20]}, this server {list(VERSIONS)}"
            self._reset(identity, StatusCode.UNIMPLEMENTED, text)
        elif hello.codec not in self._codecs:
            spoken = ", ".join(self._codecs)
            text = f"codec {hello.codec[:40]!r} is not spoken here, but {spoken}"
            self._reset(identity, StatusCode.UNIMPLEMENTED, text)
        elif executor is None or executor.refusing is not None:
            self._notices.count("turned away while draining")
            self._send_reset(identity, StatusCode.UNAVAILABLE, "the server is draining")
        elif len(self.sessions) >= self._limits.max_sessions:
            self._reset(identity, StatusCode.RESOURCE_EXHAUSTED, f"{len(self.sessions)} clients are connected")
        else:
            now = _monotonic()
            session = Session(
                self,
                identity,
                f"{printable(hello.name[:100])}/{hello.session[:4].hex()}",
                fd,
                Outbox(window_of(hello.limits, self._limits.window_bytes)),
                Liveness(self._settings.heartbeat, MISSES, now),
                buffer_of(hello.limits, self._settings.options.max_message_bytes),
                self._codecs[hello.codec],
            )
            self.sessions[identity] = session
            self._by_fd.setdefault(fd, set()).add(session)
            session.outbox.control(self._settings.hello(hello.session, hello.codec, (VERSION,)))
            self._mark(session)
            _log.debug("session opened: %s", session.label)
            return session
        return None

    def _reset(self, identity: bytes, code: StatusCode, reason: str) -> None:
        """Turn a peer away, and end its session if it has one."""
        session = self.sessions.get(identity)
        label = session.label if session is not None else f"a peer without a session ({identity.hex()[:10]})"
        self._notices.note("reset", f"{label}: {reason}")
        if session is not None:
            self._end(session)
        self._send_reset(identity, code, reason)

    def _send_reset(self, identity: bytes, code: StatusCode, reason: str) -> None:
        message = join([encode((RESET, int(code), reason[:1000], VERSIONS))])
        try:
            sent = self.socket.send_frames((identity, message))
        except PeerUnreachable:
            sent = False
        if not sent:
            self._notices.count("reset not sent")

    def _end(self, session: Session, *, said_goodbye: bool = False) -> None:
        """Forget a session, and cancel what runs for it."""
        if self.sessions.get(session.identity) is not session:
            return
        del self.sessions[session.identity]
        self._blocked.pop(session.identity, None)
        of_fd = self._by_fd[session.fd]
        of_fd.discard(session)
        if not of_fd:
            del self._by_fd[session.fd]
        session.ending = True
        if self.executor is not None:
            self.executor.abandon(session, said_goodbye=said_goodbye)
        session.outbox.clear()  # a handler that does not end yet keeps the session
        _log.debug("session ended: %s", session.label)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _on_event(self, event: MonitorEvent) -> None:
        if event.kind is MonitorEventKind.DISCONNECTED:
            self._confirm(event.value, 0)

    def _confirm(self, fd: int, attempt: int) -> None:
        """A connection is gone: the sessions that came by its fd are pinged, and unreachable ones ended.

        The fd may be another connection's by now, and the socket may hear of the end a moment after the monitor.
        """
        if self.socket.closed:
            return
        self.socket.drain()
        suspects = tuple(self._by_fd.get(fd, ()))
        for session in suspects:
            self._ping(session)
        self._flush_and_settle()
        if any(session.identity in self.sessions for session in suspects) and attempt + 1 < len(_CONFIRM):
            self._loop.call_later(_CONFIRM[attempt + 1], self._confirm, fd, attempt + 1)

    def _ping(self, session: Session) -> None:
        self._token += 1
        session.outbox.control(encode((PING, self._token)))
        self._mark(session)

    def _tick(self) -> None:
        """Every half heartbeat: read what has arrived, then judge."""
        if self.socket.closed:
            return
        self._ticker = self._loop.call_later(self._settings.heartbeat / 2, self._tick)
        # In a flood too: a ROUTER takes from its peers in turn, so each has been heard whose word had arrived.
        if not self.socket.drain() and len(self.sessions) > DRAIN // 2:
            return
        now = _monotonic()
        for session in list(self.sessions.values()):
            verdict = session.liveness.tick(now)
            stuck = session.stuck_since
            if verdict is Verdict.DEAD:
                self._notices.note("client lost", f"{session.label}: no word for {MISSES} heartbeats")
                self._end(session)
            elif stuck is not None and now - stuck > self._limits.slow_peer_seconds:
                self._drop(session, f"took nothing for {now - stuck:.1f} s")
            else:
                if verdict is Verdict.PING:
                    self._ping(session)
                if session.outbox.acknowledge_early():
                    self._mark(session)
        self._flush_and_settle()

    def _drop(self, session: Session, what: str) -> None:
        """Give up a client that does not read."""
        self._notices.note("slow peer dropped", f"{session.label} {what}; {session.outbox.nbytes} bytes dropped")
        self._reset(session.identity, StatusCode.RESOURCE_EXHAUSTED, "replies were not read in time")

    # What leaves

    def post(self, session: Session) -> None:
        """An answer was put into this session's outbox."""
        if session.dirty:
            if len(session.outbox) >= FLUSH_AT and not session.blocked:
                self._send(session)
        elif len(session.calls) > 1 or self._taking or session.blocked:
            self._mark(session)
            self._later()
        else:  # no other is to be expected that it could leave with
            self._send(session)
            self.socket.look()

    def send_alone(self, session: Session, record: bytes, buffers: Sequence[Buffer]) -> bool:
        """Send an answer that no other is to be expected with, unless it has to be queued."""
        if len(session.calls) > 1 or self._taking or session.blocked or session.ending:
            return False
        outbox = session.outbox
        header = outbox.alone(record)
        if header is None:
            return False
        try:
            nbytes = self._try(session, header, buffers)
        except PeerUnreachable:
            return False  # who tries again sees to what comes of that
        if not nbytes:
            return False
        outbox.left_alone(nbytes)
        session.stuck_since = None
        self.socket.look()
        return True

    def touch(self, session: Session) -> None:
        """Something was put into this session's outbox, and more may follow: send it in a moment."""
        self._mark(session)
        self._later()

    def push(self, session: Session) -> None:
        """Enough for a message was put into this session's outbox."""
        self.touch(session)
        if not session.blocked:
            self._send(session)

    def _mark(self, session: Session) -> None:
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)

    def _flush_and_settle(self) -> None:
        self._flushing = False
        if self.socket.closed:
            return
        turn, self._next_turn = self._next_turn, []
        for session in turn:
            self._mark(session)
        self._flush()
        self.socket.settle()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            session.dirty = False
        for session in dirty:
            if not session.blocked:
                self._send(session)
            elif session.outbox.controls > self._most_control:
                self._drop(session, f"does not read what it is told: {session.outbox.controls} control records wait")

    def _try(self, session: Session, header: bytes, buffers: Sequence[Buffer]) -> int:
        """Try to send a message; its size in bytes, 0 if there is no room.

        Raises:
            PeerUnreachable: Its connection is gone.
        """
        if not buffers:
            return len(header) if self.socket.send_to(session.identity, header) else 0
        sent = self.socket.send_large((session.identity, header, *buffers))
        return len(header) + sum(map(len, buffers)) if sent else 0

    def _send(self, session: Session) -> None:
        """Send what the session's window and the socket allow; the rest waits for an ack or for room."""
        outbox = session.outbox
        if self.sessions.get(session.identity) is not session:
            return
        for _ in range(_SENDS):
            message = outbox.peek()
            if message is None:  # nothing, or nothing that the window lets through
                if outbox.waiting:
                    session.stuck_since = session.stuck_since or _monotonic()
                return
            try:
                nbytes = self._try(session, *message)
            except PeerUnreachable:
                if not session.ending:
                    self._notices.count("client gone")
                    _log.info("%s is gone without a goodbye", session.label)
                self._end(session, said_goodbye=session.ending)
                return
            if not nbytes:
                self._block(session)
                return
            pending = outbox.commit(nbytes)
            if outbox.taken or not outbox.waiting:
                session.stuck_since = None
            if session.turns.waiting:
                session.turns.go_on()
            elif not pending:
                return
        self._next_turn.append(session)
        self._later()

    def _later(self) -> None:
        if not self._flushing and not self._taking:
            self._flushing = True
            self._loop.call_soon(self._flush_and_settle, context=self._variables)

    def _block(self, session: Session) -> None:
        session.blocked = True
        session.stuck_since = session.stuck_since or _monotonic()
        self._blocked[session.identity] = session

    def _on_writable(self) -> None:
        """Somebody may have room again: try those that were full, in turn."""
        blocked, self._blocked = self._blocked, {}
        for session in blocked.values():
            session.blocked = False
            self._send(session)

    # The end

    def goaway(self, reason: str) -> None:
        """Tell every client to go elsewhere, and ask for a pong: behind that no call of it comes any more."""
        for session in self.sessions.values():
            session.outbox.control(encode((GOAWAY, reason)))
            self._ping(session)
            session.awaited = self._token
        self._flush_and_settle()

    async def bye(self, reason: str, timeout: float) -> None:
        """Say that nothing more will come, and wait for the clients' answers, so that they have read everything.

        First those must have read the goaway: calls that are on their way until then are to be refused, not lost. Who
        answers no pings is waited for half the time only.
        """
        now = _monotonic()
        patience, deadline = now + timeout / 2, now + timeout
        while any(s.awaited is not None for s in self.sessions.values()) and (left := patience - _monotonic()) > 0:
            await self._wait_for(left)
        while any(s.outbox.waiting for s in self.sessions.values()) and _monotonic() < deadline:
            await self._wait_for(0.01)
        for session in self.sessions.values():
            session.ending = True
        self._broadcast(encode((BYE, reason)))
        while self.sessions and (left := deadline - _monotonic()) > 0:
            await self._wait_for(left)
        if self.sessions:
            self._notices.note("no goodbye", f"{len(self.sessions)} clients did not answer within {timeout:.1f} s")

    async def _wait_for(self, timeout: float) -> None:
        """Wait until a session ends, or has read our goaway."""
        self._changed = self._loop.create_future()
        await asyncio.wait({self._changed}, timeout=timeout)

    def _broadcast(self, record: bytes) -> None:
        for session in self.sessions.values():
            session.outbox.control(record)
            self._mark(session)
        self._flush_and_settle()

    async def close(self) -> None:
        """Close the socket; every session ends."""
        self._ticker.cancel()
        for session in list(self.sessions.values()):
            self._end(session)
        try:
            await self.socket.close(0)
        finally:
            await self._context.release()

    def waiting_bytes(self) -> int:
        """Bytes of replies that wait to be sent."""
        return sum(session.outbox.nbytes for session in self.sessions.values())

    def each(self) -> Iterable[Session]:
        """The sessions there are."""
        return self.sessions.values()
