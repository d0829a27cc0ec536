"""Values to MessagePack and back, straight into the types that the annotations ask for; large bytes apart.

Bytes from 64 KiB up leave the record and travel as buffer frames of their own: in their place stands a MessagePack
extension that holds the frame's index. Such values are looked for among the params themselves and as the result
itself, not inside containers; arrays and other buffers that MessagePack does not know, wherever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, MutableSequence, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin

import msgspec

from aiozpat.codec import hooks
from aiozpat.codec.annotations import bare
from aiozpat.errors import InvalidArgument, text_of
from aiozpat.protocol.records import BUFFER_EXT, BUFFER_THRESHOLD, Buffer

ENCODE_ERRORS = Exception  # encoding calls methods of the value's own, which may raise anything
# What making a decoder raises for a type that none can be made for, such as one that leads nowhere.
TYPE_ERRORS = (TypeError, ValueError, NotImplementedError, NameError, SyntaxError, RecursionError)

BUFFER_TYPES = frozenset((bytes, bytearray, memoryview))
MIXED_LIMIT = 256 * 1024  # bytes of a value beside its buffers: decoded without types it can be 72 times as large
_NATIVE = (bytes, bytearray, memoryview)  # what MessagePack has of its own: no text is taken for them
pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_unpack_index = msgspec.msgpack.Decoder(int).decode
_unpack_items = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

Raw: TypeAlias = msgspec.Raw | bytes | memoryview


def extract(value: Any, buffers: list[Buffer]) -> Any:
    """The value, or the reference that stands for it if it is a large buffer, which then joins `buffers`.

    What may change later is copied: a queued message must not. A read-only view is taken for one of what won't change.
    """
    if type(value) not in BUFFER_TYPES:
        return value
    if is_large(value):
        return apart(value, buffers)
    return bytes(value) if type(value) is memoryview and not value.c_contiguous else value


def apart(value: Buffer, buffers: list[Buffer]) -> Any:
    """As `extract`, for what is a large buffer."""
    buffers.append(value if type(value) is bytes else _frozen(value))
    return _reference(len(buffers) - 1)


@lru_cache
def _reference(index: int) -> msgspec.msgpack.Ext:
    """What stands in a record for its buffer with that index."""
    return msgspec.msgpack.Ext(BUFFER_EXT, pack(index))


def is_large(value: Buffer) -> bool:
    """Whether a value of one of `BUFFER_TYPES` travels as a buffer frame."""
    try:
        return (value.nbytes if type(value) is memoryview else len(value)) >= BUFFER_THRESHOLD
    except ValueError:  # a view that was released: encoding it says so
        return False


def _frozen(value: Buffer) -> Buffer:
    if isinstance(value, memoryview) and value.readonly and value.c_contiguous:
        return value.cast("B")
    return bytes(value)


def pack_rich(value: Any, buffers: list[Buffer], *, copy: bool) -> bytes:
    """Encode a value in which there are types that MessagePack does not know.

    Args:
        value: The value.
        buffers: The buffers that it refers to already; its own large ones join them.
        copy: Whether buffers that may change are copied. Without it they must be left alone until they were sent.

    Raises:
        TypeError, ValueError, NotImplementedError, RecursionError: It can't be encoded.
    """

    value = extract(value, buffers)

    def place(data: Buffer) -> Any:
        if not is_large(data):
            return bytes(data)
        buffers.append(_frozen(data) if copy else data)
        return _reference(len(buffers) - 1)

    def simplify(part: Any) -> Any:
        return hooks.simplified(part, place)

    encoder, count = msgspec.msgpack.Encoder(enc_hook=simplify), len(buffers)
    try:
        return encoder.encode(value)
    except BufferError:  # a view with gaps
        del buffers[count:]
        return encoder.encode(hooks.contiguous(value))


def refuse_extension(code: int, data: memoryview) -> Any:
    """For decoders of records without buffers: no extension is a value there."""
    raise InvalidArgument(f"MessagePack extension {code} in a record without buffers")


_ONLY = pack(_reference(0))  # a value that is nothing but the first buffer
_ONLY_PARAM = pack([_reference(0)])
_CONTAINERS = (list, dict, Mapping, MutableMapping, Sequence, MutableSequence, Collection)
_DIRECT: dict[type, Callable[[memoryview], Any]] = {bytes: bytes, bytearray: bytearray, memoryview: lambda view: view}


def only_param(wanted: Any) -> Callable[[Raw, Sequence[memoryview]], Any] | None:
    """What gives the one param of such a type, if the type is one of bytes, and the params are nothing but one buffer.

    Returns:
        A function of the params, an array, and their buffers; it gives None where they are something else.
    """
    direct = _DIRECT.get(wanted) if isinstance(wanted, type) else None
    if direct is None:
        return None

    def of(raw: Raw, buffers: Sequence[memoryview]) -> Any:
        return direct(buffers[0]) if len(buffers) == 1 and bytes(raw) == _ONLY_PARAM else None

    return of


def described(error: BaseException) -> str:
    """What is wrong with a value, as whatever its type's own validation raised has it: its kind may say more."""
    text = text_of(error)
    if text and isinstance(error, (ValueError, TypeError, msgspec.MsgspecError)):
        return text
    return f"{type(error).__name__}: {text}"


