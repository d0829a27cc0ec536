"""The server: services behind a ROUTER socket that answers out of order, one task a call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from anyio import CancelScope

from aiozpat.checks import flag, given, number
from aiozpat.codec import JSON, Codec, Values
from aiozpat.errors import Closed, UsageError
from aiozpat.observability.notices import Notices
from aiozpat.observability.statistics import MethodStatistics, ServerStatistics
from aiozpat.protocol.records import CODEC
from aiozpat.rpc.current import current_job
from aiozpat.rpc.executor import Executor
from aiozpat.rpc.interceptors import ServerInterceptor, checked
from aiozpat.rpc.introspection import reserved_service
from aiozpat.rpc.lifespan import Lifespans
from aiozpat.rpc.limits import Limits
from aiozpat.rpc.listener import Listener
from aiozpat.rpc.route import Route
from aiozpat.rpc.service import Service
from aiozpat.rpc.settings import LinkSettings, process_name
from aiozpat.rpc.signals import handled
from aiozpat.transport import (
    Context,
    SocketOptions,
    check_bind,
    context_given,
    endpoints_of,
    options_given,
    watch_forks,
)
from aiozpat.version import __version__

_log = logging.getLogger("aiozpat.server")
_CLEANING_UP = 1.0  # seconds for handlers that were cancelled
_GOODBYE = 1.0  # seconds for the clients to say goodbye


class Server:
    """Serves services from the moment its block is entered until it is left.

    Leaving the block drains: new calls are refused, those running finish within `grace`, the clients are told. Leaving
    it by an exception or a cancellation ends the running calls at once.

    Args:
        services: What to serve; each has a name of its own.
        bind: One endpoint or several, as in `tcp://127.0.0.1:5555`; port `*` lets the system choose.
        name: Who this is, in clients' logs, up to 200 characters; by default the program and its process id.
        limits: How much it takes on at once.
        heartbeat: Seconds of silence after which a client is pinged, 0.01 to 3600; after three of them it is given up.
            Handlers that block the event loop for so long cost the sessions, and the calls in them.
        grace: Seconds for running calls to finish when it drains.
        send_tracebacks: Whether callers see the traceback of an unexpected exception (not for the public).
        codecs: Codecs of your own that clients may use, beside MessagePack and JSON.
        interceptors: Coroutine functions that are given each call and `proceed`, the first one outermost:
            `async def log(call, proceed): ...; return await proceed()`. Of a stream, `proceed` lasts until its end. An
            RpcError raised before it proceeds is the answer; `ResourceExhausted` then tells the client that the call
            never ran.
        options: Options of the socket; its `max_message_bytes` is 1 MiB at least.
        context: A context to share; by default the loop's own.

    Raises:
        ValueError: A value is out of range, or two codecs have one name.
        TypeError: A value is of the wrong kind.
        InvalidEndpoint: `bind` is not an endpoint; on entering, also if it is not this machine's.
        AddressInUse: On entering: somebody else listens there.
        UsageError: No service, no endpoint, or two services with one method name.
    """

    _listener: Listener | None = None  # of the class too: __del__ runs even if __init__ raised

    def __init__(
        self,
        *services: Service,
        bind: str | Iterable[str],
        name: str | None = None,
        limits: Limits | None = None,
        heartbeat: float = 2.0,
        grace: float = 5.0,
        send_tracebacks: bool = False,
        codecs: Iterable[Codec] = (),
        interceptors: Iterable[ServerInterceptor] = (),
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        if not all(isinstance(service, Service) for service in services):
            raise UsageError(f"Server(calc, other, bind=...) takes Service objects; got {services!r}")
        self._services = services
        self._bind = tuple(check_bind(endpoint) for endpoint in endpoints_of(bind))
        if not services or not self._bind:
            raise UsageError("a Server needs at least one Service and one endpoint to bind")
        if len({service.name for service in services}) < len(services):
            raise UsageError("two services of one Server have the same name")
        number("grace", grace, zero=True)
        self._limits = given(limits, Limits, "limits are aiozpat.Limits(...)") or Limits()
        self._settings = LinkSettings(
            name=name or process_name(),
            window_bytes=self._limits.window_bytes,
            options=options_given(options),
            heartbeat=heartbeat,
            patience=self._limits.slow_peer_seconds,
            stream_window=self._limits.stream_window,
        )
        self._grace = grace
        self._send_tracebacks = flag("send_tracebacks", send_tracebacks)
        self._codecs = _by_name(codecs)
        self._interceptors = checked(interceptors)
        self._context = context_given(context)
        self._notices = Notices(_log)
        self._executor: Executor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._hurry: asyncio.Event | None = None
        self._entered = False
        self._forked = False
        self._closed = False
        self._serving = False
        self._stop_asked = False
        self._ended = asyncio.Event()
        self._lifespans = Lifespans((), self._on_lifespan_end)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "serving" if self._listener is not None else "new"
        names = ", ".join(service.name for service in self._services)
        return f"<aiozpat.Server {names} on {', '.join(self.endpoints or self._bind)}, {state}>"

    def __del__(self) -> None:
        if self._listener is not None and not (self._closed or self._forked):
            warnings.warn(f"{self!r} was left open; use `async with`", ResourceWarning, source=self, stacklevel=1)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it listens, with the ports that the system chose; empty before the block is entered."""
        return self._listener.socket.endpoints if self._listener is not None else ()

    @property
    def endpoint(self) -> str:
        """The first of `endpoints`.

        Raises:
            UsageError: The block is not entered yet.
        """
        if not self.endpoints:
            raise UsageError("a Server has its endpoint inside `async with`")
        return self.endpoints[0]

    async def __aenter__(self) -> Self:
        if self._entered:
            raise UsageError("this Server was entered before; make a new one")
        self._entered = True
        try:
            await self._enter()
        except BaseException:
            self._entered = False
            raise
        watch_forks(self, Server._on_fork)
        return self

    def _on_fork(self) -> None:
        """Have nothing to close in this process."""
        self._forked = True

    async def _enter(self) -> None:
        """Open the lifespans and then the socket."""
        lifespans = ((service.name, service.lifespan) for service in self._services if service.lifespan is not None)
        self._lifespans = Lifespans(lifespans, self._on_lifespan_end)
        await self._lifespans.open()
        try:
            self._listener = await self._listen(self._lifespans.states)
        except BaseException:
            await self._lifespans.close()
            raise
        for service in self._services:
            service.servers.add(self)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        if self._stop_asked:
            self._stopping.set()
        self._hurry = asyncio.Event()
        self._executor = self._listener.executor

    async def _listen(self, states: Mapping[str, Any]) -> Listener:
        """Open the socket, and take calls from now on."""
        name, services = self._settings.name, self._services
        codecs = [CODEC, *self._codecs]
        about = reserved_service(name, __version__, services, codecs, self.statistics, lambda: self._closed)
        context = self._context or Context.current()
        context.hold()  # for the listener, and so that it ends if there is none
        try:
            listener = Listener(context, self._settings, self._limits, self._notices, self._codecs)
        except BaseException:
            await context.release()
            raise
        try:
            for endpoint in self._bind:
                listener.socket.bind(endpoint)
            listener.executor = Executor(
                (*services, about),
                states,
                self._limits,
                sessions=listener.each,
                post=listener.post,
                send_alone=listener.send_alone,
                control=listener.control,
                notices=self._notices,
                send_tracebacks=self._send_tracebacks,
                interceptors=self._interceptors,
            )
        except BaseException:
            await listener.close()
            raise
        return listener

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(grace=self._grace if kind is None else 0)

    async def serve_forever(self) -> None:
        """Serve until `stop`, `close`, SIGINT or SIGTERM, drain, and return; a second signal ends the calls at once.

        Signals are handled where the loop can (in the main thread); then `signal.signal`'s handlers are as before. What
        `loop.add_signal_handler` had set for these two is gone: set it again afterwards, or else the signal does
        nothing. Cancelling it stops waiting; the block then ends.

        Raises:
            UsageError: Outside the block, or called twice.
            Closed: The server is closed.
        """
        if self._closed:
            raise Closed("this Server is closed")
        if self._loop is None or self._stopping is None:
            raise UsageError("serve_forever() works inside `async with Server(...)`")
        if self._loop is not asyncio.get_running_loop():
            raise UsageError("this Server belongs to another event loop")
        if self._serving:
            raise UsageError("serve_forever() runs already")
        self._serving = True
        try:
            with handled(self._loop, self._on_signal):
                await self._stopping.wait()
                await self.close()
        finally:
            self._serving = False

    def stop(self) -> None:
        """Let `serve_forever` drain and return; may be called from any thread, and at any time."""
        self._stop_asked = True
        if self._stopping is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the server
                self._loop.call_soon_threadsafe(self._stopping.set)

    def _on_lifespan_end(self, error: BaseException | None) -> None:
        """What the handlers need is gone; `close` raises the error."""
        self._notices.count("lifespan ended")
        _log.error("a service's lifespan ended by itself: %r stops", self, exc_info=error)
        if self._stopping is not None:
            self._stopping.set()

    def _on_signal(self) -> None:
        if self._stopping is None or self._hurry is None:
            return
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def close(self, grace: float | None = None) -> None:
        """Drain and close; closing twice is harmless.

        Args:
            grace: Seconds for the running calls to finish; the constructor's by default. 0 ends them at once.
                Cancelled, it ends them and closes; lifespans then have 5 s to end.

        Raises:
            UsageError: On another loop, while the block is being entered, or in a handler's own task, for which it
                would wait. (A task that a handler awaits is not seen: that waits until its grace is over.)
            ValueError: `grace` is below 0, or not a number.
            TypeError: It is of the wrong kind.
        """
        if self._forked:
            return
        listener, executor = self._listener, self._executor
        if listener is None or executor is None:
            if self._entered:
                raise UsageError(f"{self!r} is being entered: cancel that, or call stop(), or close it afterwards")
            return
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; close it there, or call stop() from here")
        if grace is not None:
            number("grace", grace, zero=True)
        await self._check_outside(listener)
        if self._closed:
            if self._hurry is not None and grace == 0:
                self._hurry.set()
            await self._ended.wait()
            return
        self._closed = True
        for service in self._services:
            service.servers.discard(self)
        try:
            executor.refuse("the server is draining")
            listener.goaway("the server is draining")
            await self._drained(executor, self._grace if grace is None else grace)
            left = await executor.stop(timeout=_CLEANING_UP)
            if left:
                self._notices.note("call left running", f"{left} handlers did not end when they were cancelled")
            await listener.bye("the server has ended", _GOODBYE)
        except BaseException:
            with CancelScope(shield=True):  # a cancelled scope of anyio's cancels again and again
                await executor.stop(timeout=_CLEANING_UP)  # what the lifespans gave, handlers need to the last
            raise
        finally:
            executor.close()
            await self._end(listener)

    async def _check_outside(self, listener: Listener) -> None:
        """See to it that it is no handler that waits for the end of all handlers; a task that one has left may."""
        job = current_job()
        if job is None or job.session.listener is not listener:
            return
        await asyncio.sleep(0)  # from its first pause on, a handler's task is known
        if job.task is asyncio.current_task():
            raise UsageError(f"{job.route.name} would wait for its own end: call stop(), and serve_forever() drains")

    async def _end(self, listener: Listener) -> None:
        """Close the socket, and leave the lifespans, also where the first is cancelled."""
        try:
            try:
                await listener.close()
            finally:
                await self._lifespans.close()
        finally:
            self._ended.set()
            if self._stopping is not None:
                self._stopping.set()  # it may have been another task that closed

    async def _drained(self, executor: Executor, grace: float) -> None:
        """Wait for the running calls, as long as there is grace and no second signal."""
        if self._hurry is None or not grace:
            return
        hurry = asyncio.ensure_future(self._hurry.wait())
        idle = asyncio.ensure_future(executor.idle(grace))
        try:
            await asyncio.wait({hurry, idle}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (hurry, idle):
                waiting.cancel()
            await asyncio.wait({hurry, idle})

    def statistics(self) -> ServerStatistics:
        """A snapshot of what it has done and is doing."""
        listener, executor = self._listener, self._executor
        if listener is None or executor is None:
            return ServerStatistics(0, 0, 0, 0, MappingProxyType({}), MappingProxyType({}))
        methods = {name: _method_statistics(route) for name, route in executor.routes.items() if not route.reserved}
        return ServerStatistics(
            sessions=len(listener.sessions),
            running=executor.gate.running,
            queued=executor.gate.queued + sum(method.queued for method in methods.values()),
            waiting_bytes=listener.waiting_bytes(),
            methods=MappingProxyType(methods),
            notices=MappingProxyType(self._notices.counts()),
        )


def _by_name(codecs: Iterable[Codec]) -> dict[str, Values]:
    """Codecs of a user's own, and JSON unless one of these takes its place."""
    own: dict[str, Values] = {}
    anything: object = codecs
    if not isinstance(anything, Iterable):
        raise TypeError(f"codecs are several, as in codecs=[MyCodec()]; got {codecs!r}")
    for values in map(Values, codecs):
        if values.name in own:
            raise ValueError(f"two codecs of one Server have the name {values.name!r}")
        own[values.name] = values
    return {JSON.name: Values(JSON()), **own}


def _method_statistics(route: Route) -> MethodStatistics:
    gate = route.gate
    if gate is None:
        return MethodStatistics(route.calls, route.errors, 0, 0)
    return MethodStatistics(route.calls, route.errors, gate.running, gate.queued)
