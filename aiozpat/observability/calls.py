"""What the shipped interceptors see of a call, on either side, and how a call ended in one word."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeGuard

from aiozpat.errors import RpcError

Proceed: TypeAlias = Callable[[], Awaitable[Any]]


class ClientSide(Protocol):
    """A call that a client makes: an `aiozpat.ClientCall`, which this layer can't import."""

    metadata: dict[str, str]

    @property
    def method(self) -> str:
        """The full name."""


class ServerSide(Protocol):
    """A call that a server runs: an `aiozpat.Call`, which this layer can't import."""

    @property
    def method(self) -> str:
        """The full name."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the caller sent beside the params."""

    @property
    def peer(self) -> str:
        """The caller's name and session."""

    @property
    def time_left(self) -> float:
        """Seconds until the caller's deadline."""

    @property
    def cancelled(self) -> bool:
        """Whether the caller has its answer already, or wants none any more."""


AnyCall: TypeAlias = ClientSide | ServerSide


def on_server(call: AnyCall) -> TypeGuard[ServerSide]:
    """Whether a server runs this call; else a client makes it."""
    return hasattr(call, "peer")


def outcome(call: AnyCall, error: BaseException | None) -> str:
    """How a call ended: `OK`, or the name of the status code that its caller sees.

    Args:
        call: The call.
        error: What `proceed` raised; None if it returned.

    Returns:
        On a client, `UNKNOWN` for an exception that is no RpcError.
    """
    if on_server(call):
        if call.cancelled:  # the server has told the caller, whatever the handler does now
            return "DEADLINE_EXCEEDED" if call.time_left <= 0 else "CANCELLED"
        unexpected = "INTERNAL"
        chosen = isinstance(error, RpcError) and not error.from_call
    else:
        unexpected = "UNKNOWN"
        chosen = isinstance(error, RpcError)
    if error is None:
        return "OK"
    if chosen:
        return getattr(getattr(error, "code", None), "name", "UNKNOWN")  # a class of the user's may have no code
    return "CANCELLED" if isinstance(error, CancelledError) else unexpected
