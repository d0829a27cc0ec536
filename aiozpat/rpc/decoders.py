"""Decoders, made once for each type that a client asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from aiozpat.codec import TYPE_ERRORS
from aiozpat.errors import UsageError

D = TypeVar("D")

_log = logging.getLogger("aiozpat.client")
_MOST = 1024  # types remembered


class Decoders(dict[Any, D]):
    """Decoders by type; one that is missing is made.

    Args:
        make: Makes one for a type.
    """

    def __init__(self, make: Callable[[Any], D]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, wanted: Any) -> D:
        decoder = self.make(wanted)
        if len(self) >= _MOST:
            self.clear()
        self[wanted] = decoder
        return decoder

    def of(self, wanted: Any) -> D:
        """The decoder for a type, made anew each time where the type is not hashable.

        Raises:
            UsageError: Nothing can be decoded into it.
        """
        try:
            return self[wanted]
        except TypeError:
            _log.debug("%r is not hashable, so its decoder is made anew each time", wanted)
            return self.make(wanted)

    def make(self, wanted: Any) -> D:
        """A new decoder."""
        try:
            return self._make(wanted)
        except TYPE_ERRORS as error:
            raise UsageError(f"{wanted!r} can't be decoded: {error}") from error
