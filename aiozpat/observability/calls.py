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

    At a deadline the client's word that it waits no more may come before the server looks at its clock: the call is
    then `CANCELLED` on the server.

    Args:
        call: The call.
        error: What `proceed` raised; None if it returned.

    Returns:
        On a client, `UNKNOWN` for an exception that is no RpcError.
    """
    return _on_server(call, error) if on_server(call) else _on_client(error)


def _on_server(call: ServerSide, error: BaseException | None) -> str:
    given_up = call.cancelled  # then the caller has its answer, whatever the handler does now
    if error is None and not given_up:
        return "OK"
    if call.time_left <= 0:  # what fails past its deadline is answered so
        return "DEADLINE_EXCEEDED"
    if given_up or isinstance(error, CancelledError):
        return "CANCELLED"
    return _name_of(error) if isinstance(error, RpcError) and not error.from_call else "INTERNAL"


def _on_client(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    if isinstance(error, RpcError):
        return _name_of(error)
    return "CANCELLED" if isinstance(error, CancelledError) else "UNKNOWN"


def _name_of(error: RpcError) -> str:
    return getattr(error.code, "name", "UNKNOWN")  # a class of the user's may have another kind of code
