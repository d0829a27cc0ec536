"""Publish-subscribe, the publishing end: an XPUB on PUB's wire, so that it knows its subscribers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from aiozpat.checks import whole_number
from aiozpat.codec import ENCODE_ERRORS, described, pack
from aiozpat.endpoints.peers import Watching, is_inproc
from aiozpat.endpoints.publication import is_echo, topic_bytes
from aiozpat.endpoints.sender import Outgoing
from aiozpat.endpoints.subscriptions import Subscriptions
from aiozpat.errors import QueueFull
from aiozpat.message import FrameLike, to_frames
from aiozpat.transport import Context, Socket, SocketKind, SocketOptions, source_fd

Overflow: TypeAlias = Literal["drop", "wait", "raise"]

_ECHOES = 1000  # answers to `Subscriber.ready` within a second; a flood of questions must not become one of answers


class Publisher(Outgoing, Watching):
    """Sends each message to every subscriber that has subscribed to a prefix of its topic.

    When a `Subscriber` asks whether it is `ready`, it gets a message of one frame that begins with a zero byte, and so
    does every subscriber to `""`: our own pass over it, a plain SUB sees it.

    Where it connects, ZeroMQ keeps the queue and the subscriptions of a subscriber that has left, though it counts no
    more in `subscribers`: what it had subscribed to is held for who binds there next, who gets of it what it subscribes
    to itself. When that queue is full, `overflow` holds as for one that does not read: `"wait"` waits until somebody
    binds there again, `"raise"` raises `QueueFull`, `"drop"` leaves the new messages out of that queue.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        overflow: What happens to a message while a subscriber's queue (`SocketOptions.send_queue_messages`) is full.
            `"drop"`: that subscriber misses it, the others get it; each time a queue fills up counts as one `overflow`
            in `statistics().notices`. `"wait"`: sending waits, so that one slow subscriber holds up all; one whose
            host has vanished too, until TCP gives it up (`SocketOptions.unacknowledged_seconds`). `"raise"`:
            `QueueFull`, and nobody gets it.
        linger: Seconds for which messages sent just before closing are still delivered; half a second at most where
            the block is left by a cancellation.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
        ValueError: An unknown overflow.
    """

    _kind = SocketKind.XPUB

    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        overflow: Overflow = "drop",
        linger: float = 1.0,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(bind=bind, connect=connect, linger=linger, options=options, context=context)
        if overflow not in ("drop", "wait", "raise"):
            raise ValueError(f'overflow is "drop", "wait" or "raise"; got {overflow!r}')
        self._overflow = overflow

    def _prepare(self) -> None:
        super()._prepare()
        self._subscriptions = Subscriptions()
        self._echoes = 0  # in the second that began at
        self._echoes_since = 0.0

    async def send(self, topic: FrameLike, *frames: FrameLike, timeout: float | None = None) -> None:
        """Publish one message.

        Cancelled while it waits for room (`overflow="wait"`), nothing was sent.

        Args:
            topic: The first frame; subscribers choose by what it begins with. Text becomes UTF-8.
            frames: The frames after it, the body last; without any, the topic is the whole message.
            timeout: Seconds to wait where `overflow="wait"`; `None` waits for ever.

        Raises:
            TimedOut: A subscriber's queue was full all the time (`overflow="wait"`); nothing was sent.
            QueueFull: A subscriber's queue is full (`overflow="raise"`); nothing was sent.
            TypeError: A frame is neither bytes, bytearray, memoryview nor str.
            ValueError: A frame is over `SocketOptions.max_message_bytes`.
            Closed: The endpoint is closed, or was while this waited.
        """
        waiting = self._begin(to_frames((topic, *frames)), timeout)
        if waiting is not None:
            await waiting

    async def send_value(self, topic: FrameLike, value: Any, timeout: float | None = None) -> None:
        """Publish a value, as MessagePack; a `Subscriber(body_type=...)` has it back as `message.value`.

        Cancelled, nothing was sent.

        Args:
            topic: The first frame.
            value: Builtins, dataclasses, msgspec Structs, enums, datetimes and containers of them.
            timeout: As for `send`.

        Raises:
            TypeError: The value can't be encoded.
            TimedOut: As for `send`; so are `QueueFull`, `ValueError` and `Closed`.
        """
        try:
            body = pack(value)
        except ENCODE_ERRORS as error:
            raise TypeError(f"a value of type {type(value).__name__} can't be encoded: {described(error)}") from None
        await self.send(topic, body, timeout=timeout)

    def subscribers(self, topic: FrameLike = b"") -> int:
        """How many connections have subscribed to a prefix of the topic, so that they get what is published there.

        Subscribers behind a proxy are one connection. Those on inproc:// count as one together, and go on counting when
        they have left: libzmq does not say which came from there. Those of ZeroMQ 2 do not count: they don't say what
        they subscribe to. Once it is closed there is none.
        """
        return self._subscriptions.count(topic_bytes(topic))

    async def wait_for_subscribers(self, topic: FrameLike, count: int = 1, timeout: float | None = None) -> None:
        """Wait until so many connections have subscribed; then what is published reaches them. No sleeping needed.

        Cancelling ends the waiting only.

        Args:
            topic: What is going to be published; who has subscribed to a prefix of it counts.
            count: How many; behind a proxy and on inproc:// only "at least one" can be told.
            timeout: Seconds to wait; `None` waits for ever.

        Raises:
            TimedOut: There were fewer in time.
            ValueError, TypeError: `count` is no whole number from 0 up.
            Closed: The endpoint is closed, or was while this waited.
        """
        self._usable()
        whole_number("count", count, least=0)
        wanted = topic_bytes(topic)

        def problem() -> str:
            number = self._subscriptions.count(wanted)
            return f"{self._nowhere()}{number} of {count} subscribers to {topic!r} were connected"

        await self._conditions.until(lambda: self._subscriptions.count(wanted) >= count, timeout, problem)

    def _refused(self, frames: Sequence[bytes]) -> bool:
        if self._overflow == "raise":
            raise QueueFull("a subscriber's queue is full; nothing was sent")
        if self._overflow == "wait":
            return False
        self._notices.note("overflow", f"{self!r}: a subscriber's queue is full; it misses messages")
        sent = _send_to_who_has_room(self._usable(), frames)
        self._sent += sent
        return sent

    def _on_readable(self) -> None:
        """A subscription comes or goes."""
        socket = self._socket
        frames = socket.receive_frames() if socket is not None else None
        if socket is None or frames is None:
            return
        socket.drain_events()  # so that its connection is known, and one that had the same number before is forgotten
        connection, data = source_fd(frames[0]), frames[0].bytes
        prefix = data[1:]
        if len(frames) > 1 or data[:1] not in (b"\0", b"\1"):
            self._notices.note("not a subscription", f"{self!r}: a subscriber sent a message of its own")
        elif connection >= 0 and connection not in self._connections:
            return  # of a connection that has ended
        elif connection < 0 and not any(map(is_inproc, self.endpoints)):
            if data[:1] == b"\1":  # libzmq's own for a peer that speaks ZMTP 1.0, or was taken for one: nobody left it
                self._notices.note("subscription not counted", f"{self!r}: of a stranger, or of ZeroMQ 2")
        elif data[:1] == b"\0":
            if connection >= 0:  # without one it is libzmq's own for a connection that has ended, or came by inproc
                self._subscriptions.remove(connection, prefix)
        else:
            self._connections.proven(connection)
            self._on_subscription(connection, prefix)
        self._conditions.changed()

    def _on_subscription(self, connection: int, prefix: bytes) -> None:
        if is_echo(prefix):
            self._echo(prefix)
        elif not self._subscriptions.add(connection, prefix):
            self._notices.note("subscription not counted", f"{self!r} has too many of them")

    def _echo(self, question: bytes) -> None:
        """Answer a `Subscriber.ready`: whoever gets this has all its earlier subscriptions in force here."""
        now = self._loop.time() if self._loop is not None else 0.0
        if now - self._echoes_since >= 1.0:
            self._echoes, self._echoes_since = 0, now
        self._echoes += 1
        if self._echoes > _ECHOES or not self._answer((question,)):
            self._notices.count("ready not answered")  # it will be asked again

    def _answer(self, frames: Sequence[bytes]) -> bool:
        socket = self._socket
        if socket is None:
            return False
        return socket.send_frames(frames) or (self._overflow == "drop" and _send_to_who_has_room(socket, frames))

    def _on_gone(self, fd: int) -> None:
        super()._on_gone(fd)
        self._subscriptions.drop(fd)

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        self._subscriptions = Subscriptions()


def _send_to_who_has_room(socket: Socket, frames: Sequence[bytes]) -> bool:
    """Send a message that was refused, because a subscriber's queue is full, to the others.

    For this one message only: libzmq then leaves the full subscriber out until it has room again, and the next refusal
    is the next overflow. Lossy all the time, it would never tell.
    """
    socket.set_lossy(True)
    try:
        return socket.send_frames(frames)
    finally:
        socket.set_lossy(False)
