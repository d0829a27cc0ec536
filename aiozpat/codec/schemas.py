"""What travels, as JSON Schema."""

from __future__ import annotations

import enum
import math
from typing import Any

import msgspec

from aiozpat.codec import models
from aiozpat.codec.hooks import within


def schema_of(kind: Any) -> dict[str, Any]:
    """A type's JSON Schema, without what JSON can't say.

    Raises:
        TypeError: It has none.
    """
    parts: dict[str, Any] = {}

    def of_others(unknown: Any) -> dict[str, Any]:
        """That of a type that msgspec does not know; `{}`, which allows anything, where nobody does."""
        found = models.schema(unknown) if models.is_model(unknown) else {}
        parts.update(found.pop("$defs", {}))  # what is referred to stands at the top
        return found

    found = msgspec.json.schema(kind, schema_hook=of_others)
    parts.update(found.get("$defs", {}))
    for name, values in _flags(kind):
        if parts.get(name, {}).get("enum") == values:
            parts[name] = {"title": name, "type": "integer"}  # any of them together
    said: dict[str, Any] = _sayable({**found, "$defs": parts} if parts else found)
    return said


def _flags(kind: Any) -> list[tuple[str, list[Any]]]:
    """The flags within a type, each with its name and its values in order, as msgspec has them."""
    kinds = [info.cls for info in within(kind) if isinstance(info, msgspec.inspect.EnumType)]
    flags = [one for one in kinds if issubclass(one, enum.Flag)]
    return [(one.__name__, sorted({member.value for member in one.__members__.values()})) for one in flags]


def _sayable(part: Any, *, by_name: bool = False) -> Any:
    """A schema, or schemas by name, without defaults and bounds that are infinite or not-a-number."""
    if isinstance(part, dict):
        return {
            key: _sayable(one, by_name=not by_name and key in ("properties", "$defs"))
            for key, one in part.items()
            if by_name or (_is_finite(one) and not (key == "default" and not _all_finite(one)))
        }
    return [_sayable(one) for one in part] if isinstance(part, list) else part


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _all_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_all_finite, value.values()))
    return all(map(_all_finite, value)) if isinstance(value, (list, tuple)) else _is_finite(value)
