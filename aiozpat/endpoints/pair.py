"""PAIR: exactly two ends, both of which send and receive."""

from __future__ import annotations

from aiozpat.endpoints.peers import Watching
from aiozpat.endpoints.receiver import MessageReceiver
from aiozpat.endpoints.sender import Sender
from aiozpat.transport import SocketKind


class Pair(Sender, MessageReceiver, Watching):
    """One of two ends that send and receive as they like.

    The end that listens takes one peer at a time: until it has noticed that the last one left, ZeroMQ turns others away
    without a word, and for good; `peers` counts them as long as they stay. Where peers come and go, use `Router` and
    `Dealer`.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        linger: Seconds for which messages sent just before closing are still delivered; half a second at most where
            the block is left by a cancellation.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
    """

    _kind = SocketKind.PAIR
