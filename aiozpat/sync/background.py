"""The event loop of all sync clients of this process: one, in a thread of its own, while there is such a client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from _thread import get_ident
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, NoReturn, TypeVar

from anyio.from_thread import start_blocking_portal

from aiozpat.errors import AiozpatError, Closed, UsageError
from aiozpat.running import loop_factory
from aiozpat.sync.handoff import Chain, Mailbox
from aiozpat.sync.works import ENDED, Errand, LoopClient, Work

T = TypeVar("T")

_log = logging.getLogger("aiozpat.client")
_running_loop = asyncio._get_running_loop  # a tenth of what `get_running_loop` costs where there is none
# Seconds until a waiting main thread looks for signals, as one that came just before it began to wait does not wake it,
# and until the loop looks for what it was not told of. Other threads get no signals, and waiting so costs a twentieth.
_GLANCE = 0.5


class Background:
    """The loop's thread, and what other threads want of it; shared by all leases."""

    def __init__(self) -> None:
        self.users = 0
        self.forked = False
        self._main = threading.main_thread().ident
        self._dropping: set[asyncio.Task[None]] = set()  # a loop itself may lose them
        self.over: AiozpatError | None = None  # why it runs nothing any more
        options = {"loop_factory": loop_factory()}
        self._thread = start_blocking_portal("asyncio", options)
        self._portal = self._thread.__enter__()
        self.loop: asyncio.AbstractEventLoop = self._portal.call(self._begin)
        self._works: Mailbox[Work[Any]] = Mailbox(self.loop, self._start)
        self._chain = Chain(self.loop, self._remind)
        self._clients: weakref.WeakSet[LoopClient] = weakref.WeakSet()
        self._keeper = self._portal.call(self._keep)

    @staticmethod
    def _begin() -> asyncio.AbstractEventLoop:
        threading.current_thread().name = "aiozpat-sync"
        return asyncio.get_running_loop()

    async def _keep(self) -> asyncio.Task[None]:
        """See to it that nobody waits for a loop that ended by itself: a SystemExit in an interceptor does that."""

        async def until_the_end() -> None:
            try:
                while True:
                    await asyncio.sleep(_GLANCE)
                    self._works.look()  # two interrupts, one close behind the other, can lose a wake-up
            finally:
                self._end()
                for client in tuple(self._clients):
                    await client.close()

        return self.loop.create_task(until_the_end(), context=Context())  # the first client may be a handler's

    def adopt(self, client: LoopClient) -> None:
        """End this client's calls with the loop; on the loop."""
        self._clients.add(client)

    def do(self, work: Work[T]) -> T:
        """Do something on the loop, and wait for it. An exception that hits the waiting thread cancels it.

        That is a signal's, in the main thread: one of `PyThreadState_SetAsyncExc` hits others when their wait is over.

        Raises:
            UsageError: An event loop runs in this thread, or the process was forked.
            Closed: The loop has ended.
        """
        if _running_loop() is not None:
            _wrong_thread()
        over = self.over
        if over is not None:
            raise _again(over)
        try:
            self._works.things.append(work)
            # While threads are being woken the loop would only get in their way; the last of them reminds it. Looked
            # at after it was put in, as the last one looks for what is in after it has ended the chain.
            if not self._chain.moving:
                self._remind()
            if self.over is not None:  # looked at after it was put in: whoever ended the loop has seen it, or we do
                self._refuse(self.over)
            if get_ident() == self._main:
                while not work.lock.acquire(timeout=_GLANCE):
                    pass
            else:
                work.lock.acquire()
            self._chain.go_on()
        except BaseException:
            work.abandoned = True
            self._soon(work.withdraw)
            raise
        return work.outcome()

    def _remind(self) -> None:
        try:
            self._works.remind()
        except RuntimeError:
            _log.debug("the loop ended while a call was made")

    def finish(self, work: Work[Any]) -> None:
        """Let the thread have what came of its work; on the loop."""
        if self.over is None:
            self._chain.add(work)
        else:
            work.lock.release()

    def drop(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close a client that nobody closed, from whichever thread collects garbage: without waiting."""

        async def close_and_release() -> None:
            try:
                await close()
            finally:
                # Not here: the loop's own thread can't wait for its end.
                threading.Thread(target=_release, args=(self,), name="aiozpat-sync-end", daemon=True).start()

        def begin() -> None:
            task = self.loop.create_task(close_and_release())
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

        self._soon(begin)

    def _soon(self, function: Callable[[], None]) -> None:
        """Run a function on the loop, and whatever waits there."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to do it to
            self.loop.call_soon_threadsafe(function)
            self._works.wake()  # an interrupted `run` may not have come to it

    def _start(self) -> None:
        works = self._works.things
        while works:
            works.popleft().start(self)

    def _refuse(self, error: AiozpatError) -> None:
        """Fail what has not begun. Several threads may do so at a time; each work is taken out by one of them."""
        works = self._works.things
        with contextlib.suppress(IndexError):
            while True:
                works.popleft().fail(_again(error))

    def end(self) -> None:
        """End the loop, and wait for its thread."""
        try:
            if self.over is None:  # else it has ended by itself
                self._portal.call(self._end)
        finally:
            self._thread.__exit__(None, None, None)

    def _end(self) -> None:
        self.over = Closed(ENDED)
        self._refuse(self.over)
        for client in self._clients:
            client.abort()
        self._chain.wake_all()

    def leave_behind(self) -> None:
        """This is a child process, which was forked: it has the memory of the loop's thread, and not the thread."""
        self.forked = True
        self.over = UsageError(
            "this client belongs to the process that was forked into this one; make a client after the fork"
        )


def _again(error: AiozpatError) -> AiozpatError:
    """An error for one more thread: a traceback belongs to one."""
    return type(error)(*error.args)


_lock = threading.Lock()  # for threads of our own alone: a signal's handler may enter a client while its thread does
_all: set[Background] = set()
_current: Background | None = None


def _undisturbed(function: Callable[[], None]) -> None:
    """Run a function in a thread of its own, where no signal's exception hits it, and wait for it.

    Where one hits the thread that waits, the function goes on.
    """
    problems: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run, name="aiozpat-sync-turn", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # there may be no more of them, as, from Python 3.12 on, at the interpreter's end
        run()
    else:
        while thread.is_alive():
            thread.join(_GLANCE)
    if problems:
        raise problems.pop()


def _hold() -> Background:
    """The loop of this process, started if need be, for one more client; with the lock."""
    global _current
    if _current is None or _current.over is not None:  # it may have ended by itself
        _current = Background()
        _all.add(_current)
    _current.users += 1
    return _current


def _release(background: Background) -> None:
    """Give back a `_hold`; the last one ends the loop and its thread."""
    global _current
    with _lock:
        background.users -= 1
        if background.users:
            return
        if _current is background:
            _current = None
    try:
        background.end()
    finally:
        _all.discard(background)


def _after_fork() -> None:
    global _lock, _current
    _lock = threading.Lock()  # another thread may have held it
    _current = None
    for background in _all:
        background.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Lease:
    """One client's hold on the loop, from the beginning of its block to the end.

    Args:
        label: Whose, for messages.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._background: Background | None = None
        self.begun = False
        self.over = False

    @property
    def held(self) -> bool:
        """Whether it has begun and is not over."""
        return self._background is not None

    @property
    def forked(self) -> bool:
        """Whether it belongs to the process that this one was forked from."""
        return self._background is not None and self._background.forked

    def begin(self) -> None:
        """Say that it begins now: `take` and `end` follow, whatever comes between them.

        Raises:
            UsageError: For the second time, or an event loop runs in this thread.
        """
        check_thread()
        if self.begun:
            raise UsageError("this Client was entered before; make a new one")
        self.begun = True

    def take(self) -> None:
        """Take hold of the loop, which is started if need be."""
        _undisturbed(self._take)

    def _take(self) -> None:
        with _lock:
            self._background = _hold()
        if self.over:  # whoever wanted it has been interrupted, and waits no more
            self._let_go()

    def _let_go(self) -> None:
        with _lock:
            background, self._background = self._background, None
        if background is not None:
            _release(background)

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function on the loop, in a copy of the caller's context; otherwise as `do`."""
        return self.do(Errand(function))

    def do(self, work: Work[T]) -> T:
        """Do something on the loop, and wait for it; as `Background.do` does.

        Raises:
            UsageError: Outside the client's block; or as for `Background.do`.
            Closed: The client is closed.
        """
        background = self._background
        if background is not None:
            return background.do(work)
        check_thread()
        if self.over:
            raise Closed(f"the client of {self._label} is closed")
        raise UsageError("a Client is used inside `with Client(...)`")

    def adopt(self, client: LoopClient) -> None:
        """End this client's calls with the loop, should it end by itself; on the loop."""
        if self._background is not None:
            self._background.adopt(client)

    def end(self) -> None:
        """Give the loop back. Interrupted, it is given back all the same."""
        self.over = True
        _undisturbed(self._let_go)

    def drop(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The same for who can't wait; after a last coroutine function."""
        background, self._background = self._background, None
        self.over = True
        if background is not None:
            background.drop(close)


def check_thread() -> None:
    """Make sure that waiting in this thread stops no event loop.

    Raises:
        UsageError: It would.
    """
    if _running_loop() is not None:
        _wrong_thread()


def _wrong_thread() -> NoReturn:
    raise UsageError(
        "an aiozpat.sync client blocks, and an event loop runs in this thread: use aiozpat.Client there, or call this "
        "one in a thread (asyncio.to_thread)"
    )
