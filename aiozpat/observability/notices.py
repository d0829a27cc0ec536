"""Things gone wrong that nobody can be told by an exception: each is counted, and logged without flooding the log."""

from __future__ import annotations

import logging
import time
from collections import Counter

_PAUSE = 10.0  # seconds between two log lines of one kind


_LINE = 2000  # characters


def printable(text: str) -> str:
    """A peer's words as one line of a log, not a long one: what can't be printed is written as an escape."""
    text = text[:_LINE]
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class Notices:
    """Counts by kind; the first of a kind is logged at once, further ones together.

    Args:
        logger: Where the lines go, as warnings.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._counts: Counter[str] = Counter()
        self._logged: dict[str, tuple[float, int]] = {}

    def note(self, kind: str, detail: str, number: int = 1) -> None:
        """Count so many of a kind, and log it unless one of its kind was logged just now."""
        self._counts[kind] += number
        count = self._counts[kind]
        now = time.monotonic()
        last, logged = self._logged.get(kind, (-_PAUSE, 0))
        if now - last < _PAUSE:
            return
        self._logged[kind] = (now, count)
        more = count - logged - number
        self._logger.warning(
            "%s: %s%s", kind, printable(detail), f" (and {more} more since the last line)" if more else ""
        )

    def count(self, kind: str, number: int = 1) -> None:
        """Count so many of a kind that needs no line, or has one elsewhere."""
        self._counts[kind] += number

    def counts(self) -> dict[str, int]:
        """How many of each kind so far."""
        return dict(self._counts)
