"""Values to MessagePack and back, straight into the types that the annotations ask for; large bytes apart.

Bytes from 64 KiB up leave the record and travel as buffer frames of their own: in their place stands a MessagePack
extension that holds the frame's index. Such values are looked for among the params themselves and as the result
itself, not inside containers.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, Union, get_args, get_origin

import msgspec

from aiozpat.errors import InvalidArgument
from aiozpat.protocol.records import BUFFER_EXT, BUFFER_THRESHOLD, Buffer

ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)
DECODE_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

BUFFER_TYPES = frozenset((bytes, bytearray, memoryview))
_packb = msgspec.msgpack.Encoder().encode

Raw: TypeAlias = msgspec.Raw | bytes | memoryview


def extract(value: Any, buffers: list[Buffer]) -> Any:
    """The value, or the reference that stands for it if it is a large buffer, which then joins `buffers`.

    What may change later is copied: a queued message must not.
    """
    if type(value) not in BUFFER_TYPES:
        return value
    nbytes = value.nbytes if type(value) is memoryview else len(value)
    if nbytes < BUFFER_THRESHOLD:
        return value
    buffers.append(_frozen(value))
    return msgspec.msgpack.Ext(BUFFER_EXT, _packb(len(buffers) - 1))


def _frozen(value: Buffer) -> Buffer:
    if isinstance(value, bytes):
        return value
    if isinstance(value, memoryview) and value.readonly and value.contiguous:
        return value.cast("B")
    return bytes(value)


class Decoder:
    """Decodes one type; `plain` is for records without buffers, which nearly all are.

    Args:
        wanted: The type to decode into.
    """

    __slots__ = ("_buffered", "_wanted", "plain")

    def __init__(self, wanted: Any) -> None:
        self._wanted = wanted
        self.plain: Callable[[Raw], Any] = msgspec.msgpack.Decoder(wanted).decode
        self._buffered: _BufferedDecoder | None = None

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> Any:
        """Decode a record's value that may refer to the record's buffers."""
        if not buffers:
            return self.plain(raw)
        if self._buffered is None:
            self._buffered = _BufferedDecoder(with_buffers(self._wanted))
        return self._buffered.decode(raw, buffers)


class _Target(type):
    """The metaclass of the stand-ins below: what `isinstance` says of them decides what msgspec lets through."""

    target: Any

    def __instancecheck__(cls, instance: object) -> bool:
        return cls.target is Any or isinstance(instance, cls.target)


class _Bytes(metaclass=_Target):
    target = bytes


class _ByteArray(metaclass=_Target):
    target = bytearray


class _MemoryView(metaclass=_Target):
    target = memoryview


class _Anything(metaclass=_Target):
    target = Any


_STAND_INS: dict[Any, Any] = {
    bytes: _Bytes,
    bytearray: _ByteArray,
    memoryview: _MemoryView,
    Any: _Anything,
    object: _Anything,
}


def with_buffers(wanted: Any) -> Any:
    """The type in which bytes, bytearray, memoryview and Any at the top (or optional there) may be buffer frames."""
    try:
        if wanted in _STAND_INS:
            return _STAND_INS[wanted]
    except TypeError:
        return wanted
    arguments = get_args(wanted)
    if get_origin(wanted) in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        other = next(argument for argument in arguments if argument is not type(None))
        return _STAND_INS[other] | None if other in _STAND_INS else wanted
    return wanted


class _BufferedDecoder:
    """Decodes with the buffers of the record at hand; decoding is synchronous, so one slot for them is enough."""

    __slots__ = ("_buffers", "_decode")

    def __init__(self, wanted: Any) -> None:
        self._buffers: Sequence[memoryview] = ()
        self._decode = msgspec.msgpack.Decoder(wanted, ext_hook=self._ext, dec_hook=_convert).decode

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> Any:
        self._buffers = buffers
        try:
            return self._decode(raw)
        finally:
            self._buffers = ()

    def _ext(self, code: int, data: memoryview) -> memoryview:
        if code != BUFFER_EXT:
            raise InvalidArgument(f"unknown MessagePack extension {code}")
        index = int(msgspec.msgpack.decode(data, type=int))
        if not 0 <= index < len(self._buffers):
            raise InvalidArgument(f"buffer {index} of a record that brought {len(self._buffers)}")
        return self._buffers[index]


def _convert(stand_in: Any, value: Any) -> Any:
    """Give a buffer, from a frame or in-band, the type that was asked for."""
    target = stand_in.target
    if target is Any:
        return bytes(value) if isinstance(value, memoryview) else value
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise ValueError(f"Expected `{target.__name__}`, got `{type(value).__name__}`")
    return value if isinstance(value, target) else target(value)
