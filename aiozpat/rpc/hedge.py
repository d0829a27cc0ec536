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
    answer: asyncio.Task[Any] | None = None
    try:
        while not (await asyncio.wait(running, timeout=delay))[0]:
            if again():
                running.add(asyncio.ensure_future(attempt()))
                break
            delay = max(2 * delay, _LEAST)  # where there is no more to spend, thousands of calls may ask
        while answer is None:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            answer = _answer(done, final, last=not running)
        return answer.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in running:  # or asyncio would complain of what they raised
            _ = task.cancelled() or task.exception()
        done = running = set()
        answer = None  # what it raised holds this frame: the two would keep each other, and the call's params


def _answer(
    done: set[asyncio.Task[Any]], final: Callable[[BaseException], bool], *, last: bool
) -> asyncio.Task[Any] | None:
    """The attempt that counts among those that have ended: one with a result, or else with an error that is final."""
    errors = {task: task.exception() for task in done}  # of all, or asyncio would complain of some
    answers = [task for task, error in errors.items() if error is None]
    answers += [task for task, error in errors.items() if error is not None and (last or final(error))]
    return answers[0] if answers else None
