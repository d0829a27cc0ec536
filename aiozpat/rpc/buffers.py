"""Buffers that a message brings, and what the other side takes of a value that does: over more it ends the session."""

from __future__ import annotations

from collections.abc import Sequence

from aiozpat.codec import MIXED_LIMIT
from aiozpat.errors import ProtocolError, ResourceExhausted
from aiozpat.protocol.records import BUFFER_LIMIT, Buffer
from aiozpat.transport import Frame


def views(frames: Sequence[Frame]) -> list[memoryview]:
    """What to look into a message's frames with: nobody may change them, as the memory is libzmq's.

    Raises:
        ProtocolError: There are more than a message may bring.
    """
    if len(frames) > BUFFER_LIMIT:
        raise ProtocolError(f"a message of more than {BUFFER_LIMIT} buffers")
    return [memoryview(frame).toreadonly() for frame in frames]


def check_buffers(what: str, nbytes: int, buffers: Sequence[Buffer], most: int) -> None:
    """See to it that the other side takes a value.

    Args:
        what: The value, for messages.
        nbytes: Of the value without its buffers.
        buffers: Its buffers, one at least.
        most: Bytes of a buffer that both sides take.

    Raises:
        ResourceExhausted: It does not.
    """
    largest = max(map(len, buffers))
    if largest > most:
        raise ResourceExhausted(
            f"{what}: {largest} bytes in one piece; {most} is the most that both sides take"
            " (SocketOptions.max_message_bytes)"
        )
    if len(buffers) > BUFFER_LIMIT:
        raise ResourceExhausted(f"{what}: {len(buffers)} pieces of 64 KiB and more; {BUFFER_LIMIT} is the most")
    if nbytes > MIXED_LIMIT:
        raise ResourceExhausted(
            f"{what}: {nbytes} bytes beside what is large enough to travel apart; {MIXED_LIMIT} is the most"
        )
