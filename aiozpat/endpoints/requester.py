"""REQ: one request, one reply; usable again after a timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiozpat.endpoints.base import Endpoint
from aiozpat.endpoints.inbox import Inbox
from aiozpat.endpoints.line import Line, within
from aiozpat.errors import AddressInUse, TimedOut
from aiozpat.message import FrameLike, Message, to_frames
from aiozpat.transport import Socket, SocketKind

_REBIND = 0.02  # seconds between tries to bind again: libzmq closes the old socket in the background


class Requester(Endpoint):
    """Asks one question at a time, and awaits its answer.

    After a timeout or a cancellation ZeroMQ's REQ socket would be stuck, or take the late reply for the next one's.
    Here the socket is closed then, and the next request goes by a new one. Concurrent requests wait for their turn.
    Where it binds, a peer would come back to the new socket with the late reply in its hands: there its requests bear a
    number, in a frame before the empty one (ZMQ_REQ_CORRELATE), which REP, `Replier` and `Router(framing="delimited")`
    give back.

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

    def _prepare(self) -> None:
        self._turn = asyncio.Lock()
        self._line = Line()
        self._inbox: Inbox[Message] = Inbox(1, _nothing, _nothing)

    def _set_up(self, socket: Socket) -> None:
        # Only here: a ROUTER that takes three frames for a REQ's, as many do, would not know the four.
        if any(address.is_bind for address in self._addresses):
            socket.correlate()

    async def request(self, *frames: FrameLike, timeout: float | None = None) -> Message:
        """Send a request and wait for its reply.

        Args:
            frames: The request's frames; text becomes UTF-8.
            timeout: Seconds for all of it: its turn, a connection, the reply. `None` waits for ever.

        Raises:
            TimedOut: No reply in time. The request may have been handled; a late reply is given to no other one.
            TypeError: A frame is neither bytes-like nor text.
            Closed: The endpoint is closed, or was while this waited.
        """
        parts = to_frames(frames)
        self._usable()
        if timeout is None:
            return await self._in_turn(parts)
        try:
            async with within(timeout):
                return await self._in_turn(parts)
        except TimeoutError:
            raise TimedOut(f"no reply from {', '.join(self.endpoints)} within {timeout} s") from None

    async def _in_turn(self, parts: Sequence[bytes]) -> Message:
        async with self._turn:
            while self._usable().closed and not self._reopen():  # noqa: ASYNC110 - libzmq does not tell when it is free
                await asyncio.sleep(_REBIND)
            await self._line.send(lambda: self._try(parts), None)
            try:
                return await self._inbox.take(None)
            except BaseException:
                self._abandon()
                raise

    def _abandon(self) -> None:
        """The reply of the request that was sent is not wanted any more: nor is the socket that would get it."""
        self._inbox.clear()  # where it may be already
        if self._socket is not None and not self._closed:
            self._socket.detach(0)
            self._reopen()

    def _reopen(self) -> bool:
        """Make a new socket; False while the old one still holds the address."""
        if self._context is not None:
            try:
                self._socket = self._open(self._context)
            except AddressInUse:
                return False
        return True

    def _on_readable(self) -> None:
        frames = self._socket.receive() if self._socket is not None else None
        if frames is not None and not self._too_long(frames):
            self._received += 1
            self._inbox.put(Message(tuple(frame.bytes for frame in frames)))

    def _on_writable(self) -> None:
        self._line.wake()

    def _on_close(self, reason: str) -> None:
        self._inbox.close(reason)
        self._line.wake()

    def _waiting(self) -> int:
        return len(self._inbox)


def _nothing() -> None:
    """A lockstep socket has one message at most: there is nothing to pause."""
