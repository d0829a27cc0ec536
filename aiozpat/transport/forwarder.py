"""libzmq's own proxy, in a thread: it moves messages between two sockets without Python touching them."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterable
from enum import Enum

import zmq

from aiozpat.errors import AiozpatError, Closed, TimedOut
from aiozpat.transport import attach
from aiozpat.transport.context import Context
from aiozpat.transport.kinds import SUBSCRIPTION_BYTES, SocketKind
from aiozpat.transport.options import SocketOptions, linger_milliseconds
from aiozpat.transport.socket import Socket

_STOP_SECONDS = 0.5  # for the proxy to hear of its end; it can't while it waits for room on a side that nobody reads
_COUNT_SECONDS = 5.0
_SUBSCRIPTIONS = 100_000  # on their way to one publisher; past the mark libzmq drops them without a word
_CONTROL = "inproc://aiozpat-control"
_COUNTS = 8  # frames of an answer to STATISTICS
_log = logging.getLogger("aiozpat.transport")


class ProxyKinds(Enum):
    """The sockets of a proxy: frontend, backend."""

    REQUEST_REPLY = (zmq.ROUTER, zmq.DEALER)
    PUBLISH_SUBSCRIBE = (zmq.XSUB, zmq.XPUB)
    PIPELINE = (zmq.PULL, zmq.PUSH)


class Forwarder:
    """Two sockets, and libzmq's proxy between them in a thread of its own.

    It has a context of its own too: ending that is the only way to reach a proxy that waits for room.

    Args:
        kinds: The socket types.
        options: Options of all sockets.
        linger: Seconds for which messages on their way out are still delivered where the context must end first.
    """

    def __init__(self, kinds: ProxyKinds, options: SocketOptions, linger: float) -> None:
        self._context = Context()
        self._options = options
        # From the start: once the context ends, sockets take no options any more, and libzmq's own linger is for ever.
        self._settings = [*options.settings(), (int(zmq.LINGER), linger_milliseconds(linger))]
        self._linger = 0.0
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._counts: asyncio.Future[list[int]] | None = None
        self._turn = asyncio.Lock()
        self._running = False
        self._control: Socket | None = None
        self._capture: zmq.Socket[bytes] | None = None
        self._opened: list[zmq.Socket[bytes]] = []
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(self._context.acquire().underlying)
        frontend, backend = kinds.value
        try:
            self.frontend = self._socket(frontend)
            self.backend = self._socket(backend)
        except BaseException:
            self._close_sockets()
            self._context.drop(0)
            raise

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        try:
            socket = self._zmq.socket(kind)
        except zmq.ZMQError as error:
            raise AiozpatError(f"can't open a socket: {error.strerror}") from None
        self._opened.append(socket)
        for number, value in self._settings:
            socket.setsockopt(number, value)
        if kind == zmq.XSUB:
            socket.setsockopt(zmq.SNDHWM, _SUBSCRIPTIONS)
        elif kind == zmq.XPUB:
            socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES)
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
        steered = self._socket(zmq.PAIR)
        steered.bind(_CONTROL)
        control = Socket(self._context, SocketKind.PAIR, SocketOptions(), on_readable=self._on_counts, max_frames=16)
        self._control = control
        control.connect(_CONTROL)
        threading.Thread(target=self._run, args=(steered,), name="aiozpat-proxy", daemon=True).start()
        self._running = True

    def _run(self, steered: zmq.Socket[bytes]) -> None:
        """The thread's work; from its start on, the sockets are its own, to close too."""
        problem: zmq.ZMQError | None = None
        try:
            zmq.proxy_steerable(self.frontend, self.backend, self._capture, steered)
        except zmq.ContextTerminated:
            pass  # it waited for room, and was ended
        except zmq.ZMQError as error:
            problem = error
        self._close_sockets()
        try:
            self._loop.call_soon_threadsafe(self._on_end, problem)
        except RuntimeError:
            return  # the loop is closed: nobody waits for this any more

    def _close_sockets(self) -> None:
        for socket in self._opened:
            socket.close(linger=linger_milliseconds(self._linger))
        self._opened.clear()

    def _on_end(self, problem: zmq.ZMQError | None) -> None:
        if self._counts is not None and not self._counts.done():
            self._counts.set_exception(Closed("the proxy ended before it had counted"))
            self._counts.exception()  # whoever asked may have given up
        if self._ended.done():
            return
        if problem is None:
            self._ended.set_result(None)
            return
        _log.error("a proxy ended: %s", problem.strerror)
        self._ended.set_exception(AiozpatError(f"the proxy ended: {problem.strerror}"))
        self._ended.exception()  # logged: it may be that nobody waits for it

    async def ended(self) -> None:
        """Wait for its end.

        Raises:
            AiozpatError: It failed.
        """
        await asyncio.shield(self._ended)

    def _on_counts(self) -> bool | None:
        if self._control is not None:
            for frames in self._control.receive_many(1):
                if self._counts is not None and not self._counts.done() and len(frames) == _COUNTS:
                    self._counts.set_result([int.from_bytes(frame, sys.byteorder) for frame in frames])
        return None

    async def counts(self) -> list[int]:
        """What has passed so far: frames and bytes received, frames and bytes sent by the frontend, then the backend.

        Raises:
            TimedOut: It did not answer in time, since it waits for room.
            Closed: It ended meanwhile.
        """
        async with self._turn:
            if self._ended.done():
                raise Closed("this proxy has ended")
            if self._counts is None or self._counts.done():  # else the answer to a question given up is yet to come
                self._counts = self._loop.create_future()
                self._command(b"STATISTICS")
            try:
                async with asyncio.timeout(_COUNT_SECONDS):
                    return await asyncio.shield(self._counts)
            except TimeoutError:
                text = (
                    f"the proxy did not answer within {_COUNT_SECONDS} s: it waits for room on a side that nobody reads"
                )
                raise TimedOut(text) from None

    def _command(self, command: bytes) -> None:
        if self._control is not None:
            self._control.send(command)
            self._control.look()

    def end(self, linger: float) -> None:
        """Begin to end it; `stop` follows.

        Args:
            linger: Seconds for which messages on their way out are still delivered.
        """
        self._linger = linger
        if not self._running:
            self._close_sockets()
        elif not self._ended.done():
            self._command(b"TERMINATE")

    async def stop(self) -> None:
        """End it and its context, bounded in time. Cancelled, it ends all the same."""
        try:
            if self._running and not self._ended.done():
                await asyncio.wait({self._ended}, timeout=_STOP_SECONDS)
        finally:
            if self._control is not None:
                self._control.detach(0)
            self._context.drop(self._linger)
            async with self._context:
                pass  # leaving it ends it, and with it a proxy that has not heard
        if self._running and not self._ended.done():
            await asyncio.wait({self._ended}, timeout=_STOP_SECONDS)
