"""A method as one server runs it: its own limit and counters beside the shared description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiozpat.protocol.admission import Gate
from aiozpat.rpc.current import Job
from aiozpat.rpc.service import Method


class Route:
    """One method on one server.

    Args:
        method: What was registered.
        call: The coroutine function that takes the params in order: the handler, or what runs it in a thread.
    """

    __slots__ = ("call", "calls", "decode", "errors", "fast", "gate", "in_thread", "name")

    def __init__(self, method: Method, call: Callable[..., Any]) -> None:
        self.name = method.name
        self.call = call
        self.fast = method.params.fast
        self.decode = method.params.decode
        self.in_thread = not method.is_async
        self.gate: Gate[Job] | None = None
        if method.max_concurrency is not None:
            self.gate = Gate(method.max_concurrency, method.max_queued)
        self.calls = 0
        self.errors = 0


def positional(method: Method) -> Callable[..., Any]:
    """The handler as a function of positional arguments alone, keyword-only ones last."""
    names = method.params.keyword_only
    if not names:
        return method.handler
    split, handler = method.params.positional, method.handler

    def call(*values: Any) -> Any:
        return handler(*values[:split], **dict(zip(names, values[split:], strict=True)))

    return call
