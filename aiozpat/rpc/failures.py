"""What a caller is told of a call that failed on the server."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Raw

from aiozpat.codec import ENCODE_ERRORS, pack_rich
from aiozpat.errors import Internal, RpcError, StatusCode, Unimplemented, text_of
from aiozpat.protocol.records import ERROR, RECORD_BYTES, REFUSED, Buffer, encode

_log = logging.getLogger("aiozpat.server")

_TEXT_LIMIT = 8192  # characters of an error's message


def internal(method: str, error: BaseException, with_traceback: bool) -> RpcError:
    """The error for an exception that the handler did not choose; the exception itself is logged here.

    Args:
        method: The full name.
        error: What the handler raised.
        with_traceback: Whether the caller may see where.
    """
    _log.error("%s failed", method, exc_info=error)
    details: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, RpcError):
        details["cause"] = {"code": int(error.code), "message": error.message}
    if with_traceback:
        details["traceback"] = "".join(traceback.format_exception(error))[-_TEXT_LIMIT:]
    return Internal(f"{type(error).__name__}: {text_of(error)}", details=details)


def unencodable(message: str, error: Exception) -> Internal:
    """The error for what a handler gave and no caller can get, which is logged here.

    Args:
        message: What it is, and why not.
        error: What encoding it raised.
    """
    _log.error("%s", message, exc_info=error)
    return Internal(message)


def unimplemented(method: str, known: Iterable[str], services: Iterable[str]) -> RpcError:
    """The error for a method that there is not, with those that there are.

    Args:
        method: The full name that was called.
        known: The full names of all methods.
        services: The names of all services.
    """
    service, _, short = method[:200].rpartition(".")
    if not service:
        return Unimplemented(f"a method's full name is that of its service, a dot and its own; got {method[:200]!r}")
    siblings = [name for name in known if name.rpartition(".")[0] == service]
    if siblings:
        return Unimplemented(f"service {service!r} has no method {short!r}; it has {', '.join(siblings[:20])}")
    if service in services:
        return Unimplemented(f"service {service!r} has no methods: none was registered before its server's block began")
    return Unimplemented(f"no service {service!r} here for {method[:200]!r}")


def error_record(key: int, error: RpcError) -> bytes:
    """The record that carries an error, or says that a call was refused; without details where these can't be sent."""
    tag = REFUSED if error.refused else ERROR
    message = text_of(error)[:_TEXT_LIMIT]
    code = int(StatusCode.UNKNOWN)  # of an error class whose own is none
    try:
        code = int(error.code)
        record = encode((tag, key, 0, code, message, _details(error.details)))
    except Exception:  # whatever a property of the user's class raises: the caller gets an answer
        record = b""
    if 0 < len(record) <= RECORD_BYTES:
        return record
    _log.warning("the details of an error can't be sent: %r", error)
    message = message.encode("utf-8", "replace").decode()
    return encode((tag, key, 0, code, message, {}))


def _details(details: Mapping[str, Any]) -> dict[str, Any]:
    """An error's details as far as they can be sent."""
    given = dict(details)
    try:
        encode(given)
        return given
    except ENCODE_ERRORS:
        kept = {name: _packed(name, value) for name, value in given.items()}
    return {name: value for name, value in kept.items() if value is not None}


def _packed(name: object, value: Any) -> Raw | None:
    """One of them, encoded as params and results are; None if it can't be sent."""
    buffers: list[Buffer] = []
    try:
        packed = pack_rich(value, buffers, copy=True)
        encode({name: None})
    except ENCODE_ERRORS as error:
        _log.warning("%r, of an error's details, can't be sent: %s", name, error)
        return None
    if buffers:
        _log.warning("%r, of an error's details, is too large to be sent", name)
        return None
    return Raw(packed)
