"""Which methods may run twice, as the servers say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aiozpat.errors import Unavailable, Unimplemented
from aiozpat.rpc.connection import Connection
from aiozpat.rpc.decoders import Decoders
from aiozpat.rpc.interceptors import ClientCall, ClientInterceptor, run_within
from aiozpat.rpc.introspection import Information
from aiozpat.rpc.pending import Decodes, NeverRan, Pending

_log = logging.getLogger("aiozpat.client")
_LEARN = 10.0  # seconds for a server to say it
_METHOD = "aiozpat.info"
_PARAMS = (False,)  # without the schemas


class Idempotence:
    """The methods that every server that has said anything says are idempotent: the next attempt may go to any of them.

    Args:
        decoders: Those of the client.
        interceptors: Those of the client.
    """

    def __init__(self, decoders: Decoders[Decodes], interceptors: Sequence[ClientInterceptor]) -> None:
        self._decoders = decoders
        self._interceptors = interceptors
        self._known: dict[str, frozenset[str]] = {}  # by endpoint
        self._asked: dict[str, Connection] = {}  # the last session that was asked, by endpoint, until it answers
        self._asking: set[asyncio.Task[Any]] = set()  # through interceptors

    def __contains__(self, method: object) -> bool:
        return bool(self._known) and all(method in known for known in self._known.values())

    def learn(self, connection: Connection) -> None:
        """Ask a server; where it does not say, none of its methods is but those that callers say are."""
        self._asked[connection.endpoint] = connection
        self._known.pop(connection.endpoint, None)  # it may be another server by now
        connection.max_calls += 1  # it takes no place from the user's
        try:
            # At once where that can be: its answer is here then before those of the calls that wait for this session.
            asked = self._ask_through(connection) if self._interceptors else self._ask(connection, None)[0]
        except Exception:  # of a codec of the user's, say; nobody made this call who could get it
            connection.max_calls -= 1
            _log.warning("%s can't be asked which methods are idempotent", connection.endpoint, exc_info=True)
        else:
            asked.add_done_callback(partial(self._on_answer, connection))

    def close(self) -> None:
        """Ask no more."""
        for task in self._asking:
            task.cancel()

    def _ask(
        self, connection: Connection, metadata: Mapping[str, str] | None
    ) -> tuple[asyncio.Future[Any], Pending[Any]]:
        future = connection.create_future()
        decoder = self._decoders[Information]
        deadline = time.monotonic() + _LEARN
        return future, connection.start(_METHOD, _PARAMS, deadline, _LEARN, decoder, metadata, future)

    def _ask_through(self, connection: Connection) -> asyncio.Future[Any]:
        """As for a call of the user's: a server may want to know who asks."""
        call = ClientCall(_METHOD, _PARAMS, None, streams=False)

        async def ask() -> Any:
            future, pending = self._ask(connection, call.metadata or None)
            try:
                return await future
            except asyncio.CancelledError:
                connection.abandon(pending)  # else it keeps a place from the user's calls
                raise

        task = asyncio.ensure_future(run_within(time.monotonic() + _LEARN, self._interceptors, call, ask))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    def _on_answer(self, connection: Connection, asked: asyncio.Future[Any]) -> None:
        connection.max_calls -= 1
        late = self._asked.get(connection.endpoint) is not connection
        if not late:
            del self._asked[connection.endpoint]
        if asked.cancelled():  # the client is closed
            return
        error = asked.exception()
        if late:  # a later session has been asked meanwhile, perhaps of another server
            return
        if error is None and isinstance(asked.result(), Information):
            self._known[connection.endpoint] = asked.result().idempotent
        elif isinstance(error, (NeverRan, Unavailable, Unimplemented)):  # it went, or does not describe itself
            _log.debug("%s does not say which methods are idempotent: %s", connection.endpoint, error)
        else:
            why = error or "an interceptor has given another result"
            _log.warning("%s does not say which methods are idempotent: %s", connection.endpoint, why)
