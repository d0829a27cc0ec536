"""What a server answers a call with: its result, its error, or that it never ran."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from msgspec import Raw

from aiozpat.codec import ENCODE_ERRORS, apart, described, pack_rich
from aiozpat.errors import Cancelled, DeadlineExceeded, ResourceExhausted, RpcError, StatusCode
from aiozpat.observability.notices import Notices
from aiozpat.protocol.records import RECORD_BYTES, REFUSED, REPLY, SPACE, Buffer, encode
from aiozpat.rpc.buffers import check_buffers
from aiozpat.rpc.current import Job
from aiozpat.rpc.failures import error_record, internal, unencodable
from aiozpat.rpc.session import Session

SendAlone: TypeAlias = Callable[[Session, bytes, Sequence[Buffer]], bool]

_log = logging.getLogger("aiozpat.server")


class Answers:
    """Answers of one server, put into the outboxes of their sessions.

    Args:
        post: Called when something was put into a session's outbox.
        send_alone: Sends an answer at once, if it is best to; False if it has to be queued.
        notices: Where refusals and drops are counted.
        backlog_bytes: Bytes of replies that may wait for one client.
        send_tracebacks: Whether an unexpected exception's traceback travels to the caller.
        may_refuse: Whether there are interceptors, which may refuse a call before it runs; a handler can't.
    """

    def __init__(
        self,
        post: Callable[[Session], None],
        send_alone: SendAlone,
        notices: Notices,
        *,
        backlog_bytes: int,
        send_tracebacks: bool,
        may_refuse: bool,
    ) -> None:
        self._post = post
        self._send_alone = send_alone
        self._notices = notices
        self._backlog_bytes = backlog_bytes
        self._send_tracebacks = send_tracebacks
        self._may_refuse = may_refuse

    def result(self, job: Job, result: Any) -> None:
        """Answer with any result; those of `large`, and what MessagePack encodes as it is, don't come here.

        Raises:
            Internal: It can't be encoded.
            ResourceExhausted: It is too large, or the client does not read.
        """
        if job.key < 0:
            return  # a notification wants none
        values = job.session.values
        buffers: list[Buffer] = []
        try:
            result = Raw(pack_rich(result, buffers, copy=False) if values is None else values.pack(result))
        except ENCODE_ERRORS as error:
            raise unencodable(f"the result of {job.route.name} can't be encoded: {described(error)}", error) from error
        if buffers:
            self._apart(job, result, buffers)
        else:
            record = encode((REPLY, job.key, 0, result))
            self.check_room(job, len(record))
            self.put(job.session, job.key, record)

    def large(self, job: Job, result: Buffer) -> None:
        """Answer with bytes that travel apart (`is_large`), where the codec is MessagePack; raises as `result` does."""
        if job.key > 0:
            buffers: list[Buffer] = []
            self._apart(job, apart(result, buffers), buffers)

    def _apart(self, job: Job, result: Any, buffers: list[Buffer]) -> None:
        """Answer with a result that refers to buffers."""
        session = job.session
        record = encode((REPLY, job.key, len(buffers), result, SPACE))
        self.check_room(job, len(record))
        check_buffers(f"the result of {job.route.name}", len(record), buffers, session.peer_buffer_bytes)
        if not self._send_alone(session, record, buffers):
            session.outbox.add_large(job.key, record, buffers)
            self._post(session)

    def check_room(self, job: Job, nbytes: int) -> None:
        """See to it that a result of so many bytes is within the limits, by itself and with what waits already.

        Raises:
            ResourceExhausted: It is not.
        """
        if nbytes > RECORD_BYTES:
            raise ResourceExhausted(
                f"a result of {nbytes} bytes is over the limit of {RECORD_BYTES}; return large data as bytes, not in a "
                "list or tuple, so that they travel apart, or in pieces, as a stream"
            )
        if job.session.outbox.nbytes > self._backlog_bytes:
            text = f"{self._backlog_bytes} bytes of replies wait for this client to read them (Limits.backlog_bytes)"
            self._notices.note("reply dropped", f"{job.session.label}: {text}")
            raise ResourceExhausted(text)

    def failure(self, job: Job, error: BaseException) -> None:
        """Answer with what a handler, or something around it, raised."""
        job.route.errors += 1
        if job.answered:
            if not isinstance(error, (asyncio.CancelledError, RpcError)):
                _log.warning("%s failed after its caller had gone", job.route.name, exc_info=error)
            return
        if job.deadline <= time.monotonic():
            # Most likely that is why: calls made inside the handler ended at its deadline, and it passes that on.
            _log.debug("%s failed at its deadline", job.route.name, exc_info=error)
            answer: RpcError = DeadlineExceeded(f"{job.route.name} did not end within the caller's deadline")
        elif isinstance(error, asyncio.CancelledError):
            answer = Cancelled("the handler was cancelled on the server")
        elif isinstance(error, RpcError) and not error.from_call:
            answer = error
        else:
            answer = internal(job.route.name, error, self._send_tracebacks)
        if answer.refused and not self._may_refuse:
            answer.refused = False
        if answer.refused:
            self._notices.note("refused", f"{job.session.label}: {answer.message}")
        self.error(job.session, job.key, answer)

    def error(self, session: Session, key: int, error: RpcError) -> None:
        """Answer with an error."""
        if key < 0:
            self._notices.note("notification failed", f"{session.label}: {error}")
        else:
            self.put(session, key, error_record(key, error))

    def refusal(self, session: Session, key: int, code: StatusCode, message: str) -> None:
        """Say that a call never ran."""
        self._notices.note("refused", f"{session.label}: {message}")
        self.put(session, key, encode((REFUSED, key, 0, int(code), message)))

    def put(self, session: Session, key: int, record: bytes) -> None:
        """Queue a call's last record."""
        if key < 0:
            self._notices.count("notification failed")
        elif not session.ending:
            session.outbox.seal()  # the items of a stream precede its end
            session.outbox.add(key, record)
            self._post(session)
