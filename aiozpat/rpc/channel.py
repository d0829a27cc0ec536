"""A client's way to one server: session after session, for as long as the client lives."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiozpat.codec import Values
from aiozpat.errors import RpcError, Unavailable, text_of
from aiozpat.observability.notices import Notices
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.pending import Phase
from aiozpat.rpc.settings import LinkSettings
from aiozpat.transport import Context

_monotonic = time.monotonic
_GOODBYE = 1.0  # seconds for a server to go on reading what it was sent, or to answer our goodbye
_LEAVING_MOST = 8  # sessions that a server has turned away and not ended
_PAUSE_LEAST, _PAUSE_MOST = 0.05, 1.0  # seconds between sessions that did not come about


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """What all sessions of a client have in common.

    Attributes:
        link: What is said in the hello.
        max_calls: Calls in flight at once, on one session.
        backlog_bytes: Bytes of calls that may wait to be sent, on one session.
        values: What encodes values, where that is not MessagePack.
    """

    link: LinkSettings
    max_calls: int
    backlog_bytes: int
    values: Values | None


class Channel:
    """The sessions with one server.

    Args:
        context: Whose loop and sockets.
        endpoint: The server's.
        settings: Those of all sessions.
        notices: Where losses are counted.
        on_change: Called when a session takes calls, takes none any more, or has ended.

    Attributes:
        usable: The session that takes calls now.
        current: The newest session, whatever its phase.
        sessions: How often one was tried to be opened.

    Raises:
        AiozpatError: There can't be a socket.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        settings: ChannelSettings,
        notices: Notices,
        on_change: Callable[[], None],
    ) -> None:
        self.endpoint = endpoint
        self.usable: Connection | None = None
        self.sessions = 0
        self._context = context
        self._settings = settings
        self._notices = notices
        self._on_change = on_change
        self._leaving: dict[Connection, None] = {}  # draining, while a newer one takes over; the oldest first
        self._changed = asyncio.Event()
        self._closed = False
        self.current = self._connect()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"sessions with {endpoint}")

    @property
    def connections(self) -> set[Connection]:
        """All sessions that have not ended."""
        return {*self._leaving, self.current}

    @property
    def reason(self) -> RpcError:
        """Why there is no session now."""
        return self.current.reason

    @property
    def draining(self) -> bool:
        """Whether the server is going away."""
        return self.current.phase is Phase.DRAINING

    def _connect(self) -> Connection:
        self.sessions += 1
        return Connection(
            self._context,
            self.endpoint,
            self.sessions - 1,
            self._settings.link,
            max_calls=self._settings.max_calls,
            backlog_bytes=self._settings.backlog_bytes,
            values=self._settings.values,
            notices=self._notices,
            on_phase=self._on_phase,
        )

    async def _supervise(self) -> None:
        """Open a session after the other."""
        pause = _PAUSE_LEAST
        while True:
            opened = _monotonic()
            while self.current.phase in (Phase.CONNECTING, Phase.READY):
                self._changed.clear()
                await self._changed.wait()
            # Jitter: a server that returns should not meet all its clients at one moment.
            pause = min(pause * 2, _PAUSE_MOST) if _monotonic() - opened < _PAUSE_MOST else _PAUSE_LEAST
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not for secrets
            reason = self.current.reason
            try:
                self.current = self._connect()
                self.current.reason = reason  # until there is a newer one
            except Exception as error:  # no file, no thread, no memory left: there may be the next time
                self._notices.note("no socket", f"{self.endpoint}: {text_of(error)}")

    def _on_phase(self, connection: Connection) -> None:
        """A session came about, is to be left, has ended; or its server has become slow to answer, or has recovered."""
        phase = connection.phase
        if phase is Phase.READY:
            self.usable = None if self._closed else connection
        elif self.usable is connection:
            self.usable = None
        if phase is Phase.DRAINING:
            self._leaving[connection] = None
            self._end_a_leaving_one()
        elif phase is Phase.ENDED:
            self._leaving.pop(connection, None)
        self._changed.set()
        self._on_change()

    def _end_a_leaving_one(self) -> None:
        """A server that turns each session away without ending it must not cost a socket each."""
        if len(self._leaving) > _LEAVING_MOST:
            idle = (connection for connection in self._leaving if not connection.calls)
            connection = next(idle, next(iter(self._leaving)))
            connection.end(Unavailable(f"{self.endpoint} did not end a session that it was going to end"))

    async def close(self, timeout: float) -> None:
        """Say goodbye on all sessions, and end them.

        Args:
            timeout: Seconds for the server to read what it was sent, as long as it goes on reading; 1 at least.
        """
        self._closed = True
        self.usable = None
        self._supervisor.cancel()
        try:
            await asyncio.wait({self._supervisor})
            most = max(timeout, _GOODBYE)
            await asyncio.gather(*(connection.leave(_GOODBYE, most) for connection in self.connections))
        finally:
            self.abort()

    def abort(self) -> None:
        """End all sessions at once."""
        self._closed = True
        self._supervisor.cancel()
        for connection in self.connections:
            connection.end(Unavailable("this client was closed"))
