"""One log line for each call, on either side."""

from __future__ import annotations

import logging
import time
from typing import Any

from aiozpat.checks import given, number
from aiozpat.observability.calls import AnyCall, Proceed, on_server, outcome

_ON_SERVER = logging.getLogger("aiozpat.calls.server")
_ON_CLIENT = logging.getLogger("aiozpat.calls.client")
_FAILURES = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})  # somebody's fault, not an answer
_monotonic = time.monotonic


class Logging:
    """An interceptor that writes a line at the end of each call, for servers and clients; one object may serve many.

    A stream's line comes when the stream ends. The line says the method, the outcome (`OK` or a status code's name),
    how long it took and, on a server, for whom. Calls that ended with Unknown, Internal, Unavailable or DataLoss are
    logged at WARNING. On a server the outcome is the handler's: a result that then can't be encoded, or is too large,
    is an error for the caller, and `OK` here.

    Each record also carries the fields `rpc_side` ("server" or "client"), `rpc_method`, `rpc_code`, `rpc_seconds` and
    `rpc_peer` (empty on a client), for formatters that write structured lines.

    Args:
        logger: Where the lines go; by default `aiozpat.calls.server` and `aiozpat.calls.client`, so that the logger
            `aiozpat.calls` rules both.
        level: The level of the other lines, as in the `logging` module.
        slow: Log only calls that took longer than so many seconds, and those at WARNING; all by default.

    Raises:
        ValueError: `slow` is negative.
        TypeError: `logger` or `level` is something else.
    """

    def __init__(
        self, logger: logging.Logger | None = None, *, level: int = logging.INFO, slow: float | None = None
    ) -> None:
        if slow is not None:
            number("slow", slow, zero=True)
        given(logger, logging.Logger, "a logger is a logging.Logger")
        given(level, int, "a level is a number such as logging.INFO")
        self._on_server = logger or _ON_SERVER
        self._on_client = logger or _ON_CLIENT
        self._level = level
        self._slow = 0.0 if slow is None else slow

    async def __call__(self, call: AnyCall, proceed: Proceed) -> Any:
        """Run the call, and log it."""
        started = _monotonic()
        try:
            result = await proceed()
        except BaseException as error:
            self._log(call, outcome(call, error), _monotonic() - started)
            raise
        self._log(call, outcome(call, None), _monotonic() - started)
        return result

    def _log(self, call: AnyCall, code: str, seconds: float) -> None:
        failed = code in _FAILURES
        level = logging.WARNING if failed else self._level
        side, logger, peer = "client", self._on_client, ""
        if on_server(call):
            side, logger, peer = "server", self._on_server, call.peer
        if not logger.isEnabledFor(level) or (seconds < self._slow and not failed):
            return
        if not peer.isprintable():  # a client names itself: it must not break the line
            peer = repr(peer)
        fields = {  # prefixed: `logging` raises where a record has an attribute of that name already
            "rpc_side": side,
            "rpc_method": call.method,
            "rpc_code": code,
            "rpc_seconds": seconds,
            "rpc_peer": peer,
        }
        line = "%s: %s in %.6f s, for %s" if peer else "%s: %s in %.6f s"
        values = (call.method, code, seconds, peer) if peer else (call.method, code, seconds)
        logger.log(level, line, *values, extra=fields)
