"""PUSH and PULL: work for whoever is next, one way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aiozpat.checks import whole_number
from aiozpat.endpoints.peers import Watching
from aiozpat.endpoints.receiver import MessageReceiver
from aiozpat.endpoints.sender import Sender
from aiozpat.transport import Context, SocketKind, SocketOptions, options_given

_PREFETCH_BUFFER_BYTES = 4096  # of the kernel; with its own, a stuck worker held 62,000 tasks of 64 bytes


class Pusher(Sender, Watching):
    """Hands each message to one of the connected pullers, in turn; those that are full are passed over.

    For a peer that it connects to, ZeroMQ holds messages (`SocketOptions.send_queue_messages`) also while the
    connection is not there yet. What it holds for a puller that dies is lost (and one whose host has vanished gets its
    share until TCP gives it up: `SocketOptions.unacknowledged_seconds`); so is what the pullers have no room for within
    `linger` of the end: a ventilator that sends and leaves gives them the time that they need, or waits until the sink
    has reported all.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        prefetch: How many messages may wait on the way to each puller, beside some KiB in the kernel (seen: 7 messages
            of 4 KiB, 200 of 64 bytes, with a prefetch of 1 at both ends); set it here and at the pullers where tasks
            take long and differ. By default 1000 and what the kernel takes, which is fastest, but leaves a slow worker
            with tasks that others could do. `SocketOptions.send_buffer_bytes` chooses the kernel's part.
        linger: Seconds for which messages sent just before closing are still delivered; half a second at most where
            the block is left by a cancellation.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
        ValueError: `prefetch` is no whole number above 0.
        TypeError: It is no number.
    """

    _kind = SocketKind.PUSH

    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        prefetch: int | None = None,
        linger: float = 1.0,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        if prefetch is not None:
            options = options_given(options)
            buffer_bytes = options.send_buffer_bytes or _PREFETCH_BUFFER_BYTES
            options = replace(options, send_queue_messages=_checked(prefetch), send_buffer_bytes=buffer_bytes)
        super().__init__(bind=bind, connect=connect, linger=linger, options=options, context=context)


class Puller(MessageReceiver, Watching):
    """Takes messages from any number of pushers, fairly.

    What was taken ahead goes with it when it closes or dies: what this process had (`left unread` counts that), and
    what ZeroMQ had. A worker that is to leave without loss is told so by a message, and its pushers send it no more.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        prefetch: How many messages are taken ahead of the one that is worked on: as many in this process and as many in
            ZeroMQ, beside a few KiB in the kernel. By default 1000 each, which is fastest; a worker whose tasks take
            long sets 1, and its `Pusher` too.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
        ValueError: `prefetch` is no whole number above 0.
        TypeError: It is no number.
    """

    _kind = SocketKind.PULL

    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        prefetch: int | None = None,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        if prefetch is not None:
            options = options_given(options)
            buffer_bytes = options.receive_buffer_bytes or _PREFETCH_BUFFER_BYTES
            options = replace(options, receive_queue_messages=_checked(prefetch), receive_buffer_bytes=buffer_bytes)
        super().__init__(bind=bind, connect=connect, linger=0, options=options, context=context)


def _checked(prefetch: int) -> int:
    return whole_number("prefetch", prefetch, most=2**31 - 1)
