"""Types that msgspec does not know: numpy's arrays, pydantic's models, and whatever else is a buffer.

Neither package is imported here: who has such a value, or asks for such a type, has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, get_args, get_origin

import msgspec

from aiozpat.codec import models
from aiozpat.codec.annotations import bare
from aiozpat.codec.models import dumped, is_model, validated
from aiozpat.protocol.records import Buffer

_KINDS = "biufcmMSU"  # of numpy: whatever has a fixed size and holds no objects
_DTYPE_LIMIT = 32  # characters
_HOLDERS = (  # of buffers
    msgspec.inspect.AnyType,
    msgspec.inspect.BytesType,
    msgspec.inspect.ByteArrayType,
    msgspec.inspect.MemoryViewType,
    msgspec.inspect.CustomType,
)


def simplified(value: Any, place: Callable[[Buffer], Any]) -> Any:
    """A value that msgspec can't encode, as one that it can.

    Args:
        value: The value.
        place: What stands for a buffer: itself, or a reference to where it travels.

    Raises:
        NotImplementedError: Nobody knows how.
        TypeError: An array of objects, or of records.
    """
    if hasattr(value, "unicode_string"):  # a URL of pydantic's
        return value.unicode_string()
    if is_model(type(value)):
        return dumped(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _array(value, numpy, place)
        if isinstance(value, numpy.generic):
            return _scalar(value, numpy)
    try:
        view = memoryview(value)
    except TypeError:
        raise NotImplementedError(f"objects of type {type(value).__name__} can't be encoded{_instead(value)}") from None
    return place(view.cast("B") if view.c_contiguous else memoryview(bytes(view)))


def _instead(value: Any) -> str:
    """What to send in the place of something that can't be encoded."""
    if isinstance(value, Iterator):
        return ": send a list, or for a stream an async iterator (in aiozpat.sync any) as a param of its own"
    return ": send a list of what it holds" if isinstance(value, Iterable) else ""


def contiguous(value: Any) -> Any:
    """A value with bytes for the views with gaps in its lists, tuples and dicts, which encoders don't take."""
    kind = type(value)
    if kind is memoryview:
        return value if value.c_contiguous else bytes(value)
    if kind is list or kind is tuple:
        return kind(map(contiguous, value))
    return {key: contiguous(part) for key, part in value.items()} if kind is dict else value


def _scalar(value: Any, numpy: Any) -> Any:
    """A numpy scalar as Python's own value, where that says all of it."""
    plain = value.item()
    timeless = value.dtype.kind in "mM" and not isinstance(plain, (date, timedelta))  # a number without its unit
    if isinstance(plain, numpy.generic) or value.dtype.kind == "V" or timeless:
        raise TypeError(f"{value!r} of numpy has no value of Python's own: send it as an array, or as what it means")
    return plain


