"""What both ends tell each other in their hellos, and the pace of their heartbeats."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiozpat.checks import given, number
from aiozpat.protocol.flow import MAX_WINDOW
from aiozpat.protocol.records import HEADER_LIMIT, HELLO, VERSIONS, encode
from aiozpat.transport import SocketOptions

MISSES = 3  # heartbeats without a word make a peer dead
WINDOW = 256  # items that the server may be ahead on a stream; more make it hardly faster
WINDOW_BYTES = 8 * 1024 * 1024
BACKLOG_BYTES = 64 * 1024 * 1024
QUEUE_MESSAGES = 64  # high-water mark: messages are batches; 1000 of them let one idle reader hold 988 MiB
SMALLEST_WINDOW = 64 * 1024
_UNACKNOWLEDGED = 30.0  # seconds for which the host of a peer may be gone until TCP gives the connection up, at least
_DAY = 86_400.0
_NAME_LIMIT = 200
_STREAM_WINDOW = 64  # units, where a server says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What a side offers the other.

    Args:
        name: Who it is, for logs.
        window_bytes: How much may be sent to it beyond what it acknowledged.
        options: Its socket's options, as they were given.
        heartbeat: Seconds between heartbeats.
        patience: Seconds for which a peer that takes nothing is borne with; a server's only.
        stream_window: Units that the other side may be ahead on a stream that it sends; a server's only.
    """

    name: str
    window_bytes: int
    options: SocketOptions
    heartbeat: float
    patience: float = 0.0
    stream_window: int | None = None

    def __post_init__(self) -> None:
        number("heartbeat", self.heartbeat)
        if not 0.01 <= self.heartbeat <= 3600:
            raise ValueError(f"heartbeat is between 0.01 and 3600 seconds; got {self.heartbeat!r}")
        if self.options.max_message_bytes < HEADER_LIMIT:
            raise ValueError(f"SocketOptions.max_message_bytes of a client or server is at least {HEADER_LIMIT}")
        given(self.name, str, f"a name is text of up to {_NAME_LIMIT} characters")
        if not 0 < len(self.name) <= _NAME_LIMIT:
            raise ValueError(f"a name is text of up to {_NAME_LIMIT} characters; got {str(self.name)[:50]!r}")

    def socket_options(self) -> SocketOptions:
        """The options of its socket; the protocol's own judgement of a peer comes before that of TCP."""
        unacknowledged = max(_UNACKNOWLEDGED, 2 * MISSES * self.heartbeat, 2 * self.patience)
        return self.options.with_defaults(QUEUE_MESSAGES, min(unacknowledged, _DAY))

    def hello(self, session: bytes, codec: str, versions: tuple[int, ...] = VERSIONS) -> bytes:
        """The hello record, encoded."""
        limits = {"window": self.window_bytes, "buffer": self.options.max_message_bytes}
        if self.stream_window is not None:
            limits["stream"] = self.stream_window
        name = self.name.encode("utf-8", "replace").decode()  # a script's path need not be text
        return encode((HELLO, session, versions, codec, name, limits))


def window_of(limits: Mapping[str, int], own: int) -> int:
    """The window to keep to towards a peer: the smaller of both sides' wishes, within reason."""
    return max(SMALLEST_WINDOW, min(limits.get("window", own), own))


def buffer_of(limits: Mapping[str, int], own: int) -> int:
    """The largest buffer frame that may be sent to a peer: what both it and our own socket take."""
    return max(0, min(limits.get("buffer", SocketOptions().max_message_bytes), own))


def stream_window_of(limits: Mapping[str, int]) -> int:
    """The credit that each stream to a server begins with."""
    return max(1, min(limits.get("stream", _STREAM_WINDOW), MAX_WINDOW))


def process_name() -> str:
    """A name for this process: the program's and its process id."""
    return f"{Path(sys.argv[0] or 'python').name[: _NAME_LIMIT // 2]}:{os.getpid()}"
