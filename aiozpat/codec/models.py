"""Pydantic's models, which are written and read by pydantic itself.

It is not imported here: who has such a value, or asks for such a type, has imported it.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

_MOST_ERRORS = 20  # of one value, that are worth telling
_KINDS_KEPT = 1024  # models whose schemas are remembered
_NATIVE: tuple[Any, ...] = (None, False, 0, 0.0, "", b"", [], {})  # one of each type that arrives
# Of a schema: what is no schema of a value that arrives.
_NO_PARTS = frozenset(("computed_fields", "config", "default", "metadata", "serialization"))
# Schemas that make something of what arrives, by code of their own or in another form: what they take is not looked at.
_OWN_WAYS = frozenset(
    (
        "chain",
        "custom-error",
        "function-before",
        "function-plain",
        "function-wrap",
        "lax-or-strict",
        "nullable",
        "union",
    )
)
_FIELDS = frozenset(("dataclass-args", "model-fields", "typed-dict"))
_PLAIN = frozenset(("bool", "bytes", "float", "int", "str"))  # what arrives as it is, which is strict enough
_UTF8 = "utf8"
_Found = tuple[dict[str, Any], Mapping[str, Any]]


def is_model(kind: Any) -> bool:
    """Whether it is a model of pydantic's."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate")


@cache
def reads_names() -> bool:
    """Whether pydantic's models can be read by their fields' names, whatever aliases they have: from 2.11 on."""
    major, minor, *_ = sys.modules["pydantic"].VERSION.split(".")
    return (int(major), int(minor)) >= (2, 11)


def dumped(model: Any) -> Any:
    """What a model is on the wire, as the same class reads it."""
    return model.model_dump(round_trip=True, by_alias=not reads_names())


def validated(kind: Any, value: Any) -> Any:
    """A model, from what `dumped` gave.

    Raises:
        ValueError: It is nothing of that kind.
    """
    try:
        return _read(kind, value)
    except ValueError as error:
        count = getattr(error, "error_count", lambda: 0)()
        if count <= _MOST_ERRORS:
            raise
    raise ValueError(f"{count} validation errors for {kind.__name__}")  # the text of a million takes gigabytes


def _read(kind: Any, value: Any) -> Any:
    """Have pydantic read a model; a strict one as JSON too, where it takes text for dates, lists for sets and so on."""
    options = {"by_alias": True, "by_name": True} if reads_names() else {}
    try:
        return kind.model_validate(value, **options)
    except ValueError as error:
        if not _is_strict(kind):
            raise
        try:
            text = json.dumps(value, default=_time)
        except TypeError as no_json:
            if getattr(error, "error_count", lambda: 0)() > _MOST_ERRORS:
                raise error from None
            raise ValueError(
                f"{error}\n{kind.__name__} is strict, so that it takes dates, sets and the like from JSON only, which "
                f"has no such thing ({no_json}): strict=False for those fields lets them travel beside it"
            ) from None
    return kind.model_validate_json(text, **options)


def _time(value: Any) -> str:
    if isinstance(value, datetime):  # which MessagePack has of its own
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__}")


def schema(kind: Any) -> dict[str, Any]:
    """A model's JSON Schema; what it refers to has the model's name in its own, to stand among those of others."""
    prefix = re.sub(r"\W", "_", f"{kind.__module__}.{kind.__qualname__}")
    found: dict[str, Any] = kind.model_json_schema(
        by_alias=not reads_names(), ref_template=f"#/$defs/{prefix}.{{model}}"
    )
    if "$defs" in found:
        found["$defs"] = {f"{prefix}.{name}": part for name, part in found["$defs"].items()}
    return found


def check(kind: Any) -> None:
    """See to it that all fields of a model can travel.

    Raises:
        TypeError: One can't; the message names it.
    """
    if kind is sys.modules["pydantic"].BaseModel:
        raise TypeError(f"{kind!r} has no fields: use a model of your own")
    found = _schema_of(kind)
    for part, _ in _within(found, {}):
        if part["type"] in _FIELDS:
            _check_aliases(kind, part["fields"])
    for part, _ in _within(found, {}, _OWN_WAYS):
        if (opaque := _opaque(part)) is not None:
            raise TypeError(
                f"{kind!r} has a field of {opaque!r}, and pydantic takes nothing else for it, so that it can't travel: "
                "give it a serializer, and a validator of what that gives"
            )


