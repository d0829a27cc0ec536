"""libzmq's own proxy, in a thread: it moves messages between two sockets without Python touching them."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import zmq

from aiozpat.errors import AiozpatError, UsageError
from aiozpat.transport import attach
from aiozpat.transport.context import Context
from aiozpat.transport.options import SocketOptions
from aiozpat.transport.socket import Socket, SocketKind

_STOP_SECONDS = 5.0
_COUNT_SECONDS = 5.0
_SUBSCRIPTIONS = 100_000  # on their way to one publisher; past the mark libzmq drops them without a word
_numbers = itertools.count()


class Traffic(NamedTuple):
    """What one side of a proxy has moved; a message's frames count one by one, as libzmq counts them.

    Attributes:
        received: Frames that came in from this side.
        received_bytes: Their size.
        sent: Frames that went out to this side.
        sent_bytes: Their size.
    """

    received: int
    received_bytes: int
    sent: int
    sent_bytes: int


class ProxyKinds(Enum):
    """The sockets of a proxy: frontend, backend."""

    REQUEST_REPLY = (zmq.ROUTER, zmq.DEALER)
    PUBLISH_SUBSCRIBE = (zmq.XSUB, zmq.XPUB)
    PIPELINE = (zmq.PULL, zmq.PUSH)


class Forwarder:
    """Two sockets, and libzmq's proxy between them in a thread of its own.

    Args:
        context: Whose context.
        kinds: The socket types.
        options: Options of both sockets.
        linger: Seconds for which messages on their way out are still delivered after the end.
    """

    def __init__(self, context: Context, kinds: ProxyKinds, options: SocketOptions, linger: float) -> None:
        self._context = context
        self._options = options
        self._linger = linger
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._counts: asyncio.Future[list[int]] | None = None
        self._turn = asyncio.Lock()
        self._thread: threading.Thread | None = None
        self._capture: zmq.Socket[bytes] | None = None
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(context.acquire().underlying)
        frontend, backend = kinds.value
        self._opened: list[zmq.Socket[bytes]] = []
        try:
            self.frontend = self._socket(frontend)
            self.backend = self._socket(backend)
        except BaseException:
            self._close()
            raise

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        try:
            socket = self._zmq.socket(kind)
        except zmq.ZMQError as error:
            raise AiozpatError(f"can't open a socket: {error.strerror}") from None
        self._opened.append(socket)
        for number, value in self._options.settings():
            socket.setsockopt(number, value)
        if kind == zmq.XSUB:
            socket.setsockopt(zmq.SNDHWM, _SUBSCRIPTIONS)
        return socket

    def attach(self, socket: zmq.Socket[bytes], binds: Iterable[str], connects: Iterable[str]) -> tuple[str, ...]:
        """Bind and connect one of the sockets; the endpoints with the ports that the system chose."""
        ipv6 = self._options.ipv6
        return (
            *(attach.bind(socket, endpoint, ipv6=ipv6) for endpoint in binds),
            *(attach.connect(socket, endpoint, ipv6=ipv6) for endpoint in connects),
        )

    def capture(self, binds: Iterable[str]) -> tuple[str, ...]:
        """Publish whatever passes, in both directions, to who subscribes there."""
        self._capture = self._socket(zmq.PUB)
        return self.attach(self._capture, binds, ())

    def start(self) -> None:
        """Begin to forward."""
        name = f"inproc://aiozpat-forwarder-{next(_numbers)}"
        steered = self._socket(zmq.PAIR)
        steered.bind(name)
        self._control = Socket(
            self._context, SocketKind.PAIR, SocketOptions(), on_readable=self._on_counts, max_frames=16
        )
        self._control.connect(name)
        self._thread = threading.Thread(target=self._run, args=(steered,), name="aiozpat-proxy", daemon=True)
        self._thread.start()

    def _run(self, steered: zmq.Socket[bytes]) -> None:
        problem: zmq.ZMQError | None = None
        try:
            zmq.proxy_steerable(self.frontend, self.backend, self._capture, steered)
        except zmq.ZMQError as error:
            problem = error
        try:
            self._loop.call_soon_threadsafe(self._on_end, problem)
        except RuntimeError:
            return  # the loop is closed: nobody waits for this any more

    def _on_end(self, problem: zmq.ZMQError | None) -> None:
        if self._counts is not None and not self._counts.done():
            self._counts.cancel()
        if self._ended.done():
            return
        if problem is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(AiozpatError(f"the proxy ended: {problem.strerror}"))
            self._ended.exception()  # seen, should nobody wait for the end

    async def ended(self) -> None:
        """Wait for its end.

        Raises:
            AiozpatError: It failed.
        """
        await asyncio.shield(self._ended)

    def _on_counts(self) -> bool | None:
        for frames in self._control.receive_many(1):
            if self._counts is not None and not self._counts.done():
                self._counts.set_result([int.from_bytes(frame, sys.byteorder) for frame in frames])
        return None

    async def traffic(self) -> tuple[Traffic, Traffic]:
        """What frontend and backend have moved so far."""
        async with self._turn:
            if self._ended.done():
                raise UsageError("this proxy has ended; ask it while it runs")
            self._counts = self._loop.create_future()
            self._command(b"STATISTICS")
            async with asyncio.timeout(_COUNT_SECONDS):
                counts = await self._counts
        return Traffic(*counts[:4]), Traffic(*counts[4:])

    def _command(self, command: bytes) -> None:
        self._control.send(command)
        self._control.look()

    async def stop(self) -> None:
        """End it, bounded in time, and close its sockets."""
        if self._thread is not None:
            if not self._ended.done():
                self._command(b"TERMINATE")
                await asyncio.wait({self._ended}, timeout=_STOP_SECONDS)
            self._control.detach(0)
            if not self._ended.done():
                raise AiozpatError(f"a proxy did not end within {_STOP_SECONDS} s; its sockets are left to its thread")
            self._thread.join()
        self._close()

    def _close(self) -> None:
        for socket in self._opened:
            socket.close(linger=round(self._linger * 1000))
        self._opened.clear()
        self._context.drop(self._linger)
