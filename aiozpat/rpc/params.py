"""From a handler's signature to the decoder of its params: by position or by name, validated while decoding."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from aiozpat.codec import (
    TYPE_ERRORS,
    Decoder,
    Raw,
    Values,
    described,
    loosening,
    only_param,
    refuse_extension,
    restored,
)
from aiozpat.errors import InvalidArgument, UsageError

_astuple = msgspec.structs.astuple
_POSITION = re.compile(r"\$\[(\d+)\]")
_TEXT = 4000  # characters of an error that are of use to anybody
_LENGTH = re.compile(r"Expected `array` of at (?:least|most) length (\d+), got (\d+)")


class Params:
    """The params of one method.

    Args:
        name: The method's full name, for messages.
        parameters: The handler's, with the types that they take as annotations.

    Raises:
        UsageError: A parameter has a type that can't be decoded.
    """

    __slots__ = ("_array", "_by_position", "_loosen", "_map", "_name", "_only", "fast", "kind", "names")

    def __init__(self, name: str, parameters: Sequence[inspect.Parameter]) -> None:
        self._name = name
        self.names = tuple(parameter.name for parameter in parameters)
        try:
            self._by_position = _struct(parameters, array_like=True)
            self._array = Decoder(self._by_position)
            self.kind = _struct(parameters, array_like=False)  # of the params by name
            self._map = Decoder(self.kind)
        except TYPE_ERRORS as error:
            raise UsageError(f"{name}: a parameter has a type that can't be decoded: {error}") from error
        kinds = tuple(parameter.annotation for parameter in parameters)
        together: Any = tuple[kinds]  # type: ignore[valid-type]  # a type made at run time
        self._loosen = loosening(together)
        self._only = only_param(parameters[0].annotation) if len(parameters) == 1 else None
        self.fast = self._fast(parameters, together)

    def _fast(self, parameters: Sequence[inspect.Parameter], together: Any) -> Callable[[Raw], tuple[Any, ...]]:
        """What decodes params by position without buffers, as nearly all are; any error sends them through `decode`."""
        if any(parameter.default is not inspect.Parameter.empty for parameter in parameters):
            plain = self._array.plain
            return lambda raw: _astuple(plain(raw))
        return msgspec.msgpack.Decoder(together, ext_hook=refuse_extension, dec_hook=restored).decode

    def decode(self, raw: Raw, buffers: Sequence[memoryview] = ()) -> tuple[Any, ...]:
        """The values in the order of the signature, defaults filled in.

        Raises:
            InvalidArgument: The params don't fit; the message names the first that doesn't.
        """
        try:
            if not buffers:
                return _astuple(self._by_form(raw).plain(raw))
            if self._only is not None and (value := self._only(raw, buffers)) is not None:
                return (value,)
            values = _astuple(self._by_form(raw).decode(raw, buffers))
            return values if self._loosen is None else self._loosen(values)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what a type's own validation raises, too, is the caller's fault
            raise self._invalid(error) from error

    def decode_foreign(self, raw: Raw, values: Values) -> tuple[Any, ...]:
        """As `decode`, for params by another codec than MessagePack."""
        try:
            by_name = isinstance(values.unpack(raw, list[Any] | dict[str, Any]), dict)
            return _astuple(values.unpack(raw, self.kind if by_name else self._by_position))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also what the codec itself raises
            raise self._invalid(error) from error

    def _by_form(self, raw: Raw) -> Decoder:
        first = memoryview(raw)[0]
        is_map = 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)
        return self._map if is_map else self._array

    def _invalid(self, error: BaseException) -> InvalidArgument:
        def name_of(match: re.Match[str]) -> str:
            index = int(match[1])
            return f"$.{self.names[index]}" if index < len(self.names) else match[0]

        if isinstance(error, RecursionError):
            return InvalidArgument(f"{self._name}: params are nested too deep")
        text = _POSITION.sub(name_of, described(error)[:_TEXT], count=1)
        if (length := _LENGTH.fullmatch(text)) is not None:  # of the params themselves
            wanted, given = int(length[1]), int(length[2])
            missing = ", ".join(self.names[given:wanted])
            text = f"{missing} missing" if missing else f"it takes {wanted} params, and got {given}"
        return InvalidArgument(f"{self._name}({', '.join(self.names)}): {text}")


def _struct(parameters: Sequence[inspect.Parameter], *, array_like: bool) -> type[msgspec.Struct]:
    # Names of the struct's own: a parameter may be called like one of Struct's attributes.
    fields = [(f"p{index}", parameter.annotation, _field(parameter)) for index, parameter in enumerate(parameters)]
    return msgspec.defstruct("Params", fields, array_like=array_like, forbid_unknown_fields=True, kw_only=True)


def _field(parameter: inspect.Parameter) -> Any:
    if parameter.default is inspect.Parameter.empty:
        return msgspec.field(name=parameter.name)
    default = parameter.default
    if isinstance(default, (bool, int, float, str, bytes, type(None))):
        return msgspec.field(name=parameter.name, default=default)  # its schema then names it
    return msgspec.field(name=parameter.name, default_factory=lambda: default)
