"""The limits of a server; past each of them there is a refusal or a drop that is counted, never an unbounded queue."""

from __future__ import annotations

from dataclasses import dataclass, fields

from aiozpat.checks import number, whole_number
from aiozpat.protocol.flow import MAX_WINDOW
from aiozpat.rpc.settings import WINDOW, WINDOW_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a `Server` takes on.

    Calls are counted, not the bytes of their params: a client may hold up to `max_calls_per_peer` times 1024 buffers of
    `SocketOptions.max_message_bytes` each. Lower both where clients are not trusted.

    Args:
        max_concurrency: Calls that run at once, all methods together but those of the service `aiozpat`.
        max_queued: Calls that wait for one of those places.
        max_calls_per_peer: Calls of one client, running and waiting.
        max_sessions: Clients connected at once. One more is turned away, and tries again until its calls time out.
        max_threads: Worker threads for plain-def handlers.
        window_bytes: Bytes that either side may send beyond what the other has acknowledged, then its replies wait; of
            the client's and the server's the smaller holds, and 65,536 at least.
        backlog_bytes: Bytes of replies that may wait here for one client; a reply past it becomes
            `ResourceExhausted`. A client that leaves as much again of such errors unread is dropped.
        stream_window: Items that a client may be ahead of a handler that takes a stream (of more than 4 KiB, one counts
            for several).
        slow_peer_seconds: How long a client may take nothing of what waits for it before it is dropped.

    Raises:
        ValueError: A limit is not a positive whole number (`max_queued` may be 0, `slow_peer_seconds` a fraction).
        TypeError: A limit is no number.
    """

    max_concurrency: int = 16_384
    max_queued: int = 16_384
    max_calls_per_peer: int = 16_384
    max_sessions: int = 50_000
    max_threads: int = 40
    window_bytes: int = WINDOW_BYTES
    backlog_bytes: int = 16 * 1024 * 1024
    stream_window: int = WINDOW
    slow_peer_seconds: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            what, value = f"Limits.{field.name}", getattr(self, field.name)
            if field.name == "slow_peer_seconds":
                number(what, value)
            elif field.name == "stream_window":
                whole_number(what, value, most=MAX_WINDOW)
            else:
                whole_number(what, value, least=0 if field.name == "max_queued" else 1)
