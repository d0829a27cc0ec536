"""REQ: one request, one reply; usable again after a timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from aiozpat.endpoints.inbox import Inbox
from aiozpat.endpoints.line import Line, within
from aiozpat.endpoints.peers import is_inproc
from aiozpat.endpoints.reconnecting import Reconnecting
from aiozpat.errors import TimedOut
from aiozpat.message import FrameLike, Message, to_frames
from aiozpat.transport import Socket, SocketKind

# Where a REQ's queue of replies is full, libzmq (4.3.5) takes the next reply for a breach of the protocol and cuts the
# connection, with all that is on its way. Late replies fill it, of which there are no more than requests given up.
_LATE_REPLIES = 10_000

# What a request was waiting for when its time was over.
_TURN = "the requests before it were not done within {1} s; it was not sent"
_PEER = "no connection to {0} within {1} s; nothing was sent"
_REPLY = "no reply from {0} within {1} s"


class Requester(Reconnecting):
    """Asks one question at a time, and awaits its answer.

    After a timeout or a cancellation ZeroMQ's REQ socket would be stuck, or take the late reply for the next one's.
    Here the socket is closed then, and the next request goes by a new one, to the next of the endpoints. Concurrent
    requests wait for their turn.

    Where it binds, it keeps its socket: peers would not find another so soon, or come back to it with the late reply in
    their hands. There its requests bear a number, in a frame before the empty one (ZMQ_REQ_CORRELATE), which REP,
    `Replier` and `Router(framing="delimited")` give back, and a late reply is known by it. The price: requests that
    were given up stay in the queue to a peer that hangs, up to `SocketOptions.send_queue_messages` of them, and are
    handled if it goes on. There is room for 10,000 late replies, whatever `SocketOptions.receive_queue_messages` says.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to; several are asked in turn.
        linger: Seconds for which a request sent just before closing is still delivered.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
    """

    _kind = SocketKind.REQ
    _breach = "a reply without the empty frame before it, or one over SocketOptions.max_message_bytes,"

    def _prepare(self) -> None:
        super()._prepare()
        most = max(self._options.receive_queue_messages or 0, _LATE_REPLIES)
        self._options = replace(self._options, receive_queue_messages=most)
        self._turn = asyncio.Lock()
        self._line = Line(self._nowhere)
        self._inbox: Inbox[Message] = Inbox(1, _nothing, _nothing, self._nowhere)
        self._asked = False  # whether somebody waits for a reply
        self._first = 0  # whose turn it was among the addresses
        self._sent_before = 0  # when that was

    async def request(self, *frames: FrameLike, timeout: float | None = None) -> Message:
        """Send a request and wait for its reply.

        Cancelled, it may have been handled all the same, as after a timeout.

        Args:
            frames: The request's frames; text becomes UTF-8.
            timeout: Seconds for all of it: its turn, a connection, the reply. `None` waits for ever.

        Raises:
            TimedOut: No reply in time. The request may have been handled, unless it says that it was not sent; a late
                reply is given to no other one.
            TypeError: A frame is neither bytes, bytearray, memoryview nor str.
            ValueError: There is no frame, or one over `SocketOptions.max_message_bytes`.
            Closed: The endpoint is closed, or was while this waited.
        """
        parts = to_frames(frames)
        self._usable()
        awaited = [_TURN]
        if timeout is None:
            return await self._in_turn(parts, awaited)
        try:
            async with within(timeout):
                return await self._in_turn(parts, awaited)
        except TimeoutError:
            text = awaited[0].format(", ".join(self.endpoints) or "a peer", timeout)
            raise TimedOut(self._nowhere() + text) from None

    async def _in_turn(self, parts: Sequence[bytes], awaited: list[str]) -> Message:
        """Ask when nobody else does, and keep in `awaited` what that waits for."""
        async with self._turn:
            self._usable()
            awaited[0] = _PEER
            try:
                await self._line.send(lambda: self._try_to_ask(parts), None)
            except asyncio.CancelledError:
                if any(is_inproc(address.endpoint) for address in self._addresses):
                    self._abandon()  # libzmq does not connect again there: who was bound may have been replaced
                raise
            awaited[0] = _REPLY
            self._asked = True
            try:
                return await self._inbox.take(None)
            except BaseException:
                self._abandon()
                raise
            finally:
                self._asked = False

    def _try_to_ask(self, parts: Sequence[bytes]) -> bool:
        # Not in `bind`, where an earlier request may be out that bears no number. And only where it binds: a ROUTER
        # that takes three frames for a REQ's, as many do, would not know the four.
        if self._binds:
            self._usable().correlate()
        return self._try(parts)

    @property
    def _binds(self) -> bool:
        return any(address.is_bind for address in self._addresses)

    def _usable(self) -> Socket:
        socket = super()._usable()
        if socket.closed and self._context is not None:  # since a request was given up
            socket = self._socket = self._open(self._context)
        return socket

    def _abandon(self) -> None:
        """A request is given up: nor is the socket wanted any more that would get its reply."""
        self._inbox.clear()  # where it may be already
        if self._socket is None or self._closed or self._binds:
            return
        self._note_missed(self._socket)
        self._socket.detach(0)
        self._forget()
        # A socket begins with its first address, and that which was asked last may be dead.
        turn = self._turn_among_addresses()
        self._addresses = self._addresses[turn:] + self._addresses[:turn]
        self._first = 0

    def _note_missed(self, socket: Socket) -> None:
        """Count who was given up: the next request connects again before `_connect_again` would."""
        socket.drain_events()
        now = asyncio.get_running_loop().time()
        for endpoint in [endpoint for endpoint, missed in self._missed.items() if missed.is_sure(now)]:
            self._note_given_up(endpoint)

    def connect(self, endpoint: str) -> None:
        """Connect to one more endpoint, in the background; its turn comes after that of the others.

        Raises:
            InvalidEndpoint: Not an address that can be connected to.
        """
        first = self._turn_among_addresses() if self._addresses else 0
        super().connect(endpoint)
        self._first = first

    def _turn_among_addresses(self) -> int:
        """Which address is to be asked next, each counted once, as libzmq does; from here on `_first` stands for it."""
        self._addresses = list(dict.fromkeys(self._addresses))
        turn = (self._first + self._sent - self._sent_before) % len(self._addresses)
        self._sent_before = self._sent
        return turn

    def _on_readable(self) -> None:
        frames = self._socket.receive() if self._socket is not None else None
        if frames is not None and self._asked and not self._too_long(frames):
            self._received += 1
            self._inbox.put(Message(tuple(frames)))

    def _on_writable(self) -> None:
        self._line.wake()

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        self._inbox.close(reason)
        self._line.wake()

    def _waiting(self) -> int:
        return len(self._inbox)


def _nothing() -> None:
    """A lockstep socket has one message at most: there is nothing to pause."""
