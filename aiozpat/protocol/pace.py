"""How many calls of a session wait for the end of a turn of the loop, so that they leave together."""

from __future__ import annotations

_BY_ITSELF = 4  # turns in a row until a session that was among others does as if there were none
_LEAST_BY_ITSELF, _LEAST_AMONG_OTHERS = 8, 32


class Pace:
    """What a session does, by what it knows of others on its loop.

    A session by itself must send some calls before the turn ends, lest client and server wait for each other. Where
    other sessions have turns like this one, those see to that, and fewer messages are less work for both sides.

    Attributes:
        first_leaves: Whether a call that finds none in flight leaves at once.
        least: So many calls leave before the end of a turn, if they are half of what is in flight.
    """

    __slots__ = ("_by_itself", "first_leaves", "least")

    def __init__(self) -> None:
        self.first_leaves = True
        self.least = _LEAST_BY_ITSELF
        self._by_itself = 0  # turns in a row

    def turn(self, queued: int, *, among_others: bool) -> None:
        """A turn has ended in which calls were queued.

        Args:
            queued: How many are about to leave.
            among_others: Whether another session had such a turn since this one's last.
        """
        if among_others:
            self._by_itself = 0
            self.least = _LEAST_AMONG_OTHERS
            self.first_leaves = queued < 2
            return
        self._by_itself += 1
        if self._by_itself >= _BY_ITSELF:
            self.least = _LEAST_BY_ITSELF
            self.first_leaves = True
