"""Receiving, as all endpoints that receive do it."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from aiozpat.endpoints.base import INBOX_LIMIT, Endpoint
from aiozpat.endpoints.inbox import Inbox
from aiozpat.errors import Closed

M = TypeVar("M")


class Receiver(Endpoint, Generic[M]):
    """An endpoint that receives; arguments as for `Endpoint`."""

    def _prepare(self) -> None:
        self._inbox: Inbox[M] = Inbox(INBOX_LIMIT, self._pause, self._resume)

    async def recv(self, timeout: float | None = None) -> M:
        """The next message; a timeout or a cancellation loses none.

        Args:
            timeout: Seconds to wait; `None` waits for ever.

        Raises:
            TimedOut: None came in time.
            Closed: The endpoint is closed, or was while this waited.
        """
        self._usable()
        return await self._inbox.take(timeout)

    async def recv_many(self, limit: int = 1000, timeout: float | None = None) -> list[M]:
        """The next messages: waits for one, then takes what is there, up to `limit`.

        Args:
            limit: How many to take at most.
            timeout: Seconds to wait for the first; `None` waits for ever.

        Raises:
            TimedOut: None came in time.
            Closed: The endpoint is closed, or was while this waited.
            ValueError: `limit` is less than 1.
        """
        self._usable()
        return await self._inbox.take_many(limit, timeout)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M:
        try:
            return await self.recv()
        except Closed:
            raise StopAsyncIteration from None

    def _on_close(self, reason: str) -> None:
        self._inbox.close(reason)

    def _pause(self) -> None:
        if self._socket is not None:
            self._socket.pause()

    def _resume(self) -> None:
        if self._socket is not None:
            self._socket.resume()

    def _waiting(self) -> int:
        return len(self._inbox)
