"""Worker threads for handlers that are plain functions."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

from aiozpat.rpc.current import Job


class Threads:
    """Runs functions in threads, in no more than so many at a time: one that was given up counts until it returns.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)
        self._no_limit = anyio.CapacityLimiter(math.inf)  # one of anyio's would be given back when the waiting ends

    async def run(self, job: Job, function: Callable[[], Any]) -> Any:
        """Run a call's handler in a thread, and wait for it. Cancelled, it goes on there, if it has begun."""
        loop = asyncio.get_running_loop()
        begun = freed = False

        def free() -> None:
            nonlocal freed
            if not freed:  # it is, where the function began just when it was given up
                freed = True
                self._places.release()

        def in_thread() -> Any:
            nonlocal begun
            begun = True
            try:
                return function()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for a place
                    loop.call_soon_threadsafe(free)

        await self._places.acquire()  # until here a deadline ends it, as any call
        job.in_thread = True
        try:
            result = await anyio.to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=self._no_limit)
        except BaseException as error:
            if not begun:
                free()
            job.in_thread = False
            if isinstance(error, Exception):
                _cancel_late(job)
            else:  # this was cancelled: the thread goes on, and asks for the time that is left
                job.left = begun
            raise
        job.in_thread = False
        _cancel_late(job)
        return result


def _cancel_late(job: Job) -> None:
    """Its thread has returned: cancel a call that was given up meanwhile, for interceptors may go on behind it."""
    if job.answered and job.task is not None:
        job.task.cancel()
