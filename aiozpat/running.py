"""How a program starts: one event loop, uvloop's where it is installed."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiozpat.errors import UsageError

T = TypeVar("T")

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
    thresholds = gc.get_threshold()
    if thresholds[0]:  # 0: somebody switched it off
        gc.set_threshold(max(thresholds[0], _GC_THRESHOLD), *thresholds[1:])
    try:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory()) as runner:
            return runner.run(main)
    finally:
        gc.set_threshold(*thresholds)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop: uvloop, or a selector loop, since ZeroMQ needs `add_reader`."""
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
