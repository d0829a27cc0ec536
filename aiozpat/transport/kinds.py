"""What sockets there are, and what they send and receive."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

import zmq

Buffer = bytes | bytearray | memoryview

# The longest subscription taken. libzmq keeps one in a trie, a level (and 48 bytes or more) for each byte; it walks an
# XSUB's by recursion, and 200 kB were its end.
SUBSCRIPTION_BYTES = 4096

_SRCFD = int(zmq.SRCFD)


class Frame(Protocol):
    """A received frame: a buffer that stays where libzmq put it."""

    @property
    def bytes(self) -> bytes:
        """A copy of it."""

    @property
    def more(self) -> bool:
        """Whether the message goes on."""

    def get(self, option: int) -> Any:
        """A property of the message or its connection."""

    def __buffer__(self, flags: int) -> memoryview: ...

    def __len__(self) -> int: ...


class SocketKind(IntEnum):
    """ZeroMQ's socket types."""

    REQ = zmq.REQ
    DEALER = zmq.DEALER
    ROUTER = zmq.ROUTER
    XPUB = zmq.XPUB
    SUB = zmq.SUB
    PUSH = zmq.PUSH
    PULL = zmq.PULL
    PAIR = zmq.PAIR


# Sockets of these kinds always say that they are writable: one full peer must not hold up the others.
ALWAYS_WRITABLE = (SocketKind.ROUTER, SocketKind.XPUB)


def source_fd(frame: Frame) -> int:
    """The file descriptor of the connection that a frame came by, -1 if it has none; DISCONNECTED names it too."""
    try:
        return int(frame.get(_SRCFD))
    except zmq.ZMQError:
        return -1


def whole(payload: Buffer) -> Any:
    """The frame that a view shows all of, else the payload: libzmq passes on its own frames at no cost.

    For memory of Python's pyzmq keeps books of what libzmq still needs, in a thread of its own.
    """
    if type(payload) is memoryview:
        frame: Any = payload.obj
        if type(frame) is zmq.Frame and len(frame) == payload.nbytes:
            return frame
    return payload
