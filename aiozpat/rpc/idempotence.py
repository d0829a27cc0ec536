"""Which methods may run twice, as the servers say."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from aiozpat.errors import Unavailable, Unimplemented
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.decoders import Decoders
from aiozpat.rpc.introspection import Information
from aiozpat.rpc.pending import Decodes, NeverRan

_log = logging.getLogger("aiozpat.client")
_LEARN = 10.0  # seconds for a server to say it


class Idempotence:
    """The methods that every server that has said anything says are idempotent: the next attempt may go to any of them.

    Args:
        decoders: Those of the client.
    """

    def __init__(self, decoders: Decoders[Decodes]) -> None:
        self._decoders = decoders
        self._known: dict[str, frozenset[str]] = {}  # by endpoint

    def __contains__(self, method: object) -> bool:
        return bool(self._known) and all(method in known for known in self._known.values())

    def learn(self, connection: Connection) -> None:
        """Ask a server; where it does not say, none of its methods is but those that callers say are."""

        def learned(future: asyncio.Future[Any]) -> None:
            connection.max_calls -= 1
            if future.cancelled():  # it could not be asked
                return
            error = future.exception()
            if error is None:
                self._known[connection.endpoint] = future.result().idempotent
            elif isinstance(error, (NeverRan, Unavailable, Unimplemented)):  # it went, or does not describe itself
                _log.debug("%s does not say which methods are idempotent: %s", connection.endpoint, error)
            else:
                _log.warning("%s does not say which methods are idempotent: %s", connection.endpoint, error)

        self._known.pop(connection.endpoint, None)  # it may be another server by now
        future = connection.create_future()
        future.add_done_callback(learned)
        connection.max_calls += 1  # it takes no place from the user's
        decoder = self._decoders[Information]
        try:
            connection.start("aiozpat.info", (False,), time.monotonic() + _LEARN, _LEARN, decoder, None, future)
        except Exception:  # of a codec of the user's, say; nobody made this call who could get it
            _log.warning("%s can't be asked which methods are idempotent", connection.endpoint, exc_info=True)
            future.cancel()
