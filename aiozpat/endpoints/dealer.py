"""DEALER: sends and receives as it likes, to and from any number of peers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiozpat.checks import flag
from aiozpat.endpoints.receiver import Receiver, is_much
from aiozpat.endpoints.reconnecting import Reconnecting
from aiozpat.endpoints.sender import Sender
from aiozpat.message import Message
from aiozpat.transport import Context, SocketKind, SocketOptions


class Dealer(Sender, Receiver[Message], Reconnecting):
    """An asynchronous requester: any number of messages out and in, in any order, over one socket.

    A message goes to one peer, in turn where there are several. For a peer that it connects to, ZeroMQ holds messages
    (`SocketOptions.send_queue_messages`) also while the connection is not there yet, or not there any more.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        delimiter: Put an empty frame before each message, and take it off what arrives. REP, and servers that unpack
            `identity, empty, body`, need it: without it a message to a REP peer vanishes silently.
        linger: Seconds for which messages sent just before closing are still delivered; half a second at most where
            the block is left by a cancellation.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
        TypeError: `delimiter` is neither True nor False.
    """

    _kind = SocketKind.DEALER

    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        delimiter: bool = False,
        linger: float = 1.0,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(bind=bind, connect=connect, linger=linger, options=options, context=context)
        self._delimiter = flag("delimiter", delimiter)

    def _try(self, frames: Sequence[bytes]) -> bool:
        return super()._try([b"", *frames] if self._delimiter else frames)

    def _on_readable(self) -> bool:
        parts = self._socket.receive() if self._socket is not None else None
        if parts is None or self._too_long(parts):
            return parts is not None
        self._received += 1
        if self._delimiter and len(parts) > 1 and not parts[0]:
            del parts[0]
        self._inbox.put(Message(tuple(parts)))
        return is_much(parts)
