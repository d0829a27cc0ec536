"""The one owner of a ZeroMQ socket on an event loop.

zmq.asyncio loses messages when a receive is cancelled, hangs when somebody else touches the socket, and costs seven
times as much for small messages. So nothing is ever awaited on the socket: a reader on its FD drains it in batches
with the backend's own methods, and every send is a try that either takes the message whole or leaves it.

The FD is edge-triggered, and any operation on the socket (a send as much as a receive) may consume the edge. Hence the
one rule here: after touching the socket, look at EVENTS before going back to sleep. Inside the pump the loop does it;
whoever sends from elsewhere calls `settle` afterwards, or `look`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import zmq
import zmq.asyncio
import zmq.backend

from aiozpat.errors import AiozpatError, PeerUnreachable, UsageError
from aiozpat.transport import attach
from aiozpat.transport.address import is_free
from aiozpat.transport.asking import asking
from aiozpat.transport.context import Context
from aiozpat.transport.kinds import ALWAYS_WRITABLE, SUBSCRIPTION_BYTES, Buffer, Frame, SocketKind, whole
from aiozpat.transport.monitor import Monitor, MonitorEvent
from aiozpat.transport.options import SocketOptions, linger_milliseconds
from aiozpat.transport.process import watch_forks

_BATCH = 64  # messages received before the loop's other work gets its turn
_ASKED = 4  # of those; where so many stand in line, one vain try to receive costs less than to ask each time
_BATCH_BYTES = 512 * 1024  # copied out of libzmq before that; several large bodies at once cost page faults besides
_COUNTED = 1024  # bytes of a message; shorter ones are not counted, since a whole batch of them is far below that
DRAIN = 1000  # messages that are taken at once before peers are judged
_FREED = 1.0  # seconds until an address that does not get free is left to libzmq, or to who has taken it
_RETRY = 0.02  # seconds between tries to send to full peers, should the FD not tell
_COPY_BELOW = 64 * 1024  # bytes; above, a frame is handed to libzmq without a copy
# The same for memory of Python's, of which pyzmq keeps books in a thread of its own: that takes longer than to copy as
# much as malloc has room for without asking the system for a mapping (128 KiB, libzmq's own part of it included).
_COPY_OWN_BELOW = 127 * 1024

_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS = zmq.EVENTS
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)
_zmq_poll: Any = zmq.backend.zmq_poll
_Backend: Any = zmq.backend.Socket
_NOTHING = (zmq.EAGAIN, zmq.EFSM)  # what a receive says where no message waits; the second by a REQ that has not asked


class Socket:
    """A socket, drained in batches, that never blocks.

    Args:
        context: Whose loop the socket belongs to.
        kind: ZeroMQ's socket type.
        options: What to set on it.
        on_readable: Called when at least one message waits; it calls `receive`, and is called again while more wait.
            If it returns True, it took many at once, and the loop's other work gets its turn first.
        on_writable: Called after a send was refused (False) and there may be room again.
        max_frames: How many frames of a message are kept, besides a routing id; the rest but one is dropped, so that
            the receiver sees it.

    Raises:
        AiozpatError: The system has no more sockets to give.
    """

    __slots__ = (
        "__weakref__",
        "_ask_events",
        "_ask_more",
        "_bound",
        "_brings",
        "_closed",
        "_context",
        "_endpoints",
        "_fd",
        "_happens",
        "_loop",
        "_max_frames",
        "_monitor",
        "_more",
        "_on_readable",
        "_on_writable",
        "_options",
        "_paused",
        "_recv",
        "_retry",
        "_send",
        "_small",
        "_socket",
        "_vague",
        "_variables",
        "_want_write",
        "kind",
        "overlong",
        "scheduled",
    )

    def __init__(
        self,
        context: Context,
        kind: SocketKind,
        options: SocketOptions,
        *,
        on_readable: Callable[[], bool | None],
        on_writable: Callable[[], object] | None = None,
        max_frames: int,
    ) -> None:
        self.kind = kind
        self._loop = asyncio.get_running_loop()
        # Callbacks run in the context of who opened the socket, never in that of a task that happened to send.
        self._variables = copy_context()
        self._context = context
        self._options = options
        self._small = min(_COPY_BELOW, options.max_message_bytes + 1)  # bytes; a shorter frame goes without a check
        self._on_readable = on_readable
        self._on_writable = on_writable
        self._max_frames = max_frames + (kind is SocketKind.ROUTER)
        self._closed = False
        self._paused = False
        self._vague = kind in ALWAYS_WRITABLE
        self.scheduled = False  # to look at EVENTS, at the end of this turn
        self._want_write = False
        self._brings = False  # whether the FD's last word was for a message
        self.overlong = 0  # messages of more than `max_frames` frames that `receive_many` has dropped
        self._endpoints: list[str] = []
        self._bound: list[str] = []
        self._monitor: Monitor | None = None
        self._retry: asyncio.TimerHandle | None = None
        zmq_context = context.acquire()
        try:
            self._socket = zmq_context.socket(int(kind))
        except zmq.ZMQError as error:
            context.drop(0)
            raise AiozpatError(f"can't open a socket: {error.strerror}") from None
        try:
            self._set_up(options)
        except BaseException as error:
            self._socket.close(linger=0)
            context.drop(0)
            if isinstance(error, zmq.ZMQError):
                raise AiozpatError(f"can't set up a socket: {error.strerror}") from None
            raise
        watch_forks(self, Socket._on_fork)

    def _on_fork(self) -> None:
        """Be closed in this process, without a touch of what it shares with its parent: the loop's epoll, say.

        Else the loop, if it goes on here, would ask libzmq for ever, which says in a child that it was interrupted.
        """
        self._closed = True
        if self._monitor is not None:
            self._monitor.abandon()

    def _set_up(self, options: SocketOptions) -> None:
        for number, value in options.settings():
            self._socket.setsockopt(number, value)
        # Not IMMEDIATE: with it, libzmq throws away at a disconnect what has arrived and was not read yet.
        if self.kind is SocketKind.ROUTER:
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        elif self.kind is SocketKind.XPUB:
            self._socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES)  # it gets nothing else
            self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # tell of each connection's subscriptions, not of news alone
            self.set_lossy(False)
        elif self.kind is SocketKind.SUB:
            self._socket.setsockopt(zmq.SNDHWM, 0)  # it sends subscriptions alone, and would drop those past the mark
        # Bound once: attribute look-ups and zmq.asyncio's overrides would cost half of a small send or receive.
        self._send: Any = _Backend.send.__get__(self._socket)
        self._recv: Any = _Backend.recv.__get__(self._socket)
        self._ask_more, self._more = asking(self._socket, zmq.RCVMORE, fails=False)
        self._ask_events, self._happens = asking(self._socket, _EVENTS)
        self._fd: int = _Backend.get(self._socket, zmq.FD)
        self._add_reader()

    def _add_reader(self) -> None:
        try:
            self._loop.add_reader(self._fd, self._pump)
        except NotImplementedError:
            raise UsageError(
                "this event loop has no add_reader (Windows' Proactor loop has none): "
                "use aiozpat.run(), or asyncio.run(..., loop_factory=asyncio.SelectorEventLoop)"
            ) from None

    @property
    def closed(self) -> bool:
        """Whether `close` or `detach` was called."""
        return self._closed

    def watch(self, on_event: Callable[[MonitorEvent], None]) -> None:
        """Call back for each event of the socket's connections from now on; for one function only.

        Raises:
            AiozpatError: The system has no more sockets to give.
        """
        if self._monitor is None:
            try:
                self._monitor = Monitor(self._loop, self._socket, on_event)
            except zmq.ZMQError as error:
                raise AiozpatError(f"can't watch a socket's connections: {error.strerror}") from None

    @property
    def bound(self) -> tuple[str, ...]:
        """Where it is bound, wildcards resolved."""
        return tuple(self._bound)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it is bound (wildcards resolved) and connected, in the order of the calls."""
        return tuple(self._endpoints)

    def bind(self, endpoint: str) -> str:
        """Bind, and return the endpoint with the port that the system chose.

        Raises:
            InvalidEndpoint: Not an address, or not one of this machine.
            AddressInUse: Somebody listens there.
        """
        self.look()  # first: an attempt that fails may consume the FD's edge too
        bound = attach.bind(self._socket, endpoint, ipv6=self._options.ipv6)
        self._endpoints.append(bound)
        self._bound.append(bound)
        return bound

    def connect(self, endpoint: str) -> None:
        """Connect in the background, again and again; the monitor tells how it goes.

        Raises:
            InvalidEndpoint: Not an address that can be connected to.
        """
        self.look()  # over inproc, what the peer sends before the first look at EVENTS would not wake the FD
        self._endpoints.append(attach.connect(self._socket, endpoint, ipv6=self._options.ipv6))

    def has_input(self) -> bool:
        """Whether a message waits in libzmq's queues, as while this is paused."""
        self.look()  # the edge is consumed
        return bool(self._events() & _POLLIN)

    def disconnect(self, endpoint: str) -> None:
        """Let go of what libzmq does not connect to any more: it gives up a peer that broke its rules.

        What came from there and was not received is dropped. To be done before any other `connect`: libzmq may have
        freed the session, and still knows its address in memory; it would end another one that has come to be there.
        """
        with contextlib.suppress(zmq.ZMQError):  # it may have forgotten the endpoint as well
            self._socket.disconnect(endpoint)
        self.look()

    def connect_again(self, endpoint: str) -> None:
        """Connect once more, after a `disconnect`."""
        self.look()
        attach.connect(self._socket, endpoint, ipv6=self._options.ipv6)

    def correlate(self) -> None:
        """Number the requests of a REQ from now on, and drop the replies that bring another number back.

        Then a request may follow one that has no reply yet.
        """
        self._socket.setsockopt(zmq.REQ_CORRELATE, 1)
        self._socket.setsockopt(zmq.REQ_RELAXED, 1)

    def subscribe(self, prefix: bytes) -> None:
        """Let messages that begin so come in; a SUB's."""
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self.look()

    def unsubscribe(self, prefix: bytes) -> None:
        """Undo one `subscribe`."""
        self._socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
        self.look()

    def set_lossy(self, lossy: bool) -> None:
        """What an XPUB does with a message for a full subscriber: leave that one out, or send to nobody (False)."""
        self._socket.setsockopt(zmq.XPUB_NODROP, int(not lossy))

    def receive(self) -> list[bytes] | None:
        """The next message's frames, or None when there is none."""
        recv, ask_more, more = self._recv, self._ask_more, self._more
        try:
            frame = recv(_NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in _NOTHING:
                raise
            self._brings = False
            return None
        frames = [frame]
        ask_more()
        while more[0]:
            frame = recv(_NOBLOCK)
            if len(frames) <= self._max_frames:
                frames.append(frame)
            ask_more()
        return frames

    def receive_first(self) -> bytes | None:
        """The next message's first frame, or the next frame of a message; None when there is none.

        Where there may be others, `receive_rest` must follow: else they are what is received next.
        """
        recv = self._recv  # else looked for as a method first, as all of these
        try:
            frame: bytes = recv(_NOBLOCK)
        except zmq.Again:
            self._brings = False
            return None
        return frame

    def receive_frames(self) -> list[Frame] | None:
        """As `receive`, but the frames are left where libzmq has them, and know where they come from."""
        try:
            frame: Frame = self._recv(_NOBLOCK, False)
        except zmq.Again:
            self._brings = False
            return None
        return [frame, *self._rest(1)] if frame.more else [frame]

    def receive_rest(self) -> list[Frame]:
        """The other frames of a message of which some were received, where libzmq has them."""
        if self._closed:
            return []  # it is not there to be asked
        ask_more = self._ask_more
        ask_more()
        return self._rest(1) if self._more[0] else []

    def receive_many(self, limit: int) -> list[tuple[bytes, ...]]:
        """What has arrived, up to `limit` messages or about as many bytes as keep the loop waiting for a moment."""
        recv, noblock, left = self._recv, _NOBLOCK, _BATCH_BYTES
        ask_more, more = self._ask_more, self._more  # a pyzmq frame knows as well, but costs three times as much
        messages: list[tuple[bytes, ...]] = []
        append = messages.append
        try:
            for _ in range(limit):
                first = recv(noblock)
                ask_more()
                if not more[0]:
                    append((first,))
                    nbytes = len(first)
                else:
                    last = recv(noblock)
                    ask_more()
                    if not more[0]:  # topic and body: as fast as can be
                        append((first, last))
                        nbytes = len(first) + len(last)
                    else:
                        frames = (first, last, *[frame.bytes for frame in self._rest(2)])
                        if len(frames) <= self._max_frames:
                            append(frames)
                        else:
                            self.overlong += 1
                        nbytes = sum(map(len, frames))
                if nbytes > _COUNTED:
                    left -= nbytes
                    if left <= 0:
                        break
        except zmq.Again:
            if not messages:
                self._brings = False
        return messages

    def _rest(self, kept: int) -> list[Frame]:
        """The frames that follow those `kept`, as far as they are kept too."""
        frames: list[Frame] = []
        more = True
        while more:
            frame: Frame = self._recv(_NOBLOCK, False)
            if kept + len(frames) <= self._max_frames:
                frames.append(frame)
            more = frame.more
        return frames

    def send(self, payload: Buffer) -> bool:
        """Try to send one frame; False when there is no room or no connection, and then `on_writable` follows.

        Its size is the caller's to know, here and in `send_to`: a header of the protocol has a limit of its own.
        """
        send = self._send
        try:
            send(payload, _NOBLOCK)
        except zmq.Again:
            self._refuse()
            return False
        return True

    def send_to(self, identity: bytes, payload: bytes) -> bool:
        """Try to send a ROUTER's peer a message of one frame; as `send` otherwise.

        Raises:
            PeerUnreachable: No such peer is connected.
        """
        send = self._send
        try:
            send(identity, _NOBLOCK_MORE)
            send(payload, _NOBLOCK, len(payload) < _COPY_BELOW)
        except zmq.ZMQError as error:
            self._not_sent(error)
            return False
        return True

    def send_frames(self, frames: Sequence[Buffer]) -> bool:
        """Try to send a message of several frames, whole or not at all; as `send` otherwise.

        The frames must be buffers: one that fails to convert after the first is out would leave the message open, and
        the next message's first frame would end up as its tail.

        Raises:
            PeerUnreachable: A ROUTER's first frame names nobody who is connected.
            ValueError: A frame is over `SocketOptions.max_message_bytes`.
        """
        send = self._send
        count = len(frames)
        try:
            # Nearly all messages are one or two small frames: a loop would double what they cost.
            if count == 2:
                first, last = frames
                if len(last) < (small := self._small) and len(first) < small:
                    send(first, _NOBLOCK_MORE)
                    send(last, _NOBLOCK)
                    return True
            elif count == 1 and len(frames[0]) < self._small:
                send(frames[0], _NOBLOCK)
                return True
            self.check_sizes(frames)
            self._send_each(frames)
        except zmq.ZMQError as error:
            self._not_sent(error)
            return False
        return True

    def send_large(self, frames: Sequence[Buffer]) -> bool:
        """As `send_frames`, for frames whose sizes the caller has checked."""
        try:
            self._send_each(frames)
        except zmq.ZMQError as error:
            self._not_sent(error)
            return False
        return True

    def _send_each(self, frames: Sequence[Buffer]) -> None:
        send, left, refused = self._send, len(frames), False
        for frame in frames:
            left -= 1
            try:
                if len(frame) < _COPY_BELOW:
                    send(frame, _NOBLOCK_MORE if left else _NOBLOCK)
                else:
                    payload = whole(frame)
                    copy = payload is frame and len(frame) < _COPY_OWN_BELOW
                    send(payload, _NOBLOCK_MORE if left else _NOBLOCK, copy)
            except zmq.Again:
                if left == len(frames) - 1:
                    raise
                # The peer went between two frames. libzmq drops what follows, up to the message's end: if that did not
                # come, it would drop the next try as well, and say that it was sent.
                refused = True
        if refused:
            raise zmq.Again

    def _not_sent(self, error: zmq.ZMQError) -> None:
        """There was no room, or else nobody who could get it, which is raised."""
        if error.errno == zmq.EHOSTUNREACH:
            raise PeerUnreachable("no such peer is connected") from None
        if not isinstance(error, zmq.Again):
            raise error
        self._refuse()

    def check_sizes(self, frames: Sequence[Buffer]) -> None:
        """Refuse what peers would cut the connection for: libzmq does it without a word, and may not connect again.

        Raises:
            ValueError: A frame is over `SocketOptions.max_message_bytes`.
        """
        most = self._options.max_message_bytes
        for frame in frames:
            if len(frame) > most:
                raise ValueError(
                    f"a frame of {len(frame)} bytes; SocketOptions.max_message_bytes is {most}, here and at the peers"
                )

    def settle(self) -> None:
        """Look at EVENTS after a send from outside `on_readable`: it may have consumed the FD's edge."""
        if self._closed or self.scheduled:
            return
        if self._want_write and self._vague and self._is_about_to_wake():
            return
        events = self._events()
        if (events & _POLLIN and not self._paused) or (events & _POLLOUT and self._want_write and not self._vague):
            self.look()

    def look(self) -> None:
        """Look at EVENTS in the next turn of the loop: `settle` for who sends much; needed only unless `scheduled`."""
        if not self.scheduled and not self._closed:
            self.scheduled = True
            self._loop.call_soon(self._pump, True, context=self._variables)

    def pause(self) -> None:
        """Receive no more until `resume`; libzmq's queues, and then the senders, fill up."""
        self._paused = True

    def resume(self) -> None:
        """Receive again."""
        if self._paused:
            self._paused = False
            self.look()

    def _pump(self, again: bool = False) -> None:
        """Receive, on the FD's word or `again` on our own.

        Asking for EVENTS costs as much as receiving. So the FD's word is taken for a message where the last one was,
        and one that comes alone is followed by one look, after the callbacks that it caused and whatever they sent;
        only where messages stand in line are they taken in one go.
        """
        self.scheduled = False
        if self._closed:
            return
        if self._want_write and self._vague:
            # It always says that it is writable; that its FD woke is the only sign that a full peer may have room.
            if again and self._is_about_to_wake():
                return
            if not again:
                self._take_writable()
                if self.closed:  # by what was done; a property, or mypy would not believe it
                    return
        try:
            if again or not self._brings or self._paused or self._want_write:
                if not self._receive_while(again):
                    return
            else:
                on_readable = self._on_readable
                on_readable()
        except BaseException:
            self.look()  # the edge is consumed: whatever went wrong, somebody must look again
            raise
        self.look()

    def _receive_while(self, again: bool) -> bool:
        """Do what EVENTS asks for, again and again if need be; whether more may be waiting."""
        for number in range(_BATCH):
            if number >= _ASKED and not (self._want_write or self._paused):
                brought, much = self._receive_blindly()
                if much or not brought:
                    return brought
            else:
                events = self._events()
                if self._want_write and events & _POLLOUT and not self._vague:
                    self._take_writable()
                elif not events & _POLLIN or self._paused:
                    return False
                else:
                    self._brings = True
                    if self._on_readable() or not again:
                        return True
            if self.closed:  # by what was done
                return False
        return True

    def _events(self) -> int:
        """What may be done now; there must be a socket still."""
        ask_events = self._ask_events
        if ask_events():  # pyzmq raises what is the matter, or asks again after a signal
            return int(_Backend.get(self._socket, _EVENTS))
        return self._happens[0]

    def _receive_blindly(self) -> tuple[bool, bool]:
        """Receive without a look at EVENTS: whether there was something, as Again says as well; whether much."""
        self._brings = True
        much = bool(self._on_readable())
        brought, self._brings = self._brings, True
        return brought, much

    def _is_about_to_wake(self) -> bool:
        """Whether the FD has a word that the loop has not heard yet: a look at EVENTS would take it away."""
        return bool(_zmq_poll([(self._fd, _POLLIN)], 0))

    def drain_events(self) -> None:
        """Report the events of connections that libzmq has told of; those precede the messages of the connection."""
        if self._monitor is not None:
            self._monitor.drain()

    def _refuse(self) -> None:
        """There was no room; the FD tells when there is, or a look every so often where it may not."""
        self._want_write = True
        if self._vague and self._retry is None:
            self._retry = self._loop.call_later(_RETRY, self._on_retry, context=self._variables)

    def _on_retry(self) -> None:
        self._retry = None
        if self._want_write:
            self._take_writable()
            self.look()

    def _take_writable(self) -> None:
        self._want_write = False
        if self._on_writable is not None and not self._closed:
            self._on_writable()

    def drain(self) -> bool:
        """Receive what has arrived, before a peer is judged gone; False if there is more than can be taken at once."""
        for _ in range(DRAIN):
            if self._closed or not self._events() & _POLLIN:
                if self._want_write:
                    self.look()  # the edge that told of room is consumed
                return True
            try:
                self._on_readable()
            except BaseException:
                self.look()
                raise
        self.look()
        return False

    async def close(self, linger: float) -> None:
        """Close, and wait for the context's end if this was its last socket, and until its addresses are free.

        Args:
            linger: Seconds for which libzmq goes on sending what was queued.
        """
        if self._closed:
            return
        self.detach(linger)
        await self._context.settle()
        await self.freed()

    def detach(self, linger: float) -> None:
        """Close without waiting for the context's end, which somebody who holds it takes care of."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        if self._retry is not None:
            self._retry.cancel()
        if self._monitor is not None:
            self._monitor.close()
        for endpoint in self._bound:
            if endpoint.startswith("inproc:"):  # free at once; elsewhere it would cut connections, and what lingers
                self._socket.unbind(endpoint)
        self._socket.close(linger=linger_milliseconds(linger))
        self._context.drop(linger)

    async def freed(self) -> None:
        """Wait, once it is closed, until one may bind again where it was bound: libzmq closes in the background."""
        end, pause = self._loop.time() + _FREED, 0.001
        while not all(map(is_free, self._bound)) and self._loop.time() < end:
            await asyncio.sleep(pause)
            pause *= 2
