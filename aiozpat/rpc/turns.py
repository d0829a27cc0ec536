"""Whose turn it is among the streams of one session, where more is made than leaves."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Protocol

from aiozpat.protocol.outbox import Outbox

_AT_ONCE = 8  # streams that go on together; each makes a record, at least
_HOLD = 1024 * 1024  # bytes that wait for one peer, past which no stream makes more for it


class Waiting(Protocol):
    """A stream that waits; hashed by what it is."""

    def take_turn(self) -> None:
        """Go on, soon; and leave, unless the outbox is full again by then."""


class Turns:
    """Streams that wait until less waits to be sent; those go on first that have waited longest.

    Args:
        outbox: The session's.

    Attributes:
        waiting: The streams, in the order of their turns.
    """

    __slots__ = ("_outbox", "_scheduled", "waiting")

    def __init__(self, outbox: Outbox) -> None:
        self.waiting: dict[Waiting, None] = {}
        self._outbox = outbox
        self._scheduled = False

    @property
    def room(self) -> bool:
        """Whether more may be made for this peer."""
        return self._outbox.nbytes <= _HOLD

    def enter(self, stream: Waiting) -> None:
        """Wait behind all others; who waits already keeps the place."""
        self.waiting[stream] = None

    def leave(self, stream: Waiting) -> None:
        """Wait no more, if it does."""
        self.waiting.pop(stream, None)

    def go_on(self) -> None:
        """Something of what waited to be sent has left: let the next ones go on, as far as there is room."""
        if not self.waiting or not self.room:
            return
        for stream in list(islice(self.waiting, _AT_ONCE)):
            stream.take_turn()
        if not self._scheduled:  # they may have nothing to send now
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        self._scheduled = False
        self.go_on()
