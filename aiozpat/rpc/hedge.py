"""Hedging: a call that is slow to be answered is made once more, and the first answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def race(attempt: Callable[[], Awaitable[Any]], delay: float) -> Any:
    """The result of whichever attempt has one first; the other is cancelled.

    Args:
        attempt: Makes the call.
        delay: Seconds after which it is made a second time.

    Raises:
        Exception: Both failed: what the last of them did.
    """
    running = {asyncio.ensure_future(attempt())}
    try:
        done, _ = await asyncio.wait(running, timeout=delay)
        if not done:
            running.add(asyncio.ensure_future(attempt()))
        while True:
            done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            errors = {task: task.exception() for task in done}  # of all, or asyncio would complain of some
            for task, error in errors.items():
                if error is None:
                    return task.result()
            if not waiting:
                return done.pop().result()
            running = waiting
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
