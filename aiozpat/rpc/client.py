"""The client: awaits calls on one server, session after session."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import warnings
from collections.abc import Mapping
from threading import get_ident
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar, overload
from weakref import WeakSet

from aiozpat.codec import Decoder
from aiozpat.errors import (
    AiozpatError,
    Closed,
    DeadlineExceeded,
    ResourceExhausted,
    RpcError,
    Unavailable,
    Unimplemented,
    UsageError,
)
from aiozpat.observability.notices import Notices
from aiozpat.observability.statistics import ClientStatistics
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.current import current_job
from aiozpat.rpc.pending import NeverRan, Phase
from aiozpat.rpc.settings import QUEUE_MESSAGES, LinkSettings, process_name
from aiozpat.rpc.states import ClientState, StateChanges
from aiozpat.transport import Context, SocketOptions, check_connect

T = TypeVar("T")

_log = logging.getLogger("aiozpat.client")
_monotonic = time.monotonic
_MIB = 1024 * 1024
_GOODBYE = 1.0  # seconds for the server to answer our goodbye
_DECODERS = 1024  # result types remembered
_YIELD = 64  # notifies between turns of the loop
_PAUSE_LEAST, _PAUSE_MOST = 0.05, 1.0  # seconds between sessions that did not come about


class Client:
    """Calls the methods of a server; one connection carries any number of calls at once.

    Entering the block begins to connect, and does not wait for it: `ready` does.

    Args:
        endpoint: The server's, as in `tcp://127.0.0.1:5555`.
        timeout: Seconds that a call may take where it says nothing itself.
        wait_for_ready: Whether a call made without a connection waits for one until its deadline, or fails at once.
        name: Who this is, in the server's logs; by default the program and its process id.
        heartbeat: Seconds of silence after which the server is pinged; after three of them it is given up.
        max_in_flight: Calls in flight at once; past it `ResourceExhausted`.
        window_bytes: Bytes that the server may send beyond what this client has read.
        backlog_bytes: Bytes of calls that may wait to be sent; past it `ResourceExhausted`.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be connected to.
        ValueError: A value is out of range.
    """

    _supervisor: asyncio.Task[None] | None = None  # of the class too: __del__ runs even if __init__ raised

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float = 30.0,
        wait_for_ready: bool = True,
        name: str | None = None,
        heartbeat: float = 2.0,
        max_in_flight: int = 16_384,
        window_bytes: int = 8 * _MIB,
        backlog_bytes: int = 64 * _MIB,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        self._endpoint = check_connect(endpoint)
        numbers = {"max_in_flight": max_in_flight, "window_bytes": window_bytes, "backlog_bytes": backlog_bytes}
        for what, value in numbers.items():
            if value != int(value) or not 0 < value < 2**53:
                raise ValueError(f"{what} is a whole number above 0; got {value!r}")
        if not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0; got {timeout!r}")
        self._timeout = timeout
        self._wait_for_ready = wait_for_ready
        self._settings = LinkSettings(
            name=name or process_name(),
            window_bytes=window_bytes,
            options=(options or SocketOptions()).with_queues(QUEUE_MESSAGES),
            heartbeat=heartbeat,
        )
        self._max_in_flight = max_in_flight
        self._backlog_bytes = backlog_bytes
        self._given_context = context
        self._context: Context | None = None
        self._notices = Notices(_log)
        self._decoders: dict[Any, Decoder] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._current: Connection | None = None  # the newest, whatever its phase
        self._usable: Connection | None = None  # the one that takes calls now
        self._leaving: set[Connection] = set()  # draining, while a newer one takes over
        self._watchers: WeakSet[StateChanges] = WeakSet()
        self._ended = asyncio.Event()
        self._changed: asyncio.Event | None = None
        self._state = ClientState.CONNECTING
        self._calls = 0
        self._sessions = 0
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<aiozpat.Client of {self._endpoint}, {self._state.value}>"

    def __del__(self) -> None:
        if self._supervisor is not None and self._state is not ClientState.CLOSED:
            warnings.warn(f"{self!r} was left open; use `async with`", ResourceWarning, source=self, stacklevel=1)

    @property
    def endpoint(self) -> str:
        """The server's endpoint."""
        return self._endpoint

    @property
    def state(self) -> ClientState:
        """Whether calls can be sent now."""
        return self._state

    def state_changes(self) -> StateChanges:
        """An async iterator that gives the state now, then each change; it ends when the client is closed."""
        return StateChanges(self._state, self._watchers)

    # Life

    async def __aenter__(self) -> Self:
        if self._supervisor is not None:
            raise UsageError("this Client was entered before; make a new one")
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._changed = asyncio.Event()
        self._context = self._given_context or Context.current()
        self._context.hold()
        try:
            connection = self._connect(self._context)
        except BaseException:
            await self._context.release()
            raise
        self._supervisor = asyncio.create_task(self._supervise(connection), name=f"supervisor of {self!r}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye to the server and close; calls in flight end with `Unavailable`. Closing twice is harmless."""
        supervisor, context = self._supervisor, self._context
        if supervisor is None or context is None:
            return
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; close it there")
        if self._state is ClientState.CLOSED:
            await self._ended.wait()
            return
        self._usable = None
        self._set_state(ClientState.CLOSED)
        supervisor.cancel()
        try:
            await asyncio.wait({supervisor})
            await asyncio.gather(*(connection.leave(_GOODBYE) for connection in self._connections()))
        finally:
            for connection in self._connections():
                connection.end(Unavailable("this client was closed"))
            try:
                await context.release()
            finally:
                self._ended.set()

    def _connections(self) -> set[Connection]:
        return self._leaving if self._current is None else {*self._leaving, self._current}

    def _connect(self, context: Context) -> Connection:
        self._sessions += 1
        self._current = Connection(
            context,
            self._endpoint,
            self._settings,
            max_calls=self._max_in_flight,
            backlog_bytes=self._backlog_bytes,
            notices=self._notices,
            on_phase=self._on_phase,
        )
        return self._current

    async def _supervise(self, connection: Connection) -> None:
        """Open a session after the other, for as long as the client lives."""
        if self._context is None or self._changed is None:
            return
        pause = _PAUSE_LEAST
        while True:
            opened = _monotonic()
            while connection.phase in (Phase.CONNECTING, Phase.READY):
                await self._changed.wait()
            # Jitter: a server that returns should not meet all its clients at one moment.
            pause = min(pause * 2, _PAUSE_MOST) if _monotonic() - opened < _PAUSE_MOST else _PAUSE_LEAST
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not for secrets
            try:
                connection = self._connect(self._context)
            except AiozpatError as error:
                self._notices.note("no socket", str(error))

    def _on_phase(self, connection: Connection) -> None:
        """A session came about, is to be left, or has ended."""
        if connection.phase is Phase.READY:
            self._usable = connection
            self._set_state(ClientState.READY)
            return
        if self._usable is connection:
            self._usable = None
        if connection.phase is Phase.DRAINING:
            self._leaving.add(connection)
            self._set_state(ClientState.DRAINING)
        else:
            self._leaving.discard(connection)
            if self._usable is None:
                self._set_state(ClientState.CONNECTING)

    def _set_state(self, state: ClientState) -> None:
        if self._state is ClientState.CLOSED:
            return
        if state is not self._state:
            _log.debug("client of %s: %s -> %s", self._endpoint, self._state.value, state.value)
            self._state = state
            for watcher in tuple(self._watchers):
                watcher.put(state)
        if self._changed is not None:
            self._changed.set()
            self._changed.clear()

    async def ready(self, timeout: float | None = None) -> None:
        """Wait for a connection.

        Args:
            timeout: Seconds to wait; the client's own by default.

        Raises:
            DeadlineExceeded: There was none in time; the message says what went wrong.
            Unimplemented: The server speaks no version of the protocol that this client does.
            Closed: The client is closed.
        """
        self._check_usable()
        if self._usable is None:
            await self._connection(_monotonic() + (self._timeout if timeout is None else timeout), wait=True)

    # Calls

    @overload
    async def call(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = ...,
        timeout: float | None = ...,
        result_type: type[T],
        metadata: Mapping[str, str] | None = ...,
        wait_for_ready: bool | None = ...,
    ) -> T: ...

    @overload
    async def call(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = ...,
        timeout: float | None = ...,
        result_type: Any = ...,
        metadata: Mapping[str, str] | None = ...,
        wait_for_ready: bool | None = ...,
    ) -> Any: ...

    async def call(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        result_type: Any = Any,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
    ) -> Any:
        """Call a method and wait for its result.

        A call runs at most once. Cancelling the waiting task cancels the handler. A call made inside a handler ends at
        that handler's deadline if it is earlier.

        Args:
            method: The full name, as in `calc.add`.
            args: The params by position.
            params: The params by name, instead of `args`.
            timeout: Seconds for all of it, waiting for a connection included; the client's own by default.
            result_type: What to decode the result into; by default whatever MessagePack gives.
            metadata: Text by name that travels with the call; the handler sees it in `current_call().metadata`.
            wait_for_ready: As the constructor's, for this call.

        Returns:
            The handler's result.

        Raises:
            DeadlineExceeded: No answer in time.
            Unavailable: No connection (without waiting for one), or it broke: the call may or may not have run.
            InvalidArgument: The params can't be encoded, or don't fit the method.
            Unimplemented: No such service or method there.
            ResourceExhausted: A limit was reached, here or there.
            Internal: The handler raised an exception that is no RpcError, or the result is not a `result_type`.
            RpcError: Whatever else the handler chose to raise.
            Closed: The client is closed.
        """
        now = _monotonic()
        deadline = now + (self._timeout if timeout is None else timeout)
        job = current_job.get()
        if job is not None and job.deadline < deadline:
            deadline = job.deadline
        values: Any = args
        if params is not None:
            values = _by_name(args, params)
        try:
            decoder = self._decoders[result_type]
        except (KeyError, TypeError):
            decoder = self._new_decoder(result_type)
        try:
            while True:
                connection = self._usable
                if connection is None or get_ident() != self._thread:
                    connection = await self._connection(deadline, wait_for_ready)
                    now = _monotonic()
                if not deadline > now:  # not a number, too
                    raise DeadlineExceeded(f"{method}: the time for it was over before it was sent")
                self._calls += 1
                pending = connection.start(method, values, deadline, deadline - now, decoder, metadata)
                try:
                    return await pending.future
                except asyncio.CancelledError:
                    connection.abandon(pending)
                    raise
                except NeverRan as signal:
                    await self._after(signal, wait_for_ready)
                    now = _monotonic()
        except RpcError as error:
            error.from_call = True
            raise
        except RuntimeError:
            self._check_usable()  # asyncio's own words for a wrong loop don't say what to do
            raise

    async def notify(
        self,
        method: str,
        /,
        *args: Any,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        wait_for_ready: bool | None = None,
    ) -> None:
        """Call a method one way: no result, no error, no word of whether it ran.

        Returns when the call is queued for the server. Leaving the client's block waits until the server has read it,
        and does not cancel it.

        Args:
            method: The full name.
            args: The params by position.
            params: The params by name, instead of `args`.
            timeout: Seconds for a connection to come about, and for the handler.
            metadata: As for `call`.
            wait_for_ready: As for `call`.

        Raises:
            DeadlineExceeded, Unavailable, InvalidArgument, ResourceExhausted, Closed: As for `call`, as far as this
                side can know.
        """
        deadline = _monotonic() + (self._timeout if timeout is None else timeout)
        job = current_job.get()
        if job is not None:
            deadline = min(deadline, job.deadline)
        values: Any = args if params is None else _by_name(args, params)
        connection = self._usable
        if connection is None or get_ident() != self._thread:
            connection = await self._connection(deadline, wait_for_ready)
        left = deadline - _monotonic()
        if not left > 0:
            raise DeadlineExceeded(f"{method}: the time for it was over before it was sent")
        connection.notify(method, values, left, metadata)
        if not self._calls % _YIELD:
            await asyncio.sleep(0)  # a loop of notifies must not keep the loop to itself
        self._calls += 1

    def _check_usable(self) -> None:
        if self._state is ClientState.CLOSED:
            raise Closed(f"{self!r} is closed")
        if self._loop is None:
            raise UsageError("a Client is used inside `async with Client(...)`")
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; make one client for each loop")

    async def _connection(self, deadline: float, wait: bool | None) -> Connection:
        """The connection that takes calls, waited for if need be."""
        self._check_usable()
        wait = self._wait_for_ready if wait is None else wait
        while self._usable is None:
            self._check_usable()
            reason = self._reason()
            if not wait or isinstance(reason, Unimplemented):
                raise type(reason)(reason.message)
            if self._changed is None or self._waiting >= self._max_in_flight:
                raise ResourceExhausted(f"{self._waiting} calls wait for a connection to {self._endpoint}")
            self._waiting += 1
            try:
                async with asyncio.timeout(max(0.0, deadline - _monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                raise DeadlineExceeded(f"no connection in time: {self._reason().message}") from None
            finally:
                self._waiting -= 1
        return self._usable

    def _reason(self) -> RpcError:
        """Why there is no connection now."""
        return self._current.reason if self._current is not None else Unavailable(f"not connected to {self._endpoint}")

    async def _after(self, signal: NeverRan, wait: bool | None) -> None:
        """A call did not run: let it wait for the next session, or give up."""
        if self._state is ClientState.CLOSED or not (self._wait_for_ready if wait is None else wait):
            raise signal.reason
        await asyncio.sleep(0)  # a server that refuses at once must not make this a busy loop

    def _new_decoder(self, result_type: Any) -> Decoder:
        try:
            decoder = Decoder(result_type)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise UsageError(f"result_type={result_type!r} can't be decoded: {error}") from error
        try:
            if len(self._decoders) >= _DECODERS:
                self._decoders.clear()
            self._decoders[result_type] = decoder
        except TypeError:
            _log.debug("result_type %r is not hashable, so its decoder is made anew each time", result_type)
        return decoder

    def statistics(self) -> ClientStatistics:
        """A snapshot of what it has done and is doing."""
        connections = self._connections()
        return ClientStatistics(
            in_flight=sum(len(connection.calls) for connection in connections) + self._waiting,
            calls=self._calls,
            sessions=self._sessions,
            waiting_bytes=sum(connection.outbox.nbytes for connection in connections),
            notices=MappingProxyType(self._notices.counts()),
        )


def _by_name(args: tuple[Any, ...], params: Mapping[str, Any]) -> dict[str, Any]:
    if args:
        raise UsageError("params go by position or by name, not both: call(method, 1, 2) or call(method, params={...})")
    return dict(params)
