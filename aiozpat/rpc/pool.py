"""The servers of one client: which of them takes the next call, and who waits for one that can."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from weakref import WeakSet

from aiozpat.checks import LONGEST, flag
from aiozpat.errors import Closed, DeadlineExceeded, ResourceExhausted, RpcError, Unavailable, Unimplemented
from aiozpat.observability.notices import Notices
from aiozpat.rpc.channel import Channel, ChannelSettings
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.pending import NeverRan
from aiozpat.rpc.states import ClientState, StateChanges
from aiozpat.transport import Context

_log = logging.getLogger("aiozpat.client")
_monotonic = time.monotonic
_FULL = 1 << 32  # calls; what a server counts for that has just refused one: more than any has in flight


class Pool:
    """The channels of one client.

    Args:
        endpoints: The servers'.
        settings: Those of all sessions.
        notices: Where losses are counted.
        wait_for_ready: Whether calls wait for a connection where they don't say.
        on_session: Called with each session that begins to take calls.

    Attributes:
        usable: The session that takes the next call, where there is no choice.
        state: Whether calls can be sent now.
        watchers: Who is told of its changes.
        waiting: Calls that wait for a session.
        pausing: Calls that wait for their next attempt.
        streams: Streams opened so far.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        settings: ChannelSettings,
        notices: Notices,
        *,
        wait_for_ready: bool,
        on_session: Callable[[Connection], None] | None,
    ) -> None:
        self.usable: Connection | None = None
        self.state = ClientState.CONNECTING
        self.watchers: WeakSet[StateChanges] = WeakSet()
        self.waiting = 0
        self.pausing = 0
        self.streams = 0
        self._endpoints = endpoints
        self._label = ", ".join(endpoints)
        self._settings = settings
        self._notices = notices
        self._wait_for_ready = flag("wait_for_ready", wait_for_ready)
        self._on_session = on_session
        self._channels: list[Channel] = []
        self._ready: list[Connection] = []
        self._turn = 0
        self._changed: asyncio.Event | None = None
        self._closing = asyncio.Event()

    def open(self, context: Context) -> None:
        """Begin to connect."""
        self._changed = asyncio.Event()
        try:
            for endpoint in self._endpoints:
                self._channels.append(Channel(context, endpoint, self._settings, self._notices, self._on_change))
        except BaseException:
            self.abort()
            self._channels.clear()
            raise

    async def close(self, timeout: float) -> None:
        """Say goodbye to all servers, and end all sessions.

        Args:
            timeout: Seconds for them to read what they were sent, as long as they go on reading.
        """
        self._set_state(ClientState.CLOSED)
        self._closing.set()
        self.usable = None
        self._ready = []
        try:
            await asyncio.gather(*(channel.close(timeout) for channel in self._channels))
        finally:
            self.abort()

    def abort(self) -> None:
        """End all sessions, without a word."""
        for channel in self._channels:
            channel.abort()

    @property
    def connections(self) -> list[Connection]:
        """All sessions that have not ended."""
        return [connection for channel in self._channels for connection in channel.connections]

    @property
    def sessions(self) -> int:
        """How often one was tried to be opened."""
        return sum(channel.sessions for channel in self._channels)

    def _on_change(self) -> None:
        if self.state is ClientState.CLOSED:
            return
        ready = [channel.usable for channel in self._channels if channel.usable is not None]
        for connection in ready:
            if self._on_session is not None and not connection.announced:
                connection.announced = True
                self._on_session(connection)
        # A server that is late with its answers is left alone while others are not.
        self._ready = [connection for connection in ready if not connection.suspect] or ready
        self.usable = self._ready[0] if len(self._ready) == 1 else None
        if ready:
            self._set_state(ClientState.READY)
        elif any(channel.draining for channel in self._channels):
            self._set_state(ClientState.DRAINING)
        else:
            self._set_state(ClientState.CONNECTING)

    def _set_state(self, state: ClientState) -> None:
        if state is not self.state:
            _log.debug("client of %s: %s -> %s", self._label, self.state.value, state.value)
            self.state = state
            for watcher in tuple(self.watchers):
                watcher.put(state)
        if self._changed is not None and (self._ready or self._is_hopeless()):  # thousands of calls may wait for that
            self._changed.set()
            self._changed.clear()

    def _is_hopeless(self) -> bool:
        """Whether there is no use in waiting for a session."""
        return self.state is ClientState.CLOSED or isinstance(self._reason(), Unimplemented)

    def _pick(self, method: str, besides: Collection[Connection]) -> Connection | None:
        """The session with the fewest calls in flight; of several, each in turn."""
        ready, now = self._ready, _monotonic()
        if not ready:
            return None
        turn = self._turn
        least: Connection | None = None
        fewest = 0
        count = len(ready)
        for number in range(count):
            connection = ready[(turn + number) % count]
            if connection in besides:
                continue
            load = len(connection.calls)
            if connection.full_for == method and connection.full_until > now:
                load += _FULL  # it answers at once, and would have the fewest
            if least is None or load < fewest:
                least, fewest = connection, load
        return least

    async def connection(
        self, deadline: float, wait: bool | None, method: str = "", *, besides: Collection[Connection] = ()
    ) -> Connection:
        """A session that takes calls, waited for if need be.

        Args:
            deadline: Until when to wait, `time.monotonic()`.
            wait: Whether to wait; the client's own setting by default.
            method: What is to be called.
            besides: Those that are not wanted, unless there are no others.

        Raises:
            DeadlineExceeded: There was none in time; the message says what went wrong.
            Unavailable: There is none, and waiting is not wanted.
            Unimplemented: No version of the protocol is spoken by both sides, or the server has not this codec.
            ResourceExhausted: Too many wait already.
            Closed: The client is closed.
        """
        wait = self._wait_for_ready if wait is None else flag("wait_for_ready", wait)
        if not besides:  # a further attempt takes no other call's turn
            self._turn += 1
        while (connection := self._pick(method, besides) or self._pick(method, ())) is None:
            if self.state is ClientState.CLOSED or self._changed is None:
                raise Closed(f"the client of {self._label} is closed")
            reason = self._reason()
            if not wait or isinstance(reason, Unimplemented):
                raise type(reason)(reason.message)
            if self.waiting >= self._settings.max_calls:
                raise ResourceExhausted(f"{self.waiting} calls wait for a connection to {self._label}")
            self.waiting += 1
            try:
                async with asyncio.timeout(min(max(0.0, deadline - _monotonic()), LONGEST)):
                    await self._changed.wait()
            except TimeoutError:
                raise DeadlineExceeded(f"no connection in time: {self._reason().message}") from None
            finally:
                self.waiting -= 1
        return connection

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts of a call; not where the client is closed meanwhile."""
        self.pausing += 1
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
        finally:
            self.pausing -= 1

    def _reason(self) -> RpcError:
        """Why there is no session now."""
        reasons = [channel.reason for channel in self._channels]
        if len(reasons) == 1:
            return reasons[0]
        if all(isinstance(reason, Unimplemented) for reason in reasons):
            return Unimplemented("; ".join(reason.message for reason in reasons))
        return Unavailable("; ".join(reason.message for reason in reasons))

    def after(self, signal: NeverRan, wait: bool | None) -> RpcError | None:
        """A call did not run: why, unless another session may take it, now or later."""
        wait = self._wait_for_ready if wait is None else wait
        if self.state is ClientState.CLOSED or not (wait or self._ready):
            return signal.reason
        return None
