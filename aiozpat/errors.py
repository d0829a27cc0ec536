"""The one tree of errors; nothing of zmq, msgspec or anyio reaches a user.

AiozpatError
├── Closed                   you closed it (or left its block), then used it
├── UsageError               a call that can't be right: second serve(), wrong thread or loop     (RuntimeError)
├── InvalidEndpoint          an address that ZeroMQ can't use, and why                            (ValueError)
├── AddressInUse             somebody else listens there                                          (OSError)
├── TimedOut                 a level 1 operation ran out of its time                              (TimeoutError)
├── PeerUnreachable          a level 1 send to a peer that is not (or no longer) connected        (ConnectionError)
├── QueueFull                a subscriber's queue has no room, and the publisher was told to say so
├── InvalidBody              a published body that is not of the type that was asked for          (ValueError)
├── ProtocolError            the other side broke AZP/1
└── RpcError                 how a call ended, named by gRPC's status codes
    ├── Cancelled                                              1
    ├── Unknown                                                2
    ├── InvalidArgument      (ValueError)                      3
    ├── DeadlineExceeded     (TimeoutError)                    4
    ├── NotFound             (LookupError)                     5
    ├── AlreadyExists                                          6
    ├── PermissionDenied                                       7
    ├── ResourceExhausted                                      8
    ├── FailedPrecondition                                     9
    ├── Aborted                                               10
    ├── OutOfRange           (ValueError)                     11
    ├── Unimplemented        (NotImplementedError)            12
    ├── Internal                                              13
    ├── Unavailable          (ConnectionError)                14
    ├── DataLoss                                              15
    └── Unauthenticated                                       16

The codes are those of https://grpc.io/docs/guides/status-codes/.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar

__all__ = [
    "Aborted",
    "AddressInUse",
    "AiozpatError",
    "AlreadyExists",
    "Cancelled",
    "Closed",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "InvalidBody",
    "InvalidEndpoint",
    "NotFound",
    "OutOfRange",
    "PeerUnreachable",
    "PermissionDenied",
    "ProtocolError",
    "QueueFull",
    "ResourceExhausted",
    "RpcError",
    "StatusCode",
    "TimedOut",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "UsageError",
]


class AiozpatError(Exception):
    """The base of every error that aiozpat raises on purpose."""


class Closed(AiozpatError):
    """You closed this endpoint, client or server (or left its block), then used it, or were waiting on it."""


class UsageError(AiozpatError, RuntimeError):
    """A call that can't be right, whatever the network does; the message says what to do instead."""


class InvalidEndpoint(AiozpatError, ValueError):
    """An address that ZeroMQ can't bind or connect to; the message says which part is wrong."""


class AddressInUse(AiozpatError, OSError):
    """Somebody else listens on that address."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.errno = errno.EADDRINUSE


class TimedOut(AiozpatError, TimeoutError):
    """A level 1 operation ran out of its time; nothing that arrived was lost.

    Nor was anything sent, but by `send_many`, which says how much, and by `Requester.request`.
    """


class PeerUnreachable(AiozpatError, ConnectionError):
    """A message for a peer that is not connected, or no longer; it was not sent."""


class QueueFull(AiozpatError):
    """A subscriber's queue has no room, and the publisher was told to raise then; nothing was sent."""


class InvalidBody(AiozpatError, ValueError):
    """The body of a published message is not of the subscriber's `body_type`; this concerns that message alone."""


class ProtocolError(AiozpatError):
    """The other side broke AZP/1: it sent what no correct peer sends."""


class StatusCode(IntEnum):
    """How a call can end, numbered as in gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(AiozpatError):
    """A call that did not end with a result.

    Raise a subclass in a handler to choose the code that the caller sees.

    Args:
        message: What went wrong, for a person.
        details: More of it, for a program: a mapping that MessagePack can carry.
    """

    code: ClassVar[StatusCode] = StatusCode.UNKNOWN
    from_call: bool = False  # of a call that was made here: leaking out of a handler, it becomes Internal
    refused: bool = False  # the call never ran: it did not leave, or was turned away; so it can be made again
    message: str = ""  # of the class too, for a subclass whose __init__ does not call this one
    details: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, message: str = "", *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = str(message)
        self.details = dict(details or {})

    def __str__(self) -> str:
        return self.message


class Cancelled(RpcError):
    """The call was cancelled on the other side, not by the task that awaits it."""

    code = StatusCode.CANCELLED


class Unknown(RpcError):
    """The other side sent a code that this version doesn't know."""

    code = StatusCode.UNKNOWN


class InvalidArgument(RpcError, ValueError):
    """The params don't fit the method; the message names the first that doesn't."""

    code = StatusCode.INVALID_ARGUMENT


class DeadlineExceeded(RpcError, TimeoutError):
    """The call was not answered within its time."""

    code = StatusCode.DEADLINE_EXCEEDED


class NotFound(RpcError, LookupError):
    """What the call asked for does not exist."""

    code = StatusCode.NOT_FOUND


class AlreadyExists(RpcError):
    """What the call would make exists."""

    code = StatusCode.ALREADY_EXISTS


class PermissionDenied(RpcError):
    """This caller may not do that."""

    code = StatusCode.PERMISSION_DENIED


class ResourceExhausted(RpcError):
    """A limit was reached: of calls, of queued calls, or of bytes."""

    code = StatusCode.RESOURCE_EXHAUSTED


class FailedPrecondition(RpcError):
    """The state of the service forbids the call; trying again without a change won't help."""

    code = StatusCode.FAILED_PRECONDITION


class Aborted(RpcError):
    """The call lost against a concurrent one; trying the whole again may help."""

    code = StatusCode.ABORTED


class OutOfRange(RpcError, ValueError):
    """A valid argument past the end of what there is."""

    code = StatusCode.OUT_OF_RANGE


class Unimplemented(RpcError, NotImplementedError):
    """No such service, method, codec or protocol version there."""

    code = StatusCode.UNIMPLEMENTED


class Internal(RpcError):
    """The handler raised something else than an RpcError, or its result could not be encoded."""

    code = StatusCode.INTERNAL


class Unavailable(RpcError, ConnectionError):
    """No server could be reached, or the one that had the call is gone; it may or may not have run."""

    code = StatusCode.UNAVAILABLE


class DataLoss(RpcError):
    """Data is lost or damaged for good."""

    code = StatusCode.DATA_LOSS


class Unauthenticated(RpcError):
    """The caller did not say, or could not show, who it is."""

    code = StatusCode.UNAUTHENTICATED


_BY_CODE: dict[int, type[RpcError]] = {int(kind.code): kind for kind in RpcError.__subclasses__()}


def rpc_error(code: int, message: str, details: Mapping[str, Any] | None = None) -> RpcError:
    """The error for a status code that came off the wire; `Unknown` for a code that this version doesn't know."""
    return _BY_CODE.get(code, Unknown)(message, details=details)


def text_of(error: BaseException) -> str:
    """An exception's text, also where it comes with a `__str__` of its own, which raises."""
    try:
        return str(error)
    except Exception as second:
        return f"(its text can't be had: {type(second).__name__})"
