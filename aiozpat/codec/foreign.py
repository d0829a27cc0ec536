"""Codecs other than MessagePack: values travel as byte strings inside the records, encoded by them."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from aiozpat.codec import hooks
from aiozpat.codec.models import in_text, is_model
from aiozpat.codec.msgpack import Raw, pack
from aiozpat.errors import InvalidArgument
from aiozpat.protocol.records import CODEC, Buffer

_unpack_bytes = msgspec.msgpack.Decoder(bytes).decode
_unpack_list = msgspec.msgpack.Decoder(list[bytes]).decode


class Codec(Protocol):
    """What turns values into bytes and back, for a `Client(codec=...)` and a `Server(codecs=[...])`.

    It sees builtins only: dataclasses, enums and the like have become these before, and annotations are applied after.

    Attributes:
        name: What both sides call it, in the hello.
        natives: The types that it carries itself beside None, bool, int, float, str, list and dict with text keys:
            `bytes`, `datetime`, `UUID` or `Decimal`. Others become text (bytes as Base64, times as in RFC 3339).
    """

    @property
    def name(self) -> str:
        """What both sides call it."""

    @property
    def natives(self) -> tuple[type, ...]:
        """The types that it carries itself."""

    def encode(self, value: Any) -> bytes:
        """The bytes of a value; raises TypeError or ValueError if it can't."""

    def decode(self, data: bytes) -> Any:
        """The value of bytes; raises ValueError for what is none."""


class JSON:
    """JSON, for `Client(codec=JSON())`; every server speaks it. Larger and slower than MessagePack, and readable."""

    name: ClassVar[str] = "json"
    natives: ClassVar[tuple[type, ...]] = ()

    def encode(self, value: Any) -> bytes:
        """The bytes of a value; raises ValueError for NaN and infinity, which JSON has not."""
        data = msgspec.json.encode(value)
        if b"null" in data:  # what they become, silently
            _check_finite(value)
        return data

    def decode(self, data: bytes) -> Any:
        """The value of bytes."""
        return msgspec.json.decode(data)


class Values:
    """What a codec makes of values, as MessagePack that stands in a record.

    Args:
        codec: The codec.

    Raises:
        TypeError: It is none, or its name is no text.
        ValueError: Its name is that of MessagePack.
    """

    def __init__(self, codec: Codec) -> None:
        missing = [one for one in ("name", "natives", "encode", "decode") if not hasattr(codec, one)]
        if isinstance(codec, type) or missing:
            lacks = f", which has no {', '.join(missing)}" if missing else ""
            raise TypeError(f"a codec is an object such as aiozpat.JSON(); got {codec!r}{lacks}")
        if not isinstance(codec.name, str):
            raise TypeError(f"a codec's name is text; got {codec.name!r} of {codec!r}")
        if codec.name == CODEC:
            raise ValueError(f"the name {CODEC!r} is that of the codec that needs none; {codec!r} needs one of its own")
        self.name = codec.name
        self._codec = codec

    def pack(self, value: Any) -> bytes:
        """A value as a MessagePack byte string.

        Raises:
            TypeError, ValueError, NotImplementedError, RecursionError: It can't be encoded.
        """
        try:
            builtins = self._builtins(value)
        except BufferError:  # a view with gaps
            builtins = self._builtins(hooks.contiguous(value))
        data = self._codec.encode(builtins)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"codec {self.name!r}: encode() must return bytes; it returned {type(data).__name__}")
        return pack(data)

    def _builtins(self, value: Any) -> Any:
        return msgspec.to_builtins(value, builtin_types=self._codec.natives, str_keys=True, enc_hook=self._simplify)

    def _simplify(self, value: Any) -> Any:
        def place(data: Buffer) -> Any:
            return bytes(data) if bytes in self._codec.natives else base64.b64encode(data).decode()

        simple = hooks.simplified(value, place)
        # A model is read by pydantic, which has ways of its own to take text for bytes.
        return in_text(type(value), simple) if is_model(type(value)) and bytes not in self._codec.natives else simple

    def unpack(self, raw: Raw, wanted: Any) -> Any:
        """The value of a MessagePack byte string.

        Raises:
            ValueError: It is none, or not of the type.
        """
        return self.convert(_unpack_bytes(raw), wanted)

    def convert(self, data: bytes, wanted: Any) -> Any:
        """The value of bytes; errors as for `unpack`."""
        value = self._codec.decode(data)
        natives = self._codec.natives
        return msgspec.convert(value, wanted, builtin_types=natives, str_keys=True, dec_hook=self._restore)

    def _restore(self, kind: Any, value: Any) -> Any:
        if hooks.is_array(kind) and isinstance(value, list) and len(value) == 3 and isinstance(value[2], str):
            value = [*value[:2], base64.b64decode(value[2])]  # an array's bytes
        return hooks.restored(kind, value)


def _check_finite(value: Any) -> None:
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError(f"JSON has no {one!r}")
        if isinstance(one, dict):
            rest += one.values()
        elif isinstance(one, (list, tuple)):
            rest += one


class ForeignDecoder:
    """`Decoder` for another codec.

    Args:
        values: The codec.
        wanted: The type to decode into.
    """

    __slots__ = ("_values", "_wanted")

    def __init__(self, values: Values, wanted: Any) -> None:
        hooks.check(wanted)
        self._values = values
        self._wanted = wanted

    def plain(self, raw: Raw) -> Any:
        """The value of a record's byte string."""
        return self._values.unpack(raw, self._wanted)

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> Any:
        """As `plain`: nothing but MessagePack refers to buffers."""
        if buffers:
            raise InvalidArgument(f"buffers beside a value in {self._values.name}")
        return self.plain(raw)


class ForeignItemDecoder:
    """`ItemDecoder` for another codec.

    Args:
        values: The codec.
        wanted: The type of an item.
    """

    __slots__ = ("_values", "_wanted")

    def __init__(self, values: Values, wanted: Any) -> None:
        hooks.check(wanted)
        self._values = values
        self._wanted = wanted

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> tuple[list[Any], BaseException | None]:
        """The items, those before the first that is not of the type if there is one; and what is wrong with that."""
        decoded: list[Any] = []
        try:
            decoded.extend(self._values.convert(data, self._wanted) for data in _unpack_list(raw))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also what a codec or a type's own validation raises
            return decoded, error
        return decoded, None
