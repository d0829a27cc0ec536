"""How a call becomes a request: its params and metadata, checked and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Raw

from aiozpat.codec import BUFFER_TYPES, ENCODE_ERRORS, Values, described, extract, is_large, pack_rich
from aiozpat.errors import InvalidArgument
from aiozpat.protocol.records import (
    BUFFER_THRESHOLD,
    ENDLESS,
    METADATA_LIMIT,
    REQUEST,
    SPACE,
    Buffer,
    Opening,
    encode,
    metadata_bytes,
)
from aiozpat.rpc.buffers import check_buffers

_LONGEST = ENDLESS * 0.001  # seconds
_More: TypeAlias = tuple[dict[str, str] | None, Opening | None]  # than all requests have


def encoded(
    values: Values | None,
    most: int,
    wire_id: int,
    method: str,
    params: Any,
    timeout: float,
    metadata: Mapping[str, str] | None,
    opening: Opening | None = None,
) -> tuple[bytes, Sequence[Buffer]]:
    """A call's record, and its buffers: what is wrong with it reaches its caller, and later changes do no harm.

    Args:
        values: What encodes the params, where that is not MessagePack.
        most: Bytes that the other side takes as one buffer.
        wire_id: The call's number, 0 for one that wants no answer.
        method: Its full name.
        params: By position in a tuple, or by name in a mapping.
        timeout: Seconds until its deadline.
        metadata: Text by name.
        opening: What makes it a stream.

    Raises:
        InvalidArgument: One of these can't be encoded.
        ResourceExhausted: A buffer is larger than the other side takes.
    """
    # Rounded up: a server that ended the call too early would make a deadline look like its own failure.
    milliseconds = int(timeout * 1000.0) + 1 if timeout < _LONGEST else ENDLESS
    if type(method) is not str:
        raise InvalidArgument(f"a method's name is text such as 'calc.add'; got {method!r}")
    more = None if metadata is None and opening is None else (_checked(metadata), opening)
    if values is not None:
        params = _foreign(method, params, values)
    else:
        for value in params if type(params) is tuple else params.values():
            kind = type(value)  # nearly always of no buffer, or of small bytes: not worth a call of a function
            if kind in BUFFER_TYPES and (kind is not bytes or len(value) >= BUFFER_THRESHOLD) and is_large(value):
                return _encoded_rich(most, wire_id, method, milliseconds, params, more)
    try:
        if more is None:
            return encode((REQUEST, wire_id, 0, method, milliseconds, params)), ()
        return encode((REQUEST, wire_id, 0, method, milliseconds, params, *more)), ()
    except ENCODE_ERRORS as error:
        if values is not None:
            raise _unencodable(method, error) from error
        return _encoded_rich(most, wire_id, method, milliseconds, params, more)


def _encoded_rich(
    most: int, wire_id: int, method: str, milliseconds: int, params: Any, more: _More | None
) -> tuple[bytes, Sequence[Buffer]]:
    """As `encoded`, for params with large buffers, and with types that MessagePack does not know."""
    buffers: list[Buffer] = []
    more = more or (None, None)
    try:
        params = _extracted(params, buffers)
        record = None
        try:
            if buffers:  # without any, it was tried already
                record = _record(wire_id, buffers, method, milliseconds, params, more)
        except ENCODE_ERRORS:
            record = None
        if record is None:
            packed = pack_rich(params, buffers, copy=not wire_id or more[1] is not None)
            record = _record(wire_id, buffers, method, milliseconds, Raw(packed), more)
    except ENCODE_ERRORS as error:
        raise _unencodable(method, error) from error
    if buffers:
        check_buffers(f"the params of {method}", len(record), buffers, most)
    return record, buffers


def _record(wire_id: int, buffers: Sequence[Buffer], method: str, milliseconds: int, params: Any, more: _More) -> bytes:
    """The record of a call that may bring buffers."""
    if buffers:
        return encode((REQUEST, wire_id, len(buffers), method, milliseconds, params, *more, SPACE))
    return encode((REQUEST, wire_id, 0, method, milliseconds, params, *more))


def _unencodable(method: str, error: Exception) -> InvalidArgument:
    """The error of a call whose params, metadata or name can't be encoded."""
    return InvalidArgument(f"{method!r}: the call can't be encoded: {described(error)}")


def _extracted(params: Any, buffers: list[Buffer]) -> Any:
    """The params, references in place of what is large among them, which joins `buffers`."""
    if isinstance(params, tuple):
        return [extract(value, buffers) for value in params]
    return {name: extract(value, buffers) for name, value in params.items()}


def _foreign(method: str, params: Any, values: Values) -> Raw:
    """The params, encoded by another codec."""
    try:
        return Raw(values.pack(list(params) if isinstance(params, tuple) else params))
    except ENCODE_ERRORS as error:
        raise InvalidArgument(f"{method}: the params can't be encoded: {described(error)}") from error


def as_dict(metadata: Mapping[str, str]) -> dict[str, str]:
    """A copy of metadata.

    Raises:
        InvalidArgument: It is no mapping.
    """
    try:
        return dict(metadata)
    except (TypeError, ValueError):
        raise InvalidArgument(f"metadata is text by name, as in {{'name': 'text'}}; got {metadata!r}") from None


def _checked(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    """Metadata as a dict of text: anything else would make the server refuse the whole message."""
    if metadata is None:
        return None
    texts = as_dict(metadata)
    for name, value in texts.items():
        if type(name) is not str or type(value) is not str:
            raise InvalidArgument(f"metadata is text by name; got {name!r}: {value!r}")
    if (size := metadata_bytes(texts)) > METADATA_LIMIT:
        raise InvalidArgument(f"{size} bytes of metadata; {METADATA_LIMIT} is the most, larger things are params")
    return texts
