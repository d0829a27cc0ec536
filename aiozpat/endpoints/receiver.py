"""Receiving, as all endpoints that receive do it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Generic, Self, TypeVar

from aiozpat.endpoints.base import INBOX_LIMIT, MAX_FRAMES, Endpoint, here
from aiozpat.endpoints.inbox import Inbox
from aiozpat.errors import Closed
from aiozpat.message import Message

M = TypeVar("M")

_log = logging.getLogger("aiozpat.endpoints")

_BATCH = 128  # messages taken from ZeroMQ before the loop's other work gets its turn
_MUCH = 64 * 1024  # bytes of one message, after which it does too


def is_much(parts: Sequence[bytes]) -> bool:
    """Whether to copy the message has kept the loop long enough for now."""
    return sum(map(len, parts)) >= _MUCH


class Receiver(Endpoint, Generic[M]):
    """An endpoint that receives; arguments as for `Endpoint`."""

    def _prepare(self) -> None:
        super()._prepare()
        limit = self._options.receive_queue_messages or INBOX_LIMIT
        self._inbox: Inbox[M] = Inbox(min(limit, INBOX_LIMIT), self._pause, self._resume, self._nowhere)

    async def recv(self, timeout: float | None = None) -> M:
        """The next message; a timeout or a cancellation loses none.

        Args:
            timeout: Seconds to wait; `None` waits for ever.

        Raises:
            TimedOut: None came in time.
            Closed: The endpoint is closed, or was while this waited.
        """
        inbox = self._inbox
        if inbox.free and here() == self._here:  # in line, as below: a function would cost as much again
            inbox.free -= 1
            return inbox.messages.popleft()
        self._usable()
        return await self._inbox.take(timeout)

    async def recv_many(self, limit: int = 1000, timeout: float | None = None) -> list[M]:
        """The next messages: waits for one, then takes what is there, up to `limit`.

        A timeout or a cancellation loses none.

        Args:
            limit: How many to take at most.
            timeout: Seconds to wait for the first; `None` waits for ever.

        Raises:
            TimedOut: None came in time.
            Closed: The endpoint is closed, or was while this waited.
            ValueError: `limit` is no whole number above 0.
            TypeError: It is no number.
        """
        self._usable()
        return await self._inbox.take_many(limit, timeout)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M:
        inbox = self._inbox
        if inbox.free and here() == self._here:
            inbox.free -= 1
            return inbox.messages.popleft()
        try:
            self._usable()
            return await self._inbox.take(None)
        except Closed:
            raise StopAsyncIteration from None

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        if self._inbox:
            self._notices.count("left unread", len(self._inbox))
            _log.info("%s: left unread, %d messages are dropped", reason, len(self._inbox))  # no warning: it was wished
        self._inbox.close(reason)

    def _pause(self) -> None:
        if self._socket is not None:
            self._socket.pause()

    def _resume(self) -> None:
        if self._socket is not None:
            self._socket.resume()

    def _waiting(self) -> int:
        return len(self._inbox)


class BatchReceiver(Receiver[M]):
    """Takes what has arrived many messages at a time: for patterns that stream, not for lone questions and answers."""

    def _on_readable(self) -> bool:
        socket = self._socket
        if socket is None:
            return True
        batch = socket.receive_many(min(_BATCH, self._inbox.room))
        messages = self._messages(batch)
        self._received += len(messages)
        self._inbox.extend(messages)
        if socket.overlong:
            self._notices.note("message dropped", f"it had more than {MAX_FRAMES} frames", socket.overlong)
            socket.overlong = 0
        return True

    def _messages(self, batch: list[tuple[bytes, ...]]) -> Collection[M]:
        """What to hand out for these frames."""
        raise NotImplementedError


class MessageReceiver(BatchReceiver[Message]):
    """Hands out plain messages."""

    def _messages(self, batch: list[tuple[bytes, ...]]) -> Collection[Message]:
        return [Message(frames) for frames in batch]
