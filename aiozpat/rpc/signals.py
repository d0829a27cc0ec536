"""SIGINT and SIGTERM for every server of a loop that serves for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

_log = logging.getLogger("aiozpat.server")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# A loop has one handler for a signal: two servers on it must both hear.
_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Callable[[], None]]] = WeakKeyDictionary()
_before: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[signal.Signals, Any]] = WeakKeyDictionary()


@contextlib.contextmanager
def handled(loop: asyncio.AbstractEventLoop, on_signal: Callable[[], None]) -> Iterator[None]:
    """Call `on_signal` for each of the signals while the block runs; the last block gives back what was there before.

    But for what `loop.add_signal_handler` had set: nobody can ask a loop for that. Where the loop can't (in another
    thread than the main one, on Windows) nothing is handled.
    """
    listeners = _listeners.setdefault(loop, [])
    listeners.append(on_signal)
    if len(listeners) == 1:
        _install(loop)
    try:
        yield
    finally:
        listeners.remove(on_signal)
        if not listeners:
            _restore(loop)


def _install(loop: asyncio.AbstractEventLoop) -> None:
    before = _before[loop] = {}
    for number in _SIGNALS:
        previous = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, partial(_tell, _listeners[loop]))
        except (NotImplementedError, RuntimeError, ValueError):
            _log.debug("%s is not handled: not in the main thread, or not on this system", number.name)
        else:
            before[number] = previous


def _tell(listeners: list[Callable[[], None]]) -> None:
    for listener in tuple(listeners):
        listener()


def _restore(loop: asyncio.AbstractEventLoop) -> None:
    for number, previous in _before.pop(loop).items():
        loop.remove_signal_handler(number)
        if previous is not None:
            signal.signal(number, previous)  # asyncio's own, which cancels the main task, among them
