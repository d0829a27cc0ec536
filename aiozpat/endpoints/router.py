"""ROUTER: knows who sent what, and sends to whom it likes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from aiozpat.endpoints.line import Line
from aiozpat.endpoints.receiver import Receiver, is_much
from aiozpat.endpoints.reconnecting import Reconnecting
from aiozpat.endpoints.request import Request
from aiozpat.endpoints.sender import YIELD
from aiozpat.endpoints.serving import Handler, OnError, Serving
from aiozpat.errors import UsageError
from aiozpat.message import FrameLike, to_frames
from aiozpat.transport import Context, SocketKind, SocketOptions

Framing: TypeAlias = Literal["auto", "delimited", "raw"]

_REMEMBERED = 65_536  # peers whose framing is remembered, the latest ones


class Responder(Receiver[Request], Reconnecting):
    """A ROUTER socket: what `Router` and `Replier` share."""

    _kind = SocketKind.ROUTER

    def _prepare(self) -> None:
        super()._prepare()
        self._lines: dict[bytes, Line] = {}  # of senders that wait, by peer
        self._serving: Serving | None = None

    async def serve(self, handler: Handler, *, max_concurrency: int = 100, on_error: OnError | None = None) -> None:
        """Run a handler for each message, many at once, and send each answer as soon as it is there.

        It returns when the endpoint is closed, which cancels the handlers (counted as `handler cancelled`), and drops
        what nobody has taken (`left unread`): to drain, stop the senders first. Cancelling it cancels the handlers too,
        and leaves the REQ peers whose requests they had without a reply.
        Past `max_concurrency` no more messages are taken, and the senders feel it. Answers wait for a peer whose queue
        is full as long as it takes others, the first 100 of them without a handler's place; once it has taken none for
        5 s, they are dropped and counted, and so are further ones at once, until it reads. (Who reads slowly on purpose
        can so hold all places: for strangers there is `Server`, whose limits are by peer.)

        Args:
            handler: `async def`; gets the message, returns the answer: one frame, several, or `None` for no answer.
            max_concurrency: How many handlers run at once.
            on_error: Gets the message and the exception of a handler that raised, or whose answer can't be sent, and
                returns the answer. By default the failure is logged and counted, and a REQ peer gets an empty reply,
                since it would wait for ever.

        Raises:
            UsageError: Another `serve` runs, the handler is no coroutine function, or `on_error` no plain one.
            ValueError: `max_concurrency` is no whole number above 0.
            TypeError: It is no number.
            Closed: The endpoint is closed.
        """
        self._usable()
        if self._serving is not None:
            raise UsageError(f"{self!r} is served already: one serve() at a time, and max_concurrency for more at once")
        self._serving = Serving(self, handler, max_concurrency, on_error, self._notices)
        try:
            await self._serving.run()
        finally:
            self._serving = None

    def waiting_for(self, identity: bytes) -> int:
        """How many sends wait for room at a peer."""
        line = self._lines.get(identity)
        return len(line) if line is not None else 0

    def check_sizes(self, parts: Sequence[bytes]) -> None:
        """Refuse what can't be sent to any peer.

        Raises:
            ValueError: A frame is over `SocketOptions.max_message_bytes`.
        """
        if self._socket is not None:
            self._socket.check_sizes(parts)

    async def _answer(self, identity: bytes, parts: Sequence[bytes], timeout: float | None) -> None:
        """Send to one peer; a full peer holds up only what is for itself."""
        self._usable()
        if self._sent % YIELD == YIELD - 1 and (self._turning or self._turned != self._sent):
            await self._give_turn()  # before anything is sent: cancelled here, nothing was
        frames = [identity, *parts]
        line = self._lines.get(identity)
        if line is None:
            if self._try(frames):
                return
            line = self._lines.setdefault(identity, Line(self._nowhere))
        try:
            await line.wait(lambda: self._try(frames), timeout)
        finally:
            if not len(line) and self._lines.get(identity) is line:
                del self._lines[identity]

    def _on_writable(self) -> None:
        for line in tuple(self._lines.values()):
            line.wake()

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        if self._serving is not None:
            self._serving.cancel()
        self._on_writable()

    def _on_readable(self) -> bool:
        parts = self._socket.receive() if self._socket is not None else None
        if parts is None:
            return False
        identity = parts.pop(0)
        if self._too_long(parts):
            return True
        self._received += 1
        request = self._request(identity, parts)
        if request is not None:
            self._inbox.put(request)
        return is_much(parts)

    def _request(self, identity: bytes, parts: list[bytes]) -> Request | None:
        raise NotImplementedError

    def _split(self, identity: bytes, parts: list[bytes]) -> Request | None:
        """A request whose envelope ends with the first empty frame; None if there is no empty frame."""
        try:
            end = parts.index(b"") + 1
        except ValueError:
            return None
        return Request(tuple(parts[end:]) or (b"",), self, identity, tuple(parts[:end]))


class Router(Responder):
    """An asynchronous server: any number of peers, each known by its routing id, answered in any order.

    `serve` goes on when a peer has left before its answer, or a handler fails, and with `max_concurrency=1` takes one
    message after the other; in a loop of one's own, `PeerUnreachable` from `reply` and `send` is for oneself to catch.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        framing: How peers frame their messages. `"auto"`: a message that begins with an empty frame, as REQ sends it,
            is answered with one, others without; one of a `Requester` that binds begins with its number, and needs
            `"delimited"`. `"delimited"`: every message has an envelope that ends with an empty
            frame, as behind a proxy; what has none is dropped and counted. `"raw"`: frames are passed on as they are.
        linger: Seconds for which messages sent just before closing are still delivered; half a second at most where
            the block is left by a cancellation.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
        ValueError: An unknown framing.
    """

    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        framing: Framing = "auto",
        linger: float = 1.0,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(bind=bind, connect=connect, linger=linger, options=options, context=context)
        if framing not in ("auto", "delimited", "raw"):
            raise ValueError(f'framing is "auto", "delimited" or "raw"; got {framing!r}')
        self._framing = framing
        self._delimited: OrderedDict[bytes, None] = OrderedDict()  # peers that send a delimiter, the latest last

    async def send(self, identity: bytes, *frames: FrameLike, timeout: float | None = None) -> None:
        """Send to one peer, in the framing that it used last.

        It waits while that peer's queue is full; sends to others go on. Cancelled or timed out, nothing was sent.

        Args:
            identity: The peer's routing id, as in `message.identity`.
            frames: The message's frames; text becomes UTF-8.
            timeout: Seconds to wait at most; `None` waits for ever.

        Raises:
            PeerUnreachable: No such peer is connected.
            TimedOut: There was no room in time.
            TypeError: A frame is neither bytes, bytearray, memoryview nor str.
            ValueError: There is no frame, or one over `SocketOptions.max_message_bytes`.
            Closed: The endpoint is closed, or was while this waited.
        """
        parts = to_frames(frames)
        if type(identity) is not bytes:
            raise TypeError(f"an identity is bytes, as in message.identity; got {identity!r}")
        if self._framing == "delimited" or (self._framing == "auto" and identity in self._delimited):
            parts = (b"", *parts)
        await self._answer(identity, parts, timeout)

    def _request(self, identity: bytes, parts: list[bytes]) -> Request | None:
        if self._framing == "delimited":
            request = self._split(identity, parts)
            if request is None:
                self._notices.note("no delimiter", f"a message of {len(parts)} frames without an empty one was dropped")
            return request
        if self._framing == "auto" and len(parts) > 1 and not parts[0]:
            self._remember(identity)
            return Request(tuple(parts[1:]), self, identity, (b"",))
        self._delimited.pop(identity, None)
        return Request(tuple(parts), self, identity)

    def _remember(self, identity: bytes) -> None:
        self._delimited[identity] = None
        self._delimited.move_to_end(identity)
        if len(self._delimited) > _REMEMBERED:
            self._delimited.popitem(last=False)
