"""One ZeroMQ context for each running loop, ended when the loop's last endpoint has left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
import threading
from types import TracebackType
from typing import Self
from weakref import ReferenceType, WeakKeyDictionary, ref

import zmq
import zmq.asyncio

from aiozpat.checks import given, whole_number
from aiozpat.errors import AiozpatError, Closed, UsageError
from aiozpat.transport.process import prepare, require_files

_log = logging.getLogger("aiozpat.transport")
_FILES_OF_CONTEXT = 10  # with one thread for I/O
_FILES_OF_THREAD = 2  # each further one
_MOST_THREADS = 1024
_FILES_OF_SOCKET = 8  # with its monitor, and until it is bound or connected
_MAX_SOCKETS = 65_535  # libzmq's default of 1023 ends in EMFILE at 341 DEALERs with monitors
_GRACE = 1.0  # seconds past the longest linger until an ending context is left to its thread

_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Context] = WeakKeyDictionary()


class Context:
    """A ZeroMQ context shared by endpoints of one event loop.

    Without one each loop has its own, made by its first endpoint and ended by its last. Give the same `Context` to
    several endpoints for `inproc://` between them, or to keep it while endpoints come and go; then it ends at the end
    of its own `async with` block.

    Args:
        io_threads: Threads that move bytes, 1024 at most; one carries gigabytes a second.

    Raises:
        TypeError: `io_threads` is no number.
        ValueError: It is no whole number within its range.
    """

    def __init__(self, *, io_threads: int = 1) -> None:
        self._io_threads = whole_number("io_threads", io_threads, most=_MOST_THREADS)
        # Weak: it is the key to this context in the table, and a loop that ended with endpoints open must go there.
        self._loop: ReferenceType[asyncio.AbstractEventLoop] | None = None
        self._zmq: zmq.asyncio.Context | None = None
        self._users = 0
        self._held = 0  # by endpoints, clients and servers, which use it by their sockets besides
        self._longest_linger = 0.0
        self._shared = True
        self._ended = False
        self._done: asyncio.Future[None] | None = None  # once its end has begun
        self.last_flushed = 0  # the `id` of the session that did so last, by which others know that there is one

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open" if self._zmq is not None else "new"
        return f"<aiozpat.Context {state}, {self._held} endpoints>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._users:
            _log.warning("a Context is left with %d endpoints open; it ends when the last is closed", self._held)
            self._shared = False
            return
        await self._terminate()

    @classmethod
    def current(cls) -> Context:
        """The running loop's own context, made if there is none."""
        loop = asyncio.get_running_loop()
        context = _of_loop.get(loop)
        if context is None:
            context = _of_loop[loop] = cls()
            context._shared = False
        return context

    def acquire(self) -> zmq.asyncio.Context:
        """Count one more user, and give it libzmq's context.

        Raises:
            AiozpatError: The system has no file descriptors left for one.
            Closed: It has ended.
            UsageError: It belongs to another loop.
        """
        loop = asyncio.get_running_loop()
        if self._ended:
            raise Closed("this Context has ended; make a new one")
        if self._loop is not None and self._loop() is not loop:
            raise UsageError("this Context belongs to another event loop; a Context and its endpoints share one loop")
        self._loop = ref(loop)
        files = 0 if self._zmq is not None else _FILES_OF_CONTEXT + _FILES_OF_THREAD * (self._io_threads - 1)
        require_files(_FILES_OF_SOCKET + files)
        if self._zmq is None:
            self._zmq = _new_zmq_context(self._io_threads)
        self._users += 1
        return self._zmq

    def hold(self) -> None:
        """Count one more user that has no socket at the moment."""
        self._users += 1
        self._held += 1

    def drop(self, linger: float) -> None:
        """Count one user less; `settle` or `release` follows once nothing more will be opened.

        Args:
            linger: Seconds for which the socket just closed may still be sending.
        """
        self._users -= 1
        self._longest_linger = max(self._longest_linger, linger)

    async def settle(self, patience: float = math.inf) -> None:
        """End the context if its last user has gone and it is not shared, and wait for its end, bounded in time.

        Args:
            patience: Seconds to wait at most, where there is no time for what lingers.
        """
        if not self._users and not self._shared:
            await self._terminate(patience)

    def let_go(self) -> None:
        """Give back a `hold`; `settle` follows."""
        self._held -= 1
        self.drop(0)

    async def release(self) -> None:
        """Give back a `hold`, and settle."""
        self.let_go()
        await self.settle()

    async def _terminate(self, patience: float = math.inf) -> None:
        """End libzmq's context in a thread, unless that has begun: `term` blocks until what lingers is sent."""
        loop = asyncio.get_running_loop()
        if not self._ended:
            self._ended = True
            if _of_loop.get(loop) is self:
                del _of_loop[loop]
            if self._zmq is not None:
                self._done = loop.create_future()
                arguments = (self._zmq, loop, self._done)
                self._zmq = None
                threading.Thread(target=_term, args=arguments, name="aiozpat-context-end", daemon=True).start()
        if self._done is None or self._done.done():
            return
        bound = min(self._longest_linger, patience) + _GRACE
        finished, _ = await asyncio.wait({self._done}, timeout=bound)
        if not finished:
            self._done = None  # nobody waits for it once more
            _log.warning("a ZeroMQ context did not end within %.1f s; left to its thread", bound)


def context_given(context: Context | None) -> Context | None:
    """The context that was given, if one was.

    Raises:
        TypeError: It is something else.
    """
    return given(context, Context, "a context is an aiozpat.Context()")


def open_contexts() -> int:
    """How many loops have a context of their own now; none, once every endpoint is closed."""
    return len(_of_loop)


def _term(context: zmq.asyncio.Context, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    context.term()
    try:
        loop.call_soon_threadsafe(_finish, done)
    except RuntimeError:
        _log.debug("the loop was closed before its ZeroMQ context ended")


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


class _ZmqContext(zmq.asyncio.Context):
    """One that can be collected together with sockets that nobody closed: `term`, which waits for them, may come first.

    They close themselves, as what is collected behind it.
    """

    def __del__(self) -> None:
        if not self.closed and not sys.is_finalizing():  # nothing can be waited for then, nor need be
            with contextlib.suppress(RuntimeError):  # there may be no more threads
                threading.Thread(target=self.term, name="aiozpat-context-end", daemon=True).start()


def _new_zmq_context(io_threads: int) -> zmq.asyncio.Context:
    prepare()
    try:
        context = _ZmqContext(io_threads=io_threads)
    except zmq.ZMQError as error:
        raise AiozpatError(f"can't make a ZeroMQ context: {error.strerror}") from None
    context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
    context.linger = 0  # a socket that nobody closed must not hang the interpreter's exit
    return context
