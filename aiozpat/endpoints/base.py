"""What all level 1 endpoints share: opening, closing, naming, and who may use them."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import ClassVar, Self

from aiozpat.checks import linger_seconds
from aiozpat.errors import Closed, UsageError
from aiozpat.observability.notices import Notices
from aiozpat.observability.statistics import EndpointStatistics
from aiozpat.transport import (
    Context,
    Socket,
    SocketKind,
    SocketOptions,
    check_bind,
    check_connect,
    context_given,
    endpoints_of,
    options_given,
    watch_forks,
)

_log = logging.getLogger("aiozpat.endpoints")
INBOX_LIMIT = 1000
HURRIED_LINGER = 0.5  # seconds; a second, and the interpreter's own end, would feel like hanging
MAX_FRAMES = 65_536  # of one message; a longer one is dropped and counted

# What tells, at least cost, whether a loop is one's own: the running one. On 3.11, where to ask for that takes a system
# call, only the thread: on another loop of that, up to 128 messages pass before one is refused.
here: Callable[[], object] = asyncio._get_running_loop if sys.version_info >= (3, 12) else threading.get_ident
_NOWHERE = object()


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint, and how it is used."""

    endpoint: str
    is_bind: bool


class Endpoint:
    """The base of every level 1 endpoint; use one of its subclasses.

    ZeroMQ looks up the names of hosts in the thread that serves all endpoints of a context: a name server that does not
    answer holds all of them up. Addresses are safe from that, and so is what has a context of its own. What is bound to
    is looked up on the loop itself: give an address there. A name that nobody knows is looked up again and again,
    without a word.

    Over inproc:// libzmq connects once: when who was bound there has closed, nothing goes on to who binds after it.
    `connect` again then; a `Requester` does so by itself, with the request after one that was given up. An endpoint
    leaves one of its addresses only by closing: there is no unbind or disconnect.

    Args:
        bind: One endpoint or several to listen on; port `*` lets the system choose.
        connect: One endpoint or several to connect to, in the background and, but for inproc://, for ever.
        linger: Seconds for which messages sent just before closing are still delivered; half a second at most where
            the block is left by a cancellation.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
        ValueError: `linger` is negative or not finite.
        TypeError: `linger`, `options` or `context` is something else.
        AddressInUse: When it is entered: somebody else listens there.
    """

    _kind: ClassVar[SocketKind]
    _socket: Socket | None = None  # of the class too: __del__ runs even if __init__ raised

    def __init__(
        self,
        *,
        bind: str | Iterable[str] | None = None,
        connect: str | Iterable[str] | None = None,
        linger: float = 1.0,
        options: SocketOptions | None = None,
        context: Context | None = None,
    ) -> None:
        self._addresses = [Address(check_bind(endpoint), True) for endpoint in endpoints_of(bind)]
        self._addresses += [Address(check_connect(endpoint), False) for endpoint in endpoints_of(connect)]
        self._linger = linger_seconds(linger)
        self._options = options_given(options)
        self._given_context = context_given(context)
        self._context: Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._here: object = _NOWHERE
        self._closed = False
        self._ended = False  # closed, and all that is to be waited for with that was
        self._notices = Notices(_log)
        self._patience = math.inf  # seconds that there are for what lingers
        self._sent = 0
        self._turned = -1  # how many had been sent when the loop's other tasks last had their turn for it
        self._turning = 0  # sends for which they have it now, which others are not to overtake
        self._received = 0
        self._prepare()

    def _prepare(self) -> None:
        """Make what a subclass keeps beside the socket."""

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._socket is not None else "new"
        where = ", ".join(self.endpoints or [address.endpoint for address in self._addresses]) or "nowhere"
        return f"<aiozpat.{type(self).__name__} on {where}, {state}>"

    def __del__(self) -> None:
        if self._socket is not None and not (self._closed or self._ended):
            warnings.warn(f"{self!r} was left open; use `async with`", ResourceWarning, source=self, stacklevel=1)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it is bound and connected, with the ports that the system chose; empty before it is entered."""
        return self._socket.endpoints if self._socket is not None else ()

    @property
    def endpoint(self) -> str:
        """The first of `endpoints`.

        Raises:
            UsageError: It is not entered yet, or bound and connected nowhere.
        """
        if not self.endpoints:
            raise UsageError(f"{self!r} has an endpoint inside `async with`, once it is bound or connected")
        return self.endpoints[0]

    def bind(self, endpoint: str) -> str:
        """Listen on one more endpoint.

        Returns:
            The endpoint with the port that the system chose.

        Raises:
            InvalidEndpoint: Not an address of this machine.
            AddressInUse: Somebody else listens there.
        """
        bound = self._usable().bind(endpoint)
        self._addresses.append(Address(bound, True))
        return bound

    def connect(self, endpoint: str) -> None:
        """Connect to one more endpoint, in the background.

        Raises:
            InvalidEndpoint: Not an address that can be connected to.
        """
        self._connect(self._usable(), endpoint)
        self._addresses.append(Address(endpoint, False))

    async def __aenter__(self) -> Self:
        if self._closed or self._socket is not None:
            raise UsageError(f"{self!r} was entered before; make a new one")
        self._loop = asyncio.get_running_loop()
        self._here = here()
        self._context = self._given_context or Context.current()
        self._context.hold()
        try:
            self._socket = self._open(self._context)
        except BaseException:
            self._closed = True
            await self._context.release()
            raise
        watch_forks(self, Endpoint._on_fork)
        return self

    def _on_fork(self) -> None:
        """Belong to no loop of this process, so that all that is done with it is looked at first; and be closed."""
        self._here = _NOWHERE
        self._ended = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C, or cancelled: whoever waits wants to go on
            self._linger = min(self._linger, HURRIED_LINGER)
            self._patience = HURRIED_LINGER
        await self.close()

    def _open(self, context: Context) -> Socket:
        """A socket, bound and connected."""
        socket = Socket(
            context,
            self._kind,
            self._options,
            on_readable=self._on_readable,
            on_writable=self._on_writable,
            max_frames=MAX_FRAMES,
        )
        try:
            self._set_up(socket)
            for address in self._addresses:
                if address.is_bind:
                    socket.bind(address.endpoint)
                else:
                    self._connect(socket, address.endpoint)
        except BaseException:
            socket.detach(0)
            raise
        return socket

    async def close(self) -> None:
        """Close; what was sent is delivered for up to `linger` seconds more. Closing twice is harmless.

        Where it was bound, others may bind afterwards. Whoever waits to receive or to send gets `Closed`. Cancelled, it
        is closed all the same.

        Raises:
            UsageError: On another loop.
        """
        socket, context = self._socket, self._context
        if socket is None or context is None or self._ended:
            return
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; close it there")
        if not self._closed:
            self._closed = True
            self._on_close(f"{self!r} is closed")
            socket.detach(self._linger)
            context.let_go()
        await context.settle(self._patience)
        await socket.freed()
        self._ended = True

    async def _give_turn(self) -> None:
        """Let the loop's other tasks have their turn."""
        self._turned = self._sent
        self._turning += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._turning -= 1

    def _usable(self) -> Socket:
        """The socket, if this endpoint may be used here and now."""
        socket = self._socket
        if self._closed:
            raise Closed(f"{self!r} is closed")
        if socket is None:
            raise UsageError(f"{self!r} is used inside `async with`")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise UsageError(
                f"{self!r} belongs to an event loop, and none runs in this thread; use it there, as by "
                "loop.call_soon_threadsafe()"
            ) from None
        if running is not self._loop:
            raise UsageError(f"{self!r} belongs to another event loop; make one for each loop and process")
        return socket

    def _nowhere(self) -> str:
        """What an error says first where nobody can be reached, whatever the time; else nothing."""
        return "" if self._addresses else "bound and connected nowhere: "

    def statistics(self) -> EndpointStatistics:
        """A snapshot of what it has done."""
        return EndpointStatistics(
            sent=self._sent,
            received=self._received,
            waiting=self._waiting(),
            notices=MappingProxyType(self._notices.counts()),
        )

    def _try(self, frames: Sequence[bytes]) -> bool:
        """Try to send one message; False if there is no room for it now."""
        socket = self._socket
        if self._closed or socket is None:
            raise Closed(f"{self!r} is closed")
        if not socket.scheduled:
            socket.look()  # first: a send that fails may consume the FD's edge too
        if socket.send_frames(frames):
            self._sent += 1
            return True
        return self._refused(frames)

    def _refused(self, frames: Sequence[bytes]) -> bool:
        """There was no room; whether the message has been sent all the same."""
        return False

    def _too_long(self, frames: Sequence[bytes]) -> bool:
        """Whether a message has more frames than are kept of one; it is dropped and counted then."""
        if len(frames) <= MAX_FRAMES:
            return False
        self._notices.note("message dropped", f"it had more than {MAX_FRAMES} frames")
        return True

    def _set_up(self, socket: Socket) -> None:
        """Called with a new socket, before it is bound or connected."""

    def _connect(self, socket: Socket, endpoint: str) -> None:
        """Connect one of its sockets."""
        socket.connect(endpoint)

    def _waiting(self) -> int:
        return 0

    def _on_readable(self) -> bool | None:
        """A message waits; True if many were taken."""

    def _on_writable(self) -> None:
        """There may be room again for what could not be sent."""

    def _on_close(self, reason: str) -> None:
        """Nothing more will be sent or received."""
