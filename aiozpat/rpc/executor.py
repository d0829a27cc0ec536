"""Runs the calls of a server: admission, one task a call, deadlines, cancellation, results."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from itertools import chain
from typing import Any

from aiozpat.codec import BUFFER_TYPES, ENCODE_ERRORS, is_large
from aiozpat.errors import (
    Closed,
    DeadlineExceeded,
    InvalidArgument,
    ProtocolError,
    RpcError,
    StatusCode,
    Unimplemented,
)
from aiozpat.observability.notices import Notices
from aiozpat.protocol.admission import Admission, Decision
from aiozpat.protocol.records import (
    BUFFER_THRESHOLD,
    END,
    ENDLESS,
    METADATA_LIMIT,
    RECORD_BYTES,
    REPLY,
    Bye,
    Cancel,
    Credit,
    End,
    Item,
    Record,
    Request,
    encode,
    metadata_bytes,
)
from aiozpat.rpc.answers import Answers, SendAlone
from aiozpat.rpc.callables import Callables
from aiozpat.rpc.current import Job, set_current_job
from aiozpat.rpc.deadlines import Deadlines
from aiozpat.rpc.failures import unimplemented
from aiozpat.rpc.interceptors import ServerInterceptor
from aiozpat.rpc.limits import Limits
from aiozpat.rpc.route import Route
from aiozpat.rpc.service import RESERVED, Service
from aiozpat.rpc.session import Session
from aiozpat.rpc.streaming import attach, fits, how, take

_log = logging.getLogger("aiozpat.server")
_EAGER = sys.version_info >= (3, 12)  # a handler that never suspends then ends inside its task's constructor
_RESERVED = 64  # calls of `aiozpat.*` that one client may have running
FLUSH_AT = 128  # replies that leave at once; waiting for more would make both sides take turns
_monotonic = time.monotonic
_NEVER = math.inf
Task = asyncio.Task


class Executor:
    """The calls of one server.

    Args:
        services: What to serve.
        states: What their lifespans have opened, by name.
        limits: How much at once.
        sessions: The sessions there are, for the scan of deadlines.
        post: Called when something was put into a session's outbox.
        send_alone: Sends an answer at once, if it is best to.
        control: Called with each record that is not about a call.
        notices: Where refusals and drops are counted.
        send_tracebacks: Whether an unexpected exception's traceback travels to the caller.
        interceptors: What runs around each call.
    """

    def __init__(
        self,
        services: Sequence[Service],
        states: Mapping[str, Any],
        limits: Limits,
        *,
        sessions: Callable[[], Iterable[Session]],
        post: Callable[[Session], None],
        send_alone: SendAlone,
        control: Callable[[Session, Record], None],
        notices: Notices,
        send_tracebacks: bool,
        interceptors: Sequence[ServerInterceptor],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._limits = limits
        self._sessions = sessions
        self._post = post
        self._send_alone = send_alone
        self._control = control
        self._notices = notices
        self._answers = Answers(
            post,
            send_alone,
            notices,
            backlog_bytes=limits.backlog_bytes,
            send_tracebacks=send_tracebacks,
            may_refuse=bool(interceptors),
        )
        self._callables = Callables(limits.max_threads, interceptors)
        self._admission: Admission[Job] = Admission(limits.max_concurrency, limits.max_queued)
        self.gate = self._admission.gate
        self._reserved = 0  # calls that run outside of it: nobody is to wait for those, nor for the lack of a place
        self.routes: dict[str, Route] = {}
        self._names = [service.name for service in services]
        for service in services:
            for method in service.methods:
                self.routes[method.name] = Route(
                    method, self._callables.of(method), states.get(service.name), reserved=service.name == RESERVED
                )
        self._admitting = self.routes
        self.refusing: str | None = None  # why no call is admitted any more
        self._roomy = min(limits.backlog_bytes, RECORD_BYTES)  # as long as no more waits, there is room for sure
        self._max_calls_per_peer = limits.max_calls_per_peer
        self._orphans: dict[int, Job] = {}  # running, of sessions that have ended
        self._watched = False  # whether a call's end concerns others than itself
        self._idle: asyncio.Future[None] | None = None
        self._deadlines = Deadlines(
            self._loop, self._context, lambda: self.gate.running + self.gate.queued + self._reserved, self._on_due
        )

    # Admission

    def receive(self, session: Session, records: list[Record], buffers: Sequence[memoryview], now: float) -> None:
        """Take the records of one message: start calls, queue them or answer at once why not; the rest is `control`'s.

        Raises:
            ProtocolError: No correct client sends that.
        """
        if buffers or session.ending or session.values is not None:
            self._receive_slowly(session, records, buffers, now)
            return
        cancelled: set[int] = set()
        routes, calls, gate = self._admitting, session.calls, self.gate
        loop, run, most = self._loop, self._run, self._max_calls_per_peer
        for record in records:
            if type(record) is not Request:
                self._other(session, record, cancelled)
                if type(record) is Bye:
                    return  # nothing comes after it
                continue
            # The common call, in one piece: everything else goes to `_request`, which starts over.
            key = record.id
            route = routes.get(record.method)
            if (
                key <= 0
                or key in calls
                or route is None
                or route.gate is not None
                or record.buffers
                or record.opening is not None
                or gate.running >= gate.max_concurrency
                or len(calls) >= most
                or cancelled
                or (record.metadata is not None and metadata_bytes(record.metadata) > METADATA_LIMIT)
                or session.ending
            ):
                self._request(session, record, (), now, cancelled)
                continue
            try:
                fast = route.fast  # else looked for as a method first
                args = fast(record.params)
            except KeyboardInterrupt:
                raise
            except BaseException:  # it says nothing yet: `_request` decodes again, and tells the caller
                self._request(session, record, (), now, cancelled)
                continue
            gate.running += 1
            job = Job(session, key, route, args, now + record.timeout * 0.001, record.metadata)
            if _EAGER:
                task = Task(run(job), loop=loop, name=route.name, eager_start=True)  # type: ignore[call-arg]  # 3.12
                if not task.done():
                    job.task = task
                    self._enlist(job)
            else:
                calls[key] = job
                job.task = Task(run(job), loop=loop, name=route.name)
                if job.deadline < self._deadlines.nearest:
                    self._deadlines.arm(job.deadline, now)

    def _receive_slowly(
        self, session: Session, records: list[Record], buffers: Sequence[memoryview], now: float
    ) -> None:
        """For messages with buffers, other codecs, and sessions that end: their requests are passed over."""
        taken = 0
        cancelled: set[int] = set()
        for record in records:
            if not isinstance(record, (Request, Item)):
                self._other(session, record, cancelled)
                if type(record) is Bye:
                    return  # nothing comes after it
                continue
            if record.buffers < 0:
                raise ProtocolError("a record announces a negative number of buffers")
            own = buffers[taken : taken + record.buffers]
            taken += record.buffers
            if session.ending:
                continue
            if type(record) is Request:
                self._request(session, record, own, now, cancelled)
            else:
                self._other(session, record, cancelled, own)
        if taken != len(buffers):
            raise ProtocolError(f"a message brought {len(buffers)} buffers, its records announced {taken}")

    def _other(self, session: Session, record: Record, cancelled: set[int], buffers: Sequence[memoryview] = ()) -> None:
        """Take a record that is no request."""
        if isinstance(record, (Item, Credit, End)):
            if (job := _call_of(session, record.id)) is None:  # the call has ended meanwhile
                if type(record) is Item:
                    self._notices.count("late item")
            elif type(record) is Item and record.buffers != len(buffers):
                raise ProtocolError("a record announces more buffers than its message brought")
            else:
                take(job, record, buffers)
        elif type(record) is not Cancel:
            self._control(session, record)
        elif (job := _call_of(session, record.id)) is not None:
            self.cancel(job)
        elif record.id > 0:
            cancelled.add(record.id)

    def _request(
        self, session: Session, request: Request, buffers: Sequence[memoryview], now: float, cancelled: set[int]
    ) -> None:
        """Start a call, queue it, or answer at once why not."""
        if request.id in cancelled or session.ending:
            return
        if request.buffers != len(buffers):
            raise ProtocolError("a record announces more buffers than its message brought")
        key = request.id
        if key <= 0:
            key = session.last_key = session.last_key - 1
        if key in session.calls:
            raise ProtocolError(f"call {key} is in flight already")
        route = self._admitting.get(request.method)
        if route is None or (
            session.reserved >= _RESERVED if route.reserved else len(session.calls) >= self._max_calls_per_peer
        ):
            self._turn_away(session, key, request.method)
            return
        try:
            if session.values is None:
                args = route.decode(request.params, buffers)
            else:
                args = route.decode_foreign(request.params, session.values)
            if request.metadata is not None and metadata_bytes(request.metadata) > METADATA_LIMIT:
                raise InvalidArgument(f"{route.name}: more than {METADATA_LIMIT} bytes of metadata")
            deadline = now + request.timeout * 0.001 if request.timeout < ENDLESS else _NEVER
            job = Job(session, key, route, args, deadline, request.metadata)
            if route.streams or request.opening is not None:
                attach(job, request.opening, self._limits.stream_window)
        except RpcError as error:
            # That it is of another kind says more than that its params don't fit.
            self._reject(
                session, key, error if fits(route, request.opening) else Unimplemented(how(route, request.opening))
            )
            return
        self._queue(job)

    def _turn_away(self, session: Session, key: int, method: str) -> None:
        if self.refusing is not None:
            self._answers.refusal(session, key, StatusCode.UNAVAILABLE, self.refusing)
        elif method not in self.routes:
            self._reject(session, key, unimplemented(method, self.routes, self._names))
        else:
            text = f"{self._max_calls_per_peer} calls of this client are in flight (max_calls_per_peer)"
            if self.routes[method].reserved:
                text = f"{_RESERVED} calls of {RESERVED}.* are in flight, the most that one client may have"
            self._answers.refusal(session, key, StatusCode.RESOURCE_EXHAUSTED, text)

    def _reject(self, session: Session, key: int, error: RpcError) -> None:
        """Answer a call that no handler could have taken."""
        self._notices.note("bad request", f"{session.label}: {error.message}")
        self._answers.error(session, key, error)

    def _queue(self, job: Job) -> None:
        """Admit a call where there is a method's limit, or where the server's is reached."""
        if job.route.reserved:
            self._reserved += 1
            job.session.reserved += 1
            self._start(job)
            return
        decision = self._admission.enter(job, job.route.gate)
        if decision is Decision.RUN:
            self._start(job)
        elif decision is Decision.WAIT:
            self._enlist(job)
        else:
            text = f"{job.route.name}: the places to run and to wait are all taken (max_concurrency, max_queued)"
            self._answers.refusal(job.session, job.key, StatusCode.RESOURCE_EXHAUSTED, text)

    def _enlist(self, job: Job) -> None:
        """Put a call into the tables in which cancels and deadlines find it."""
        if job.session.ending:  # while its message was being taken
            self._adopt(job)
            if job.key > 0:
                self.cancel(job)
            return
        job.session.calls[job.key] = job
        if job.deadline < self._deadlines.nearest:
            self._deadlines.arm(job.deadline, _monotonic())

    # Running

    def _start(self, job: Job) -> None:
        if not job.answered and job.deadline <= _monotonic():  # while it waited for its place
            self._time_is_over(job)
        if job.answered:
            self._release(job)
            return
        if job.route.reserved:
            run = self._run_slowly
        else:
            run = self._run if not job.route.streams and job.session.values is None else self._run_with_streams
        if _EAGER:
            task = Task(run(job), loop=self._loop, name=job.route.name, eager_start=True)  # type: ignore[call-arg]  # 3.12
            if not task.done():
                job.task = task
                self._enlist(job)
            else:
                job.session.calls.pop(job.key, None)  # where it is if it had to wait for its place
        else:
            job.task = Task(run(job), loop=self._loop, name=job.route.name)
            self._enlist(job)

    async def _run(self, job: Job) -> None:
        """One call, in its own task; it sends its own answer, which is cheaper than a callback on the task."""
        if job.answered:  # before its first step
            self._release(job)
            return
        job.started = True
        set_current_job(job)
        session, key, route = job.session, job.key, job.route
        route.calls += 1
        try:
            result = await route.call(*job.args)
            kind = type(result)
            if job.answered:  # by now: a thread, say, can't be ended
                route.errors += 1  # type: ignore[unreachable]  # mypy does not see what changes meanwhile
            elif kind in BUFFER_TYPES and (kind is not bytes or len(result) >= BUFFER_THRESHOLD) and is_large(result):
                self._answers.large(job, result)
            elif key > 0:
                record: bytes | None
                try:
                    record = encode((REPLY, key, 0, result))
                except ENCODE_ERRORS:
                    record = None  # and on below: should that fail too, this error would only be in the way of reading
                if record is None:
                    self._answers.result(job, result)
                    return
                outbox = session.outbox
                nbytes = outbox.nbytes + len(record)
                if nbytes > self._roomy:
                    self._answers.check_room(job, len(record))
                entries = outbox.entries
                send_alone = self._send_alone  # else looked for as a method first
                if entries or not send_alone(session, record, ()):
                    entries[key] = record
                    outbox.nbytes = nbytes
                    if not session.dirty or len(entries) >= FLUSH_AT:
                        self._post(session)
        except Exception as error:
            self._answers.failure(job, error)
        except BaseException as error:
            self._answers.failure(job, error)
            if not isinstance(error, (asyncio.CancelledError, SystemExit)):  # one call is not to end the server
                raise
        finally:
            job.args = ()  # asyncio keeps timers that were cancelled, and with them the handler's context
            if not job.left:
                job.deadline = _NEVER  # of no concern to the tasks that it has started and left behind
            gate = self.gate
            if route.gate is None and not self._watched and not gate.queue:
                gate.running -= 1
                if job.task is not None:  # it is in the tables: an eager task that never suspended is not
                    job.task = None  # its context refers to the job
                    session.calls.pop(key, None)
            else:
                self._release(job)

    async def _run_with_streams(self, job: Job) -> None:
        """One call that sends or takes a stream, or whose client has another codec, in its own task."""
        try:
            if job.outbound is None and job.session.values is None:
                await self._run(job)
            else:
                await self._run_slowly(job)
        finally:
            if job.inbound is not None:
                job.inbound.finish(Closed(f"the call of {job.route.name} has ended"))

    async def _run_slowly(self, job: Job) -> None:
        """As `_run`, for what that does not do."""
        if job.answered:
            self._release(job)
            return
        job.started = True
        set_current_job(job)
        route, outbound = job.route, job.outbound
        route.calls += 1
        try:
            result = None
            if outbound is None:
                result = await route.call(*job.args)
            else:
                await self._callables.stream(route.call, job.args, outbound)
            if job.answered:
                route.errors += 1  # type: ignore[unreachable]  # as above
            elif outbound is None:
                self._answers.result(job, result)
            else:
                self._answers.put(job.session, job.key, encode((END, job.key)))
        except BaseException as error:
            self._answers.failure(job, error)
            if not isinstance(error, (Exception, asyncio.CancelledError, SystemExit)):  # as above
                raise
        finally:
            job.args = ()  # as above
            if not job.left:
                job.deadline = _NEVER
            if outbound is not None:
                outbound.end()
            self._release(job)

    def _release(self, job: Job) -> None:
        """A call has ended: out of the tables, its places to the next ones."""
        job.task = None
        self._forget(job)
        if job.route.reserved:
            self._reserved -= 1
            job.session.reserved -= 1
            return
        self._succeed(self._admission.leave(job.route.gate))
        if self._idle is not None and not self.gate.running and not self._idle.done():
            self._idle.set_result(None)

    def _succeed(self, successors: list[Job]) -> None:
        """Start those that have got the places which others gave back."""
        for job in successors:
            # Not from inside the task that ends: an eager one would start in its context.
            self._loop.call_soon(self._start, job, context=self._context)

    # Deadlines and cancellation

    def _on_due(self) -> None:
        jobs = chain(self._orphans.values(), *(session.calls.values() for session in self._sessions()))
        expired = self._deadlines.take_expired((job for job in jobs if not job.answered), _monotonic())
        for job in expired:
            self._time_is_over(job)

    def _time_is_over(self, job: Job) -> None:
        error = DeadlineExceeded(f"{job.route.name} did not end within the caller's deadline")
        self._answers.error(job.session, job.key, error)
        self.cancel(job)

    def cancel(self, job: Job) -> None:
        """Nobody wants the answer any more: a running coroutine is cancelled, a waiting call leaves its queue."""
        if job.answered:
            return
        job.answered = True
        if job.outbound is not None:  # a generator that goes on after its cancellation has nobody to send to
            job.outbound.end()
        if not job.started:
            self._withdraw(job)
        elif job.task is not None and not job.in_thread:
            job.task.cancel()
        if job.inbound is not None:  # and a task that reads for it is not to wait for items that nobody sends
            # Behind the handler, or a task group in it would see a failure first.
            job.inbound.finish(asyncio.CancelledError(f"the call of {job.route.name} was cancelled"))

    def _withdraw(self, job: Job) -> None:
        successors = self._admission.withdraw(job, job.route.gate)
        if successors is None:
            return  # it has its places already; its first step will see that nobody waits
        self._succeed(successors)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        """A call has ended, or will never run: out of the tables."""
        job.session.calls.pop(job.key, None)
        self._orphans.pop(id(job), None)
        self._watched = self._idle is not None or bool(self._orphans)

    def abandon(self, session: Session, *, said_goodbye: bool) -> None:
        """A client is gone: end all that runs for it; but not, if it left in order, what it wants no answer of."""
        for job in list(session.calls.values()):
            if job.key > 0 or not said_goodbye:
                self.cancel(job)
        for job in session.calls.values():
            self._adopt(job)

    def _adopt(self, job: Job) -> None:
        """Keep a call whose session has ended until it ends itself."""
        self._orphans[id(job)] = job
        self._watched = True
        if job.deadline < self._deadlines.nearest:
            self._deadlines.arm(job.deadline, _monotonic())

    # The end

    def refuse(self, reason: str) -> None:
        """Admit no call any more."""
        self.refusing = reason
        self._admitting = {name: route for name, route in self.routes.items() if route.reserved}

    async def idle(self, timeout: float) -> None:
        """Wait until nothing runs, `timeout` seconds at most."""
        if not self.gate.running:
            return
        self._idle = self._loop.create_future()
        self._watched = True
        await asyncio.wait({self._idle}, timeout=timeout)

    def close(self) -> None:
        """Look for deadlines no more."""
        self._deadlines.stop()

    async def stop(self, timeout: float) -> int:
        """Cancel what still runs, threads' calls too, and wait; the number that did not end.

        What does not end within `timeout` is cancelled once more, and has that time again: it may have been cancelled
        long before this, and what the lifespans gave it is about to go.
        """
        left = await _left(self.abort(), timeout)
        for task in left:
            task.cancel()
        return len(await _left(left, timeout))

    def abort(self) -> set[asyncio.Task[None]]:
        """Cancel what still runs, and say which tasks that concerns."""
        self.close()
        tasks = set()
        of_sessions = chain.from_iterable(session.calls.values() for session in self._sessions())
        for job in [*of_sessions, *self._orphans.values()]:
            task = job.task
            if not (job.started or job.answered):  # it never ran, so it may go elsewhere
                reason = self.refusing or "the server has ended"
                self._answers.refusal(job.session, job.key, StatusCode.UNAVAILABLE, reason)
            self.cancel(job)
            if task is not None:
                if job.in_thread or job.left:
                    self._notices.note("thread left running", f"{job.route.name}; the process ends when it returns")
                    task.cancel()
                tasks.add(task)
        return tasks


async def _left(tasks: set[asyncio.Task[None]], timeout: float) -> set[asyncio.Task[None]]:
    """Wait for tasks; those that did not end within `timeout`."""
    return (await asyncio.wait(tasks, timeout=timeout))[1] if tasks else tasks


def _call_of(session: Session, key: int) -> Job | None:
    """The call with an id that a client has named; notifications are kept under ids below 0, which it knows not of."""
    return session.calls.get(key) if key > 0 else None
