"""A method as one server runs it: its own limit and counters beside the shared description."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aiozpat.codec import ForeignItemDecoder, ItemDecoder, Raw, Values
from aiozpat.protocol.admission import Gate
from aiozpat.rpc.current import Job
from aiozpat.rpc.flows import DecodesItems
from aiozpat.rpc.service import Method


class Route:
    """One method on one server.

    Args:
        method: What was registered.
        call: The coroutine function that takes the params in order: the handler, or what runs it in a thread.
        state: What the service's lifespan has opened.
        reserved: Whether it is answered whatever the server's limits say, and while it drains.
    """

    __slots__ = (
        "_items",
        "call",
        "calls",
        "decode",
        "decode_foreign",
        "errors",
        "fast",
        "gate",
        "name",
        "replies",
        "reserved",
        "sends",
        "sent",
        "state",
        "stream_at",
        "stream_name",
        "streams",
    )

    def __init__(self, method: Method, call: Callable[..., Any], state: Any, *, reserved: bool) -> None:
        self.name = method.name
        self.state = state
        self.reserved = reserved
        self.call = call
        self.fast = method.params.fast
        self.decode = method.params.decode
        self.decode_foreign = method.params.decode_foreign
        signature = method.signature
        self.replies = signature.replies
        self.sends = signature.stream_at is not None
        self.streams = self.replies or self.sends
        self.stream_at = signature.stream_at
        names = tuple(inspect.signature(method.handler).parameters)
        self.stream_name = "" if signature.stream_at is None else names[signature.stream_at]
        self.sent = signature.sends
        self._items: dict[Values | None, DecodesItems] = {None: ItemDecoder(self.sent)} if self.sends else {}
        if self.streams or reserved:
            self.fast = _not_fast
        self.gate: Gate[Job] | None = None
        options = method.options
        if options.max_concurrency is not None:
            self.gate = Gate(options.max_concurrency, options.max_queued)
        self.calls = 0
        self.errors = 0

    def items(self, values: Values | None) -> DecodesItems:
        """What decodes the items that clients send, by MessagePack or another codec of the server's."""
        if values is not None and values not in self._items:
            self._items[values] = ForeignItemDecoder(values, self.sent)
        return self._items[values]


def _not_fast(params: Raw) -> Any:
    """In the place of `fast` where a call needs more than its params: it sends the call the long way."""
    raise NotImplementedError


def positional(method: Method) -> Callable[..., Any]:
    """The handler as a function of positional arguments alone, in the order of its signature."""
    parameters = inspect.signature(method.handler).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    if not names:
        return method.handler
    split, handler = len(parameters) - len(names), method.handler

    def call(*values: Any) -> Any:
        return handler(*values[:split], **dict(zip(names, values[split:], strict=True)))

    return call