class Decoder:
    """Decodes one type; `plain` is for records without buffers, which nearly all are.

    Args:
        wanted: The type to decode into.
    """

    __slots__ = ("_direct", "_loosen", "_takes_buffers", "_wanted", "plain")

    def __init__(self, wanted: Any) -> None:
        hooks.check(wanted)
        self._wanted = wanted
        self._direct = _DIRECT.get(wanted) if isinstance(wanted, type) else None
        self._loosen = loosening(wanted)
        self._takes_buffers = hooks.takes_buffers(wanted)
        self.plain: Callable[[Raw], Any] = msgspec.msgpack.Decoder(
            wanted, ext_hook=refuse_extension, dec_hook=hooks.restored
        ).decode

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> Any:
        """Decode a record's value that may refer to the record's buffers.

        Where `Any` is asked for, in a list, tuple or dict too, a buffer becomes bytes, as if it had come in-band. In
        the fields of a class it stays a view.

        Raises:
            InvalidArgument: It refers to a buffer that there is not, or is too large beside its buffers.
            msgspec.DecodeError: It is not of the type.
        """
        return self.take(raw, list(buffers)) if buffers else self.plain(raw)

    def take(self, raw: Raw, left: list[memoryview | None]) -> Any:
        """As `decode`, of the buffers that are left; those that the value refers to are taken out."""
        if not self._takes_buffers:
            return self._without(raw)
        if self._direct is not None and bytes(raw) == _ONLY and len(left) == 1 and left[0] is not None:
            buffer, left[0] = left[0], None
            return self._direct(buffer)
        if len(memoryview(raw)) > MIXED_LIMIT:
            raise InvalidArgument(f"more than {MIXED_LIMIT} bytes beside buffers")
        value = msgspec.convert(_with_buffers(raw, left), self._wanted, builtin_types=_NATIVE, dec_hook=hooks.restored)
        return value if self._loosen is None else self._loosen(value)

    def _without(self, raw: Raw) -> Any:
        """Decode what can hold no buffer into its type at once: without types, 100 KB can be made to take a second."""
        try:
            return self.plain(raw)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(str(error).replace("got `ext`", "got `bytes`")) from None


class ItemDecoder:
    """Decodes the items of one record of a stream.

    Args:
        wanted: The type of an item.
    """

    __slots__ = ("_many", "_one")

    def __init__(self, wanted: Any) -> None:
        self._many = Decoder(list[wanted])
        self._one = Decoder(wanted)

    def decode(self, raw: Raw, buffers: Sequence[memoryview]) -> tuple[list[Any], BaseException | None]:
        """The items, those before the first that is not of the type if there is one; and what is wrong with that."""
        try:
            values: list[Any] = self._many.decode(raw, buffers) if buffers else self._many.plain(raw)
        except KeyboardInterrupt:
            raise
        except BaseException:  # it says nothing of where: one by one then
            return self._one_by_one(raw, buffers)
        return values, None

    def _one_by_one(self, raw: Raw, buffers: Sequence[memoryview]) -> tuple[list[Any], BaseException | None]:
        values: list[Any] = []
        try:
            left: list[memoryview | None] = list(buffers)
            one = self._one
            values.extend(one.take(item, left) if buffers else one.plain(item) for item in _unpack_items(raw))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also what a type's own validation raises
            return values, error
        return values, None


def loosening(wanted: Any) -> Callable[[Any], Any] | None:
    """What makes bytes of the buffers in a value where no type was asked for, as those are that come in-band.

    None where a type was asked for everywhere. It looks into lists, dicts and tuples, not into the fields of classes:
    what is `Any` there may be a view.
    """
    wanted = bare(wanted)
    origin, inner = get_origin(wanted) or wanted, get_args(wanted)
    if origin in (Any, object) or isinstance(origin, TypeVar):
        return _loosened
    if origin in (Union, UnionType):
        return None if memoryview in map(bare, inner) else _in_turn(inner)
    if origin is tuple and inner and inner[1:] != (...,):
        return _one_by_one(inner)
    if origin is tuple or origin in _CONTAINERS:
        part = loosening(inner[0 if origin is tuple else -1]) if inner else _loosened
        return None if part is None else _each(part)
    return None


def _loosened(value: Any) -> Any:
    """A value for which no type was asked, with bytes for its buffers."""
    return bytes(value) if type(value) is memoryview else _each_loosened(value)


def _in_turn(kinds: Sequence[Any]) -> Callable[[Any], Any] | None:
    """As `loosening`, of a union: what one of its members asks no type for, in a list, say, is asked for in none."""
    parts = [part for kind in kinds if (part := loosening(kind)) is not None]

    def loosen(value: Any) -> Any:
        for part in parts:
            value = part(value)
        return value

    return loosen if parts else None


def _one_by_one(kinds: Sequence[Any]) -> Callable[[Any], Any] | None:
    """As `loosening`, of a tuple whose items have each their own type."""
    parts = [loosening(kind) for kind in kinds]

    def loosen(value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(parts):
            return value
        return tuple(item if part is None else part(item) for item, part in zip(value, parts, strict=True))

    return loosen if any(parts) else None


def _each(part: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """As `loosening`, of a list, tuple or dict of any length."""

    def loosen(value: Any) -> Any:
        kind = type(value)
        if kind is list or kind is tuple:
            return kind(map(part, value))
        return {key: part(one) for key, one in value.items()} if kind is dict else value

    return loosen


_each_loosened = _each(_loosened)


def _with_buffers(raw: Raw, left: list[memoryview | None]) -> Any:
    """The value without types, its references replaced by the buffers.

    Each is given out once: where three bytes could stand for 16 MiB again and again, a record would decode into
    terabytes.
    """

    def resolve(code: int, data: memoryview) -> memoryview:
        if code != BUFFER_EXT:
            raise InvalidArgument(f"unknown MessagePack extension {code}")
        index = _unpack_index(data)
        if not 0 <= index < len(left):
            raise InvalidArgument(f"buffer {index} of a record that brought {len(left)}")
        buffer, left[index] = left[index], None
        if buffer is None:
            raise InvalidArgument(f"buffer {index} is referred to twice")
        return buffer

    return msgspec.msgpack.decode(raw, ext_hook=resolve)
