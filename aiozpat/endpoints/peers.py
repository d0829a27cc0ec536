"""The connections that an endpoint has now, as its monitor tells of them."""

from __future__ import annotations

from aiozpat.checks import whole_number
from aiozpat.endpoints.reconnecting import Reconnecting
from aiozpat.endpoints.waiting import Conditions
from aiozpat.errors import UsageError
from aiozpat.transport import MonitorEvent, MonitorEventKind, Socket


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
        super()._on_event(event)

    def _on_gone(self, fd: int) -> None:
        super()._on_gone(fd)
        self._connections.ended(fd)
        self._conditions.changed()

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        self._connections.clear()
        self._conditions.close(reason)
