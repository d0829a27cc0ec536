"""The connections that an endpoint has now, as its monitor tells of them."""

from __future__ import annotations

import asyncio

from aiozpat.checks import whole_number
from aiozpat.endpoints.base import Endpoint
from aiozpat.endpoints.waiting import Conditions
from aiozpat.errors import UsageError
from aiozpat.transport import MonitorEvent, MonitorEventKind, Socket

_GIVEN_UP = 1.0  # seconds after which a connection that is not tried again was given up


class Connections:
    """Which file descriptors are connections, and which of them are peers: connections that have shaken hands.

    libzmq tells of a handshake without naming the connection. It is taken for the newest that waits for one: a peer
    shakes hands at once, and what stays silent (a port scanner) is older.
    """

    __slots__ = ("_peers", "_strangers")

    def __init__(self) -> None:
        self._strangers: dict[int, None] = {}
        self._peers: set[int] = set()

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, fd: int) -> bool:
        return fd in self._peers or fd in self._strangers

    def opened(self, fd: int) -> None:
        """A connection came about."""
        self._strangers[fd] = None

    def greeted(self) -> None:
        """Some connection has shaken hands."""
        if self._strangers:
            self._peers.add(self._strangers.popitem()[0])

    def proven(self, fd: int) -> None:
        """A message came by it, so it is a peer."""
        if fd in self._strangers:
            del self._strangers[fd]
            self._peers.add(fd)

    def ended(self, fd: int) -> None:
        """A connection has ended."""
        self._strangers.pop(fd, None)
        self._peers.discard(fd)

    def clear(self) -> None:
        """All have ended."""
        self._strangers.clear()
        self._peers.clear()


def is_inproc(endpoint: str) -> bool:
    """Whether libzmq tells nothing of connections there."""
    return endpoint.startswith("inproc:")


class Reconnecting(Endpoint):
    """An endpoint that connects again where libzmq will not; arguments as for `Endpoint`."""

    def _prepare(self) -> None:
        super()._prepare()
        self._greeted: set[str] = set()  # endpoints with which the latest connection has shaken hands
        self._missed: dict[str, asyncio.TimerHandle] = {}  # endpoints whose connection ended; it is to be tried again

    def _connect(self, socket: Socket, endpoint: str) -> None:
        socket.watch(self._on_event)
        super()._connect(socket, endpoint)

    def _on_event(self, event: MonitorEvent) -> None:
        """Something happened to a connection."""
        kind, endpoint = event.kind, event.endpoint
        if kind is MonitorEventKind.CONNECTED:
            self._greeted.discard(endpoint)
        elif kind is MonitorEventKind.HANDSHAKE_SUCCEEDED:
            self._greeted.add(endpoint)
        elif kind is MonitorEventKind.DISCONNECTED:
            self._miss(endpoint)
        elif kind is MonitorEventKind.CONNECT_RETRIED and endpoint in self._missed:
            self._missed.pop(endpoint).cancel()

    def _miss(self, endpoint: str) -> None:
        """A connection has ended: libzmq says at once that it tries again, unless it never will."""
        if self._loop is None or endpoint in self._missed:
            return
        if any(endpoint == one.endpoint and not one.is_bind for one in self._addresses):
            self._missed[endpoint] = self._loop.call_later(_GIVEN_UP, self._connect_again, endpoint)

    def _connect_again(self, endpoint: str) -> None:
        del self._missed[endpoint]
        if self._socket is not None:
            self._notices.note("connection given up", f"{self!r}: {self._why_given_up(endpoint)}; connecting again")
            self._socket.connect_again(endpoint)

    def _why_given_up(self, endpoint: str) -> str:
        if endpoint in self._greeted:
            return f"{endpoint} broke ZeroMQ's rules, by a message over SocketOptions.max_message_bytes most likely"
        # libzmq has no event for a socket type that does not match: the connection ends without a handshake.
        return f"no handshake with {endpoint}: its socket type does not go with {self._kind.name}, or it speaks no ZMTP"

    def _forget(self) -> None:
        """The socket is gone, with its connections: none of them is to be tried again."""
        self._greeted.clear()
        for timer in self._missed.values():
            timer.cancel()
        self._missed.clear()

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        self._forget()


class Watching(Reconnecting):
    """An endpoint that knows its connections; arguments as for `Endpoint`."""

    def _prepare(self) -> None:
        super()._prepare()
        self._connections = Connections()
        self._conditions = Conditions()

    def _set_up(self, socket: Socket) -> None:
        super()._set_up(socket)
        socket.watch(self._on_event)

    @property
    def peers(self) -> int:
        """How many peers are connected now, over tcp:// and ipc://; libzmq does not tell of inproc:// ones.

        One whose host has vanished without a word counts until TCP gives it up: after a minute and a half where nothing
        is sent to it, else as `SocketOptions.unacknowledged_seconds` says. libzmq does not say which connection has
        shaken hands either: while strangers (a port scanner) connect too, this may be one off.
        """
        return len(self._connections)

    async def wait_for_peers(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until that many peers are connected; cancelling ends the waiting only.

        Args:
            count: How many.
            timeout: Seconds to wait; `None` waits for ever.

        Raises:
            TimedOut: There were fewer in time.
            ValueError, TypeError: `count` is no whole number from 0 up.
            UsageError: It is on inproc:// alone, where libzmq does not tell of peers.
            Closed: The endpoint is closed, or was while this waited.
        """
        self._usable()
        whole_number("count", count, least=0)
        if count > self.peers and self.endpoints and all(map(is_inproc, self.endpoints)):
            raise UsageError(
                f"{self!r} is on inproc:// alone, where libzmq does not tell of peers: don't wait for them"
            )
        await self._conditions.until(
            lambda: self.peers >= count,
            timeout,
            lambda: f"{self._nowhere()}{self.peers} of {count} peers were connected",
        )

    def _on_event(self, event: MonitorEvent) -> None:
        kind = event.kind
        if kind in (MonitorEventKind.ACCEPTED, MonitorEventKind.CONNECTED):
            self._connections.opened(event.value)
        elif kind is MonitorEventKind.HANDSHAKE_SUCCEEDED:
            self._connections.greeted()
            self._conditions.changed()
        elif kind is MonitorEventKind.DISCONNECTED:
            self._connections.ended(event.value)
            self._on_gone(event.value)
            self._conditions.changed()
        super()._on_event(event)

    def _on_gone(self, fd: int) -> None:
        """A connection has ended."""

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        self._connections.clear()
        self._conditions.close(reason)
