"""What services open before their first call and close after their last, owned by one task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, TypeAlias

from anyio import CancelScope, move_on_after

from aiozpat.errors import UsageError

_log = logging.getLogger("aiozpat.server")
_LEAVING = 5.0  # seconds to end in, where the wait for it was cancelled; then they are too
Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


class Lifespans:
    """The lifespans of one server's services.

    Each is entered and left in a task of its own: a block of `async with Server` may be entered in one task and left
    in another (as test fixtures do), which cancel scopes inside a lifespan would not bear.

    Args:
        lifespans: By the service's name.
        on_end: Called when they end before `close`, with what they raised if they did.
    """

    def __init__(
        self, lifespans: Iterable[tuple[str, Lifespan]], on_end: Callable[[BaseException | None], None]
    ) -> None:
        self._lifespans = tuple(lifespans)
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._opening = ""
        self._failure: BaseException | None = None
        self.states: dict[str, Any] = {}

    async def open(self) -> None:
        """Enter them, one after the other; what one of them raises, this raises, and those before it are left."""
        if not self._lifespans:
            return
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._live(ready), name="lifespans of services")
        waiting = asyncio.ensure_future(ready.wait())
        try:
            await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._stop.set()  # one that keeps its cancellation to itself opens all the same, and is to end then
            self._task.cancel()
            with CancelScope(shield=True):  # a cancelled scope of anyio's cancels again and again
                await asyncio.wait({self._task})
            _log_failure(self._task, "when its start was cancelled")
            raise
        finally:
            waiting.cancel()
        if not ready.is_set():
            await self._task
            raise UsageError(
                f"a lifespan kept what the one of {self._opening} raised, so that the services can't begin: "
                f"{self._failure!r}"
            ) from self._failure
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._stop.is_set():
            self._on_end(None if task.cancelled() else task.exception())

    async def _live(self, ready: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            for name, lifespan in self._lifespans:
                self._opening = name
                try:
                    self.states[name] = await stack.enter_async_context(_made(name, lifespan))
                except BaseException as error:
                    self._failure = error  # those before it may keep it to themselves
                    raise
            ready.set()
            await self._stop.wait()

    async def close(self) -> None:
        """Leave them, the last one first; what one of them raises, this raises."""
        if self._task is None:
            return
        self._stop.set()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            try:
                with move_on_after(_LEAVING, shield=True):  # a cancelled scope of anyio's cancels again and again
                    await asyncio.wait({self._task})
            finally:
                self._task.cancel()
                self._task.add_done_callback(partial(_log_failure, when="when its end was cancelled"))
            raise
        await self._task


def _made(name: str, lifespan: Lifespan) -> AbstractAsyncContextManager[Any]:
    context = lifespan()
    if not hasattr(context, "__aenter__"):
        raise UsageError(f"the lifespan of {name} gives {context!r}: decorate it with contextlib.asynccontextmanager")
    return context


def _log_failure(task: asyncio.Task[None], when: str) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a service's lifespan failed %s", when, exc_info=error)
