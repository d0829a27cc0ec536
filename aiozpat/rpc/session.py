"""A session as the server keeps it: one client's socket, its calls, and what waits to be sent to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiozpat.codec import Values
from aiozpat.protocol.liveness import Liveness
from aiozpat.protocol.outbox import Outbox
from aiozpat.rpc.current import Job
from aiozpat.rpc.turns import Turns

if TYPE_CHECKING:
    from aiozpat.rpc.listener import Listener


class Session:
    """One client's session."""

    __slots__ = (
        "awaited",
        "blocked",
        "calls",
        "dirty",
        "ending",
        "fd",
        "identity",
        "label",
        "last_key",
        "listener",
        "liveness",
        "outbox",
        "peer_buffer_bytes",
        "reserved",
        "stuck_since",
        "turns",
        "values",
    )

    def __init__(
        self,
        listener: Listener,
        identity: bytes,
        label: str,
        fd: int,
        outbox: Outbox,
        liveness: Liveness,
        peer_buffer_bytes: int,
        values: Values | None,
    ) -> None:
        self.listener = listener
        self.identity = identity
        self.label = label
        self.fd = fd
        self.outbox = outbox
        self.liveness = liveness
        self.peer_buffer_bytes = peer_buffer_bytes
        self.values = values  # of a codec that is not MessagePack
        self.calls: dict[int, Job] = {}
        self.reserved = 0  # how many calls of `aiozpat.*` run, which no other limit counts
        self.turns = Turns(outbox)
        self.last_key = 0  # of calls that want no answer, counted downwards
        self.awaited: int | None = None  # the pong that says that it has read our goaway
        self.dirty = False  # among those to be flushed
        self.blocked = False  # the socket took no more for it
        self.ending = False  # a bye went out, or came: nothing new may start
        self.stuck_since: float | None = None  # since when what waits for it could not be sent

    def post(self) -> None:
        """Items were put into the outbox: they leave in a moment, with those that follow."""
        self.listener.touch(self)

    def push(self) -> None:
        """Enough for a message was."""
        self.listener.push(self)

    def drain(self) -> bool:
        """Take what has arrived; False if there is more."""
        return self.listener.drain()
