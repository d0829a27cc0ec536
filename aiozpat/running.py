"""How a program starts: one event loop, uvloop's where it is installed."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - uvloop imports it, which fails once the main thread has ended
import gc
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiozpat.errors import UsageError

T = TypeVar("T")

_lock = threading.Lock()
_running = 0  # programs, in whichever threads
_before: tuple[int, int, int] = gc.get_threshold()  # what the collector's thresholds were, and will be again
_GC_THRESHOLD = 20_000  # allocations; the default of 700 scans the calls in flight again and again (+39-60% at 10,000)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine as `asyncio.run` does, on uvloop where it is installed.

    While it runs, the garbage collector's first threshold is at least 20,000 allocations: with thousands of calls in
    flight the default spends a third of the time in scans that find nothing. Set it yourself with `asyncio.run`.

    Args:
        main: The program.
        debug: asyncio's debug mode; `None` leaves it to `-X dev` and PYTHONASYNCIODEBUG.

    Returns:
        What the coroutine returns.

    Raises:
        UsageError: A loop runs in this thread already.
    """
    if not _in_loop():
        return _run(main, debug)
    if asyncio.iscoroutine(main):
        main.close()  # or Python would warn that nobody has awaited it
    raise UsageError("aiozpat.run() starts a loop, and one runs here already: `await main()` instead")


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(main: Coroutine[Any, Any, T], debug: bool | None) -> T:
    _raise_threshold()
    try:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory()) as runner:
            return runner.run(main)
    finally:
        _restore_threshold()


def _raise_threshold() -> None:
    global _running, _before
    with _lock:
        _running += 1
        if _running == 1:
            _before = gc.get_threshold()
            if _before[0]:  # 0: somebody switched it off
                gc.set_threshold(max(_before[0], _GC_THRESHOLD), *_before[1:])


def _restore_threshold() -> None:
    global _running
    with _lock:
        _running -= 1
        if not _running:
            gc.set_threshold(*_before)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop: uvloop, or a selector loop, since ZeroMQ needs `add_reader`."""
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
