"""Params and metadata of a call on their way into its request, where they are not the common ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from aiozpat.codec import ENCODE_ERRORS, Values, extract
from aiozpat.errors import InvalidArgument
from aiozpat.protocol.records import METADATA_LIMIT, Buffer, metadata_bytes


def extracted(params: Any, buffers: list[Buffer]) -> Any:
    """The params, references in place of what is large among them, which joins `buffers`."""
    if isinstance(params, tuple):
        return [extract(value, buffers) for value in params]
    return {name: extract(value, buffers) for name, value in params.items()}


def foreign(method: str, params: Any, values: Values) -> Raw:
    """The params, encoded by another codec.

    Raises:
        InvalidArgument: They can't be encoded.
    """
    try:
        return Raw(values.pack(list(params) if isinstance(params, tuple) else params))
    except ENCODE_ERRORS as error:
        raise InvalidArgument(f"{method}: the params can't be encoded: {error}") from error


def as_dict(metadata: Mapping[str, str]) -> dict[str, str]:
    """A copy of metadata.

    Raises:
        InvalidArgument: It is no mapping.
    """
    try:
        return dict(metadata)
    except (TypeError, ValueError):
        raise InvalidArgument(f"metadata is text by name, as in {{'name': 'text'}}; got {metadata!r}") from None


def checked(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    """Metadata as a dict of text: anything else would make the server refuse the whole message.

    Raises:
        InvalidArgument: It is not text by name, or too much.
    """
    if metadata is None:
        return None
    texts = as_dict(metadata)
    for name, value in texts.items():
        if type(name) is not str or type(value) is not str:
            raise InvalidArgument(f"metadata is text by name; got {name!r}: {value!r}")
    if (size := metadata_bytes(texts)) > METADATA_LIMIT:
        raise InvalidArgument(f"{size} bytes of metadata; {METADATA_LIMIT} is the most, larger things are params")
    return texts
