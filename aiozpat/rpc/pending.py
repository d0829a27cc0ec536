"""A session's phases, and a call that waits for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from aiozpat.codec import Raw
from aiozpat.errors import RpcError
from aiozpat.rpc.flows import Inbound, Outbound


class Phase(Enum):
    """How far a session is."""

    CONNECTING = "connecting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


class NeverRan(Exception):
    """The call did not run: it never left, or the server is draining; another session may take it."""

    def __init__(self, reason: RpcError) -> None:
        super().__init__(reason.message)
        reason.refused = True
        self.reason = reason


class Decodes(Protocol):
    """`Decoder`, of whichever codec."""

    @property
    def plain(self) -> Callable[[Raw], Any]:
        """Decodes the value of a record without buffers."""

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> Any:
        """Decode a record's value that may refer to the record's buffers."""


class Answer(Protocol):
    """What gets a call's result, or its error: a future, or what stands for a thread that waits."""

    def done(self) -> bool:
        """Whether it has got one, or nobody waits any more."""

    def set_result(self, result: Any, /) -> None:
        """The call went well; where nobody waits any more, it may raise InvalidStateError."""

    def set_exception(self, exception: BaseException, /) -> None:
        """The call failed, or never ran (`NeverRan`)."""


A = TypeVar("A", bound=Answer)


class Pending(msgspec.Struct, Generic[A], eq=False):
    """A call that waits for its answer."""

    id: int
    future: A
    deadline: float
    decoder: Decodes
    method: str
    inbound: Inbound[Any] | None = None
    outbound: Outbound | None = None

    def close(self, error: BaseException | None) -> None:
        """The call is over, and so are its streams."""
        if self.inbound is not None:
            self.inbound.finish(error)
        if self.outbound is not None:
            self.outbound.end()


StreamCall: TypeAlias = Pending[asyncio.Future[Any]]


def of_a_call(error: BaseException) -> BaseException:
    """An error as whoever made the call gets it: passed on by a handler, it says nothing of that handler's own call."""
    if isinstance(error, NeverRan):
        error = error.reason
    if isinstance(error, RpcError):
        error.from_call = True
    return error
