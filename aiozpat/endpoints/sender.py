"""Sending, as the endpoints do it that have one queue for all their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from aiozpat.endpoints.base import Endpoint, here
from aiozpat.endpoints.line import Line, within
from aiozpat.errors import TimedOut
from aiozpat.message import FrameLike, Payload, payload_frames, to_frames

YIELD = 128  # sends that did not wait, after which the loop's other tasks get a turn


class Outgoing(Endpoint):
    """An endpoint with a line of senders; arguments as for `Endpoint`."""

    def _prepare(self) -> None:
        super()._prepare()
        self._line = Line(self._nowhere)

    async def send_many(self, messages: Iterable[Payload], timeout: float | None = None) -> None:
        """Send messages in their order; faster than one `send` after the other.

        It waits as `send` does. Cancelled or timed out, a first part of them was sent, each whole or not at all;
        `statistics().sent` counts them.

        Args:
            messages: Each is one frame, or a sequence of frames.
            timeout: Seconds for all of them; `None` waits for ever.

        Raises:
            TimedOut: There was no room in time; it says how many were sent.
            QueueFull: A subscriber's queue is full (`Publisher(overflow="raise")`); the messages before were sent.
            TypeError: A frame is neither bytes, bytearray, memoryview nor str; those before it were sent.
            ValueError: A message has no frame, or one over `SocketOptions.max_message_bytes`.
            Closed: The endpoint is closed, or was while this waited.
        """
        if isinstance(messages, (str, bytes, bytearray, memoryview)):
            raise TypeError("send_many takes several messages, as in send_many([b'one', b'two']); send() takes one")
        progress = [0]
        if timeout is None:
            await self._send_all(messages, progress)
            return
        scope = within(timeout)
        try:
            async with scope:
                await self._send_all(messages, progress)
        except TimeoutError:
            if not scope.expired():
                raise  # the user's own, from `messages`
            raise TimedOut(f"{self._nowhere()}no room within {timeout} s; {progress[0]} messages were sent") from None

    async def _send_all(self, messages: Iterable[Payload], progress: list[int]) -> None:
        """Send them, and keep count in `progress`."""
        self._usable()
        line, waiters = self._line, self._line.waiters
        for number, message in enumerate(messages):
            parts = payload_frames(message)
            if number % YIELD == YIELD - 1:
                await asyncio.sleep(0)  # before it is sent: cancelled here, it was not
            if waiters or not self._try(parts):
                await line.wait(lambda parts=parts: self._try(parts), None)  # type: ignore[misc]  # bound to this turn
            progress[0] += 1

    def _begin(self, parts: Sequence[bytes], timeout: float | None) -> Coroutine[Any, Any, None] | None:
        """Send one message, after those that wait already; where that takes longer, what is to be awaited.

        It is no coroutine function, since nearly always the message leaves at once, and a coroutine costs as well.
        """
        if here() != self._here:  # that it is open, `_try` sees
            self._usable()
        if self._sent % YIELD == YIELD - 1 and (self._turning or self._turned != self._sent):
            return self._finish(parts, timeout, after_a_turn=True)
        try:
            if not self._line.waiters and self._try(parts):
                return None
        except RuntimeError:
            self._usable()  # asyncio's own words for a wrong loop don't say what to do
            raise
        return self._finish(parts, timeout)

    async def _finish(self, parts: Sequence[bytes], timeout: float | None, *, after_a_turn: bool = False) -> None:
        """Send one message after a turn for the loop's other tasks, or when there is room for it."""
        self._usable()  # on another loop, nobody would wake it
        if after_a_turn:
            await self._give_turn()  # before anything is sent: cancelled here, nothing was
            await self._line.send(lambda: self._try(parts), timeout)
        else:
            await self._line.wait(lambda: self._try(parts), timeout)

    def _on_writable(self) -> None:
        self._line.wake()

    def _on_close(self, reason: str) -> None:
        super()._on_close(reason)
        self._line.wake()


class Sender(Outgoing):
    """An endpoint that sends to whoever is next; arguments as for `Endpoint`."""

    async def send(self, *frames: FrameLike, timeout: float | None = None) -> None:
        """Send one message.

        It waits while there is no peer or the queues to all are full. Cancelled or timed out, nothing was sent.

        Args:
            frames: The message's frames; text becomes UTF-8.
            timeout: Seconds to wait at most; `None` waits for ever.

        Raises:
            TimedOut: There was no room in time.
            TypeError: A frame is neither bytes, bytearray, memoryview nor str.
            ValueError: There is no frame, or one over `SocketOptions.max_message_bytes`.
            Closed: The endpoint is closed, or was while this waited.
        """
        waiting = self._begin(to_frames(frames), timeout)
        if waiting is not None:
            await waiting