def _array(array: Any, numpy: Any, place: Callable[[Buffer], Any]) -> list[Any]:
    """An array as its type, shape and bytes."""
    if isinstance(array, numpy.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask: send its `filled()`, or data and mask")
    if array.dtype.kind not in _KINDS:
        raise TypeError(f"arrays of {array.dtype} can't be sent; those of numbers, text, bytes and times can")
    flat = numpy.ascontiguousarray(array).reshape(-1)
    data = flat.view(numpy.uint8).data if flat.size else memoryview(b"")
    return [array.dtype.str, list(array.shape), place(data)]


def restored(kind: Any, value: Any) -> Any:
    """A value of a type that msgspec can't decode into, from what `simplified` made of it.

    Raises:
        TypeError, ValueError: It is nothing of that type.
        NotImplementedError: Nobody knows that type.
    """
    if kind is object:
        return value
    if is_model(kind):
        return validated(kind, value)
    if is_array(kind):
        return _restored_array(kind, value)
    raise NotImplementedError(f"{kind!r} can't be decoded")


def _restored_array(kind: Any, value: Any) -> Any:
    numpy = sys.modules["numpy"]
    if not (isinstance(value, (list, tuple)) and len(value) == 3 and isinstance(value[0], str)):
        raise ValueError(f"expected a numpy array (its type, shape and bytes), got {type(value).__name__}")
    name, shape, data = value
    try:
        dtype = numpy.dtype(name[:_DTYPE_LIMIT])
    except TypeError as error:
        raise ValueError(str(error)) from None
    if dtype.kind not in _KINDS:
        raise ValueError(f"arrays of {dtype} are not taken")
    array = numpy.frombuffer(data, dtype=dtype).reshape(shape)
    _check_array(kind, array, numpy)
    return array


def _check_array(kind: Any, array: Any, numpy: Any) -> None:
    """See to it that an array is what an annotation such as `ndarray[tuple[int, int], dtype[float64]]` asks for.

    Raises:
        ValueError: It is not.
    """
    scalars, dimensions = _asked(kind)
    if scalars and not any(numpy.issubdtype(array.dtype, scalar) for scalar in scalars):
        names = " or ".join(scalar.__name__ for scalar in scalars)
        raise ValueError(f"expected an array of {names}, got {array.dtype}")
    if dimensions is not None and dimensions != array.ndim:
        raise ValueError(f"expected an array of {dimensions} dimensions, got {array.ndim}")


@lru_cache(1024)
def _asked(kind: Any) -> tuple[Sequence[Any], int | None]:
    """The scalar types that an array's annotation names, none where any will do; and how many dimensions."""
    numpy = sys.modules["numpy"]
    shape, *dtypes = map(bare, get_args(kind) or (Any,))
    scalars = tuple(scalar for dtype in dtypes for scalar in _scalars(dtype, numpy))
    lengths = get_args(shape)
    return scalars, len(lengths) if get_origin(shape) is tuple and ... not in lengths else None


def _scalars(dtype: Any, numpy: Any) -> Iterator[Any]:
    """The scalar types that a `dtype[...]` names."""
    for argument in map(bare, get_args(dtype)):
        for scalar in map(bare, get_args(argument) or (argument,)):
            if isinstance(scalar, type) and issubclass(scalar, numpy.generic):
                yield scalar


def is_array(kind: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and (get_origin(kind) or kind) is numpy.ndarray


def check(wanted: Any) -> None:
    """See to it that a type can be decoded, all of it.

    Raises:
        TypeError: It can't; the message names what.
    """
    for info in within(wanted):
        if isinstance(info, (msgspec.inspect.RawType, msgspec.inspect.ExtType)):
            raise TypeError(
                "msgspec's Raw and Ext, which are sent as they are, could break what they stand in: use bytes"
            )
        if isinstance(info, msgspec.inspect.CustomType):
            _check_custom(info.cls)
        elif isinstance(info, msgspec.inspect.DataclassType):
            _check_dataclass(info)
        elif isinstance(info, msgspec.inspect.DictType):
            _check_key(info.key_type)


def _check_custom(kind: Any) -> None:
    if is_model(kind):
        models.check(kind)
    elif kind is not object and not is_array(kind):
        raise TypeError(f"{kind!r} is no type that can travel: use builtins, dataclasses, msgspec Structs, ...")


def _check_dataclass(info: msgspec.inspect.DataclassType) -> None:
    if hasattr(info.cls, "__pydantic_validator__"):
        raise TypeError(f"{info.cls!r} is pydantic's dataclass, which would not check it here: use a BaseModel")
    if hasattr(info.cls, "__attrs_attrs__"):
        for field in info.fields:
            if field.name.startswith("_"):  # msgspec leaves those out
                raise TypeError(f"{info.cls!r}: private attributes of attrs, as {field.name!r}, don't travel")


def _check_key(key: msgspec.inspect.Type) -> None:
    """Refuse keys that are maps: decoded without types, as beside large buffers, those can't be keys."""
    for info in _within(key, set()):
        is_map = isinstance(info, msgspec.inspect.StructType) and not info.array_like
        is_custom = isinstance(info, msgspec.inspect.CustomType) and info.cls is not object
        if is_map or is_custom or isinstance(info, msgspec.inspect.DataclassType):
            raise TypeError(f"{info.cls!r} can't be, or be in, the key of a dict: use a tuple or a NamedTuple")


def takes_buffers(wanted: Any) -> bool:
    """Whether a value of that type may be or hold a buffer."""
    return any(isinstance(info, _HOLDERS) for info in within(wanted))


def within(wanted: Any) -> Iterator[Any]:
    """What msgspec knows of a type, and of all types within it."""
    return _within(msgspec.inspect.type_info(wanted), set())


def _within(info: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)):
        if id(info) not in seen:
            seen.add(id(info))
            yield info
            # A name outside ASCII is not found by msgspec's decoders before it was encoded once in this process:
            # https://github.com/msgspec/msgspec/issues/1126
            if isinstance(info, msgspec.inspect.Field):
                msgspec.msgpack.encode(info.encode_name)
            elif isinstance(info, msgspec.inspect.StructType):
                msgspec.msgpack.encode(info.tag_field)
            for name in info.__struct_fields__:
                yield from _within(getattr(info, name), seen)
    elif isinstance(info, (tuple, list)):
        for part in info:
            yield from _within(part, seen)
