"""A proxy: one well-known place between clients and workers, publishers and subscribers, pushers and pullers."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Self, TypeAlias

from aiozpat.checks import linger_seconds
from aiozpat.endpoints.base import HURRIED_LINGER
from aiozpat.errors import Closed, InvalidEndpoint, UsageError
from aiozpat.observability.statistics import ProxyStatistics, SideStatistics
from aiozpat.transport import (
    Forwarder,
    ProxyKinds,
    SocketOptions,
    check_bind,
    check_connect,
    endpoints_of,
    options_given,
)

Pattern: TypeAlias = Literal["request-reply", "publish-subscribe", "pipeline"]

_KINDS = {
    "request-reply": ProxyKinds.REQUEST_REPLY,
    "publish-subscribe": ProxyKinds.PUBLISH_SUBSCRIBE,
    "pipeline": ProxyKinds.PIPELINE,
}


class Proxy:
    """Passes messages between a frontend and a backend, each bound or connected to any number of endpoints.

    It runs from the beginning of its block to the end, in a thread of libzmq's: the loop never waits for it, nor it
    for the loop. Requests go to the workers in turn; subscriptions travel through to the publishers. Where one side is
    full, the other waits (tasks, requests) or messages are missed (publications, replies to clients that don't read).

    Args:
        pattern: `"request-reply"`: clients in front, workers behind (ROUTER, DEALER). `"publish-subscribe"`: publishers
            in front, subscribers behind (XSUB, XPUB). `"pipeline"`: pushers in front, pullers behind (PULL, PUSH).
        frontend_bind: One endpoint or several where the frontend listens.
        backend_bind: The same for the backend.
        frontend_connect: One endpoint or several that the frontend connects to.
        backend_connect: The same for the backend.
        capture_bind: One endpoint or several where all that passes, in both directions and with all frames, is
            published: a `Subscriber(topics=[""])` there sees it, but for what it has no room for. Of publish-subscribe
            that includes subscriptions (a byte 1, or 0 at their end, before the topic), and so what `ready` asks.
        linger: Seconds for which messages on their way out are still delivered at the end.
        options: Options of all sockets.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to; inproc:// is none, since a proxy has a
            ZeroMQ context of its own.
        UsageError: A side has no endpoint.
        ValueError: An unknown pattern, or `linger` is negative or not finite.
    """

    _forwarder: Forwarder | None = None  # of the class too: __del__ runs even if __init__ raised

    def __init__(
        self,
        pattern: Pattern,
        *,
        frontend_bind: str | Iterable[str] | None = None,
        backend_bind: str | Iterable[str] | None = None,
        frontend_connect: str | Iterable[str] | None = None,
        backend_connect: str | Iterable[str] | None = None,
        capture_bind: str | Iterable[str] | None = None,
        linger: float = 1.0,
        options: SocketOptions | None = None,
    ) -> None:
        if pattern not in _KINDS:
            raise ValueError(f"a proxy's pattern is {', '.join(map(repr, _KINDS))}; got {pattern!r}")
        self._pattern = pattern
        self._binds = [endpoints_of(given) for given in (frontend_bind, backend_bind, capture_bind)]
        self._connects = [endpoints_of(given) for given in (frontend_connect, backend_connect)]
        _check(self._binds, check_bind)
        _check(self._connects, check_connect)
        for side, binds, connects in zip(("frontend", "backend"), self._binds, self._connects, strict=False):
            if not binds and not connects:
                raise UsageError(f"a proxy's {side} needs an endpoint: {side}_bind= or {side}_connect=")
        self._linger = linger_seconds(linger)
        self._options = options_given(options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        self._frontend: tuple[str, ...] = ()
        self._backend: tuple[str, ...] = ()
        self._capture: tuple[str, ...] = ()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._forwarder is not None else "new"
        frontend, backend = (", ".join(side) or "nowhere" for side in (self._frontend, self._backend))
        return f"<aiozpat.Proxy {self._pattern} from {frontend} to {backend}, {state}>"

    def __del__(self) -> None:
        if self._forwarder is not None and not self._closed:
            warnings.warn(f"{self!r} was left open; use `async with`", ResourceWarning, source=self, stacklevel=1)

    @property
    def frontend_endpoint(self) -> str:
        """The first of `frontend_endpoints`; inside the block."""
        return self._first(self._frontend)

    @property
    def backend_endpoint(self) -> str:
        """The first of `backend_endpoints`; inside the block."""
        return self._first(self._backend)

    @property
    def capture_endpoint(self) -> str:
        """The first of `capture_endpoints`; inside the block."""
        return self._first(self._capture)

    @property
    def frontend_endpoints(self) -> tuple[str, ...]:
        """Where the frontend is bound and connected, with the ports that the system chose."""
        return self._frontend

    @property
    def backend_endpoints(self) -> tuple[str, ...]:
        """Where the backend is bound and connected, with the ports that the system chose."""
        return self._backend

    @property
    def capture_endpoints(self) -> tuple[str, ...]:
        """Where what passes is published, with the ports that the system chose."""
        return self._capture

    def _first(self, endpoints: tuple[str, ...]) -> str:
        if not endpoints:
            raise UsageError(f"{self!r} has its endpoints inside `async with`, and a capture where one was asked for")
        return endpoints[0]

    async def __aenter__(self) -> Self:
        if self._closed or self._forwarder is not None:
            raise UsageError(f"{self!r} was entered before; make a new one")
        self._loop = asyncio.get_running_loop()
        forwarder = Forwarder(_KINDS[self._pattern], self._options, self._linger)
        try:
            self._frontend = forwarder.attach(forwarder.frontend, self._binds[0], self._connects[0])
            self._backend = forwarder.attach(forwarder.backend, self._binds[1], self._connects[1])
            if self._binds[2]:
                self._capture = forwarder.capture(self._binds[2])
            forwarder.start()
        except BaseException:
            self._closed = True
            forwarder.end(0)
            await forwarder.stop()
            raise
        self._forwarder = forwarder
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):  # as for endpoints
            self._linger = min(self._linger, HURRIED_LINGER)
        await self.close()

    async def close(self) -> None:
        """End it; what is on its way out is delivered for up to `linger` seconds more. Closing twice is harmless.

        Cancelled, it ends all the same, a little later.
        """
        forwarder = self._forwarder
        if forwarder is None:
            return
        self._check_loop()
        if self._ending is None:
            self._closed = True
            forwarder.end(self._linger)  # at once: the loop's end may cancel the task before it begins
            self._ending = asyncio.create_task(forwarder.stop(), name=f"end of {self!r}")
        await asyncio.shield(self._ending)

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; use it there")

    def _running(self) -> Forwarder:
        if self._closed:
            raise Closed(f"{self!r} is closed")
        if self._forwarder is None:
            raise UsageError(f"{self!r} is used inside `async with`")
        self._check_loop()
        return self._forwarder

    async def serve(self) -> None:
        """Wait until it is closed; it runs without this too. Cancelling only ends the waiting.

        Raises:
            AiozpatError: It failed.
            Closed: It is closed already.
        """
        await self._running().ended()

    async def statistics(self) -> ProxyStatistics:
        """What has passed so far.

        Raises:
            TimedOut: It did not answer within 5 seconds: it waits for room on a side that nobody reads.
            Closed: It is closed, or was meanwhile.
        """
        counts = await self._running().counts()
        return ProxyStatistics(SideStatistics(*counts[:4]), SideStatistics(*counts[4:]))


def _check(sides: Iterable[Iterable[str]], check: Callable[[str], str]) -> None:
    for endpoints in sides:
        for endpoint in endpoints:
            if check(endpoint).startswith("inproc:"):
                raise InvalidEndpoint(f"{endpoint!r}: a proxy can't be reached over inproc://; use ipc:// or tcp://")
