"""How threads and an event loop hand each other things, with as few wake-ups as can be: those are what it costs."""

from __future__ import annotations

import asyncio
import operator
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 0.002  # seconds until the loop looks after a chain


class Mailbox(Generic[T]):
    """Things that threads put in, for a loop that takes them out.

    Args:
        loop: The loop.
        on_mail: Called on it when something was put in since it last was.

    Attributes:
        things: What is in it. The loop takes from the left, without a lock: a deque's own operations are atomic.
    """

    __slots__ = ("_loop", "_on_mail", "_woken", "things")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_mail: Callable[[], None]) -> None:
        self.things: deque[T] = deque()
        self._loop = loop
        self._on_mail = on_mail
        self._woken = False  # and has not looked since

    def put(self, thing: T) -> None:
        """Put something in, from any thread.

        Raises:
            RuntimeError: The loop is closed. The thing is in, and stays there.
        """
        self.things.append(thing)
        self.remind()

    def remind(self) -> None:
        """Let the loop look, from any thread, if there is something that it was not told of.

        Raises:
            RuntimeError: The loop is closed.
        """
        if self.things and not self._woken:  # one wake-up for all that is put in before the loop gets its turn
            self.wake()

    def wake(self) -> None:
        """Let the loop look, from any thread.

        Raises:
            RuntimeError: The loop is closed.
        """
        self._woken = True
        self._loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """Have the loop take what is in, on it."""
        self._woken = False  # first: whoever puts something in from here on wakes the loop again
        self._on_mail()


class Waiter:
    """A thread that waits for the loop.

    Attributes:
        abandoned: It waits no more. One that is woken all the same wakes nobody: the loop looks after that.
        lock: Held until it is to go on. A new one each time: a late wake-up then hits nobody else.
    """

    __slots__ = ("abandoned", "lock")

    def __init__(self) -> None:
        self.abandoned = False
        self.lock = allocate_lock()
        self.lock.acquire()


class Chain:
    """Threads that are to go on: the loop wakes the first, and each of them the next, as soon as it runs.

    Woken all at once they would fight for the interpreter's lock, and most be put to sleep again before they get it.

    Args:
        loop: The loop.
        on_end: Called when there is nobody left to wake, from any thread; on the loop too while it takes long.

    Attributes:
        moving: A thread was woken that will wake the next, or find that there is none.
    """

    __slots__ = ("_loop", "_on_end", "_seen", "_steps", "_timer", "_waiting", "_wake", "moving")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        # Takes the next one out and wakes it, in one step that no signal's exception can cut in two.
        self._wake = map(operator.call, iter(self._waiting.popleft, None))
        self.moving = False
        self._loop = loop
        self._on_end = on_end
        self._steps = 0
        self._seen = 0  # of the steps, when the loop last looked
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiter: Waiter) -> None:
        """Wake a thread when its turn comes; on the loop."""
        if waiter.abandoned:
            return
        self._waiting.append(waiter.lock.release)
        if not self.moving:  # looked at after it was put in, as `go_on` looks after it has stopped
            self.moving = True
            self.go_on()
        if self._timer is None:
            # It goes on by itself, unless an exception hits a thread before it has woken the next; and not fast where
            # others compute.
            self._timer = self._loop.call_later(_PATIENCE, self._look_after)

    def go_on(self) -> None:
        """Wake the next one, from any thread: what a woken one does first of all."""
        self._steps += 1
        waiting = self._waiting
        while True:
            try:
                next(self._wake)
                return
            except IndexError:
                self.moving = False
                if not waiting:
                    self._on_end()
                    return
                self.moving = True

    def wake_all(self) -> None:
        """Wake all of them, from any thread."""
        while self._waiting:
            self.go_on()

    def _look_after(self) -> None:
        self._timer = None
        if self.moving:
            if self._steps == self._seen:
                self.go_on()
            self._seen = self._steps
            self._on_end()
            self._timer = self._loop.call_later(_PATIENCE, self._look_after)