def _check_aliases(kind: Any, fields: Any) -> None:
    """Refuse what is read by the name of another field, which is what travels."""
    named = fields.items() if isinstance(fields, dict) else [(field["name"], field) for field in fields]
    names = {name for name, _ in named}
    for name, field in named:
        for alias in _aliases(field.get("validation_alias")):
            if alias in names and alias != name:
                raise TypeError(
                    f"{kind!r}: {alias!r} is an alias of {name!r} and the name of another field; fields travel under "
                    "their names, so that one would get the value of the other"
                )


def _aliases(alias: Any) -> list[Any]:
    """The keys that a field is looked up by: of one alias, of a path, or of a choice of paths."""
    if alias is None or isinstance(alias, str):
        return [alias]
    return [path[0] for path in alias] if isinstance(alias[0], list) else alias[:1]


def _opaque(part: Mapping[str, Any]) -> Any:
    """What a schema takes instances of, where nothing that arrives is one; else None."""
    if part["type"] == "callable":
        return "a callable"
    if part["type"] == "is-subclass" or (
        part["type"] == "is-instance" and not any(isinstance(one, part["cls"]) for one in _NATIVE)
    ):
        return part["cls"]
    return None


@lru_cache(_KINDS_KEPT)
def _is_strict(kind: Any) -> bool:
    """Whether some part of a model takes no text for what it is, unless it stands in JSON."""
    ways = frozenset(("json-or-python", "lax-or-strict"))  # pydantic's own, which are strict within
    return any(
        config.get("strict") or (part.get("strict") and part["type"] not in _PLAIN)
        for part, config in _within(_schema_of(kind), {}, ways)
    )


def in_text(kind: Any, value: Any) -> Any:
    """A model's dump with text for bytes, as pydantic reads them.

    Raises:
        ValueError: It does not read these.
    """
    form = _bytes_form(kind)
    if form is None:
        raise ValueError(f"{kind.__name__} reads bytes from text in more than one way (val_json_bytes)")
    return _in_text(value, form)


@lru_cache(_KINDS_KEPT)
def _bytes_form(kind: Any) -> str | None:
    """How a model reads bytes from text, as pydantic calls it; None if not all of it in the same way."""
    forms = {
        config.get("val_json_bytes", _UTF8) for part, config in _within(_schema_of(kind), {}) if part["type"] == "bytes"
    }
    return _UTF8 if not forms else forms.pop() if len(forms) == 1 else None


def _in_text(value: Any, form: str) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return _text_of_bytes(value, form)
    if isinstance(value, dict):
        return {_in_text(key, form): _in_text(part, form) for key, part in value.items()}
    kind = type(value)
    return kind(_in_text(part, form) for part in value) if kind in (list, tuple, set, frozenset) else value


def _text_of_bytes(value: bytes | bytearray, form: str) -> str:
    if form == "base64":
        return base64.urlsafe_b64encode(value).decode()  # the letters that pydantic writes
    if form == "hex":
        return value.hex()
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"pydantic reads bytes from text as UTF-8, and these are none ({error}); val_json_bytes='base64' in the "
            "model's config lets any travel"
        ) from None


def _schema_of(kind: Any) -> Any:
    """Pydantic's own schema of a model; nothing to speak of where it is not complete yet."""
    if not kind.__pydantic_complete__:
        kind.model_rebuild(raise_errors=False)
    return kind.__pydantic_core_schema__


def _within(part: Any, config: Mapping[str, Any], closed: frozenset[str] = frozenset()) -> Iterator[_Found]:
    """All schemas within one of pydantic's, each with the config that holds for it; none of those that are closed."""
    parts: Any = ()
    if isinstance(part, (list, tuple)):
        parts = part
    elif isinstance(part, dict):
        kind = part.get("type")
        if not isinstance(kind, str):  # schemas by name: one may be called `type`
            parts = part.values()
        elif kind not in closed and not part.get("serialization_exclude"):
            config = part.get("config", config)
            yield part, config
            parts = [one for key, one in part.items() if key not in _NO_PARTS]
    for one in parts:
        yield from _within(one, config, closed)
