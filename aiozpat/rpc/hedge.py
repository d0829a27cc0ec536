"""Hedging: a call that is slow to be answered is made once more, and the first answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

_LEAST = 0.01  # seconds between questions whether there may be a second attempt


async def race(
    attempt: Callable[[], Awaitable[Any]],
    delay: float,
    *,
    again: Callable[[], bool],
    final: Callable[[BaseException], bool],
) -> Any:
    """The result of whichever attempt has one first; the other is cancelled.

    Args:
        attempt: Makes the call.
        delay: Seconds after which it is made a second time.
        again: Whether it may be; asked again where it may not, less and less often.
        final: Whether an error is an answer like a result: the other attempt would not get a better one.

    Raises:
        Exception: What one attempt raised, if it is final; else both failed, and that is what the last of them did.
    """
    running = {asyncio.ensure_future(attempt())}
    try:
        while not (await asyncio.wait(running, timeout=delay))[0]:
            if again():
                running.add(asyncio.ensure_future(attempt()))
                break
            delay = max(2 * delay, _LEAST)  # where there is no more to spend, thousands of calls may ask
        while True:
            done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            errors = {task: task.exception() for task in done}  # of all, or asyncio would complain of some
            answers = [task for task, error in errors.items() if error is None]
            answers += [task for task, error in errors.items() if error is not None and (not waiting or final(error))]
            if answers:
                return answers[0].result()
            running = waiting
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
