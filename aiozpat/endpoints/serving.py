"""Serving at level 1: one task a message, so many at once, and nobody left waiting when a handler fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from aiozpat.checks import whole_number
from aiozpat.endpoints.request import Request
from aiozpat.errors import AiozpatError, Cancelled, Closed, PeerUnreachable, TimedOut, UsageError
from aiozpat.message import Payload, payload_frames
from aiozpat.observability.notices import Notices

if TYPE_CHECKING:
    from aiozpat.endpoints.router import Responder

_log = logging.getLogger("aiozpat.endpoints")

Handler: TypeAlias = Callable[[Request], Awaitable[Payload | None]]
OnError: TypeAlias = Callable[[Request, Exception], Payload | None]

REPLY_SECONDS = 5.0  # for which replies wait at a peer that takes none; then they are dropped and counted
REPLIES_WAITING = 100  # for one such peer, beside those that hold the places of handlers
_MOST_STUCK = 65_536  # peers


class _Place:
    """A handler's place, given back once, by whoever is the first to."""

    __slots__ = ("_slots", "held")

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self.held = True

    def leave(self) -> None:
        """Give it back, unless that was done."""
        if self.held:
            self.held = False
            self._slots.release()


class Serving:
    """One run of `serve`.

    Args:
        endpoint: Whose messages.
        handler: What to do with each.
        max_concurrency: How many handlers run at once.
        on_error: What to answer when a handler raises.
        notices: Where failures and drops are counted.
    """

    def __init__(
        self, endpoint: Responder, handler: Handler, max_concurrency: int, on_error: OnError | None, notices: Notices
    ) -> None:
        if not inspect.iscoroutinefunction(handler) and not inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is async is a handler too
        ):
            raise UsageError("a handler is `async def`; blocking code goes through asyncio.to_thread inside it")
        anything: object = on_error
        if anything is not None and (not callable(anything) or inspect.iscoroutinefunction(anything)):
            raise UsageError("on_error is a plain function of the message and the exception, which returns the answer")
        self._endpoint = endpoint
        self._handler = handler
        self._on_error = on_error
        self._notices = notices
        self._slots = asyncio.Semaphore(whole_number("max_concurrency", max_concurrency))
        self._ending = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken_at: dict[bytes, float] = {}  # when a peer for which replies wait took the last one
        self._stuck: dict[bytes, None] = {}  # peers that were waited for in vain; the oldest are forgotten

    async def run(self) -> None:
        """Serve until the endpoint is closed; when this is cancelled, so are the handlers."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._slots.acquire()
                request = await self._endpoint.recv()
                place = _Place(self._slots)
                task = loop.create_task(self._serve(request, place))
                self._tasks.add(task)
                task.add_done_callback(partial(self._on_done, request, place))
                if self._ending and task.cancel():  # begun by an eager task factory, it has closed the endpoint itself
                    self._notices.count("handler cancelled")
        except Closed:
            _log.debug("%r is closed: its serve ends", self._endpoint)
        finally:
            await self._end()

    def _on_done(self, request: Request, place: _Place, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if place.held:  # it was cancelled before its first step
            place.leave()
            if not self._ending:  # by others, then
                answering = asyncio.get_running_loop().create_task(self._answer_for(request))
                self._tasks.add(answering)
                answering.add_done_callback(self._tasks.discard)

    async def _answer_for(self, request: Request) -> None:
        """Answer for a handler that was cancelled before it began."""
        answer = self._failed(request, Cancelled("the handler was cancelled"))
        if answer is not None:
            await self._reply(request, answer)

    def cancel(self) -> None:
        """End the handlers: the endpoint is closed, and `run` may wait for the place of one of them."""
        if not self._ending:
            self._ending = True
            if cancelled := sum(task.cancel() for task in self._tasks):
                self._notices.count("handler cancelled", cancelled)

    async def _end(self) -> None:
        self.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, request: Request, place: _Place) -> None:
        try:
            answer = await self._handle(request)
            if answer is None or (request.answered and request.expects_reply):
                return
            if self._endpoint.waiting_for(request.identity) < REPLIES_WAITING:
                place.leave()  # a peer that does not read its reply holds no place
            await self._reply(request, answer)
        finally:
            place.leave()

    async def _handle(self, request: Request) -> Sequence[bytes] | None:
        try:
            return self._parts(await self._handler(request))
        except Exception as error:
            return self._failed(request, error)
        except SystemExit as error:  # one message is not to end the program
            return self._failed(request, AiozpatError(f"the handler called sys.exit({error.code!r})"))
        except asyncio.CancelledError:
            if self._ending:
                raise
            return self._failed(request, Cancelled("the handler was cancelled"))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a group, say, with something in it that was cancelled
            if self._ending:
                raise
            failure = AiozpatError(f"the handler raised {error!r}")
            failure.__cause__ = error
            return self._failed(request, failure)

    def _parts(self, answer: Payload | None) -> Sequence[bytes] | None:
        """An answer's frames; one that can't be sent is the failure of who gave it."""
        if answer is None:
            return None
        parts = payload_frames(answer)
        self._endpoint.check_sizes(parts)
        return parts

    def _failed(self, request: Request, error: Exception) -> Sequence[bytes] | None:
        """Log, count, and find an answer: a REQ peer would wait for ever."""
        self._notices.count("handler failed")
        if self._on_error is not None:
            try:
                return self._parts(self._on_error(request, error))
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as second:  # whatever it is, the peer waits
                _log.error("on_error failed for %r", request, exc_info=second)
        _log.error("the handler failed for %r", request, exc_info=error)
        return [b""] if request.expects_reply else None

    async def _reply(self, request: Request, parts: Sequence[bytes]) -> None:
        """Send a reply; it waits for room as long as its peer takes others."""
        identity = request.identity
        while True:
            # Who was waited for in vain is not waited for again until it reads: others want the places.
            timeout = 0.0 if identity in self._stuck else REPLY_SECONDS
            try:
                await request.reply(*parts, timeout=timeout)
            except TimedOut:
                if time.monotonic() - self._taken_at.get(identity, -math.inf) <= timeout:
                    continue
                self._drop(identity, f"a peer took none for {REPLY_SECONDS} s")
                self._stuck[identity] = None
                if len(self._stuck) > _MOST_STUCK:
                    del self._stuck[next(iter(self._stuck))]
            except PeerUnreachable:
                self._drop(identity, "its peer is gone")
            except Closed:
                self._drop(identity, "the endpoint was closed before it was sent")
            else:
                self._stuck.pop(identity, None)
                if self._endpoint.waiting_for(identity):
                    self._taken_at[identity] = time.monotonic()
                else:
                    self._taken_at.pop(identity, None)
            return

    def _drop(self, identity: bytes, why: str) -> None:
        self._notices.note("reply dropped", why)
        self._taken_at.pop(identity, None)
        self._stuck.pop(identity, None)
