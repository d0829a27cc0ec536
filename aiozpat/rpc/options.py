"""The keywords of calls and streams, for type checkers: what each does is told where they are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict


class CallOptions(TypedDict, total=False):
    """Those of `Client.call`, besides the type of the result."""

    params: Mapping[str, Any] | None
    timeout: float | None
    metadata: Mapping[str, str] | None
    wait_for_ready: bool | None
    idempotent: bool


class StreamOptions(TypedDict, total=False):
    """Those of `Client.stream` and `Client.open`, besides the types of items and result."""

    params: Mapping[str, Any] | None
    timeout: float | None
    idle_timeout: float | None
    window: int
    metadata: Mapping[str, str] | None
    wait_for_ready: bool | None
