"""What a method takes and gives, read from its annotations: params, streams, result."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from aiozpat.codec import bare
from aiozpat.errors import UsageError

_KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)


@dataclass(frozen=True, slots=True)
class Signature:
    """A method's.

    Attributes:
        parameters: Its parameters with resolved annotations, in order; without the one that takes a stream.
        stream_at: Where that one stands among all of them, None if the client sends no items.
        sends: The type of the items that the client sends.
        replies: Whether the answer is a stream.
        result: The type of the result, or of the items of the answer; `Any` where nothing is said.
    """

    parameters: tuple[inspect.Parameter, ...]
    stream_at: int | None
    sends: Any
    replies: bool
    result: Any


def signature_of(name: str, function: Callable[..., Any]) -> Signature:
    """Read a handler's signature, or an interface method's.

    Args:
        name: The method's full name, for messages.
        function: The function, or bound method.

    Raises:
        UsageError: It has no signature, a parameter has no annotation or takes any number of values, or streams are
            spelled wrongly.
    """
    hints = _hints(name, function)
    parameters: list[inspect.Parameter] = []
    stream_at: int | None = None
    sends: Any = None
    for parameter in _parameters(name, function):
        if parameter.kind not in _KINDS:
            raise UsageError(f"{name}: *{parameter.name} can't be typed; name each parameter")
        if parameter.name not in hints:
            raise UsageError(f"{name}: parameter {parameter.name!r} has no annotation; the annotation is its schema")
        hint = hints[parameter.name]
        if not _is_stream(hint):
            parameters.append(parameter.replace(annotation=hint))
        elif stream_at is not None:
            raise UsageError(f"{name}: {parameter.name!r} is a second stream; a call has one from the client at most")
        else:
            stream_at, sends = len(parameters), _item_of(hint)
    replies, result = _result_of(name, function, hints.get("return", Any))
    if stream_at is not None and not replies and not inspect.iscoroutinefunction(function):
        raise UsageError(f"{name} is a plain function, which can't read an AsyncIterator: write it as `async def`")
    return Signature(tuple(parameters), stream_at, sends, replies, result)


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Its annotations, resolved."""
    try:
        hints = get_type_hints(function, include_extras=True)
        for hint in hints.values():
            bare(hint)  # what an alias stands for is not known to exist before it is looked at
    except Exception as error:  # an annotation is code, which may raise anything
        raise UsageError(f"{name}: its annotations can't be resolved: {type(error).__name__}: {error}") from error
    return hints


def _parameters(name: str, function: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    try:
        return inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:  # some of Python's own functions
        raise UsageError(
            f"{name}: {function!r} says nothing of its parameters; serve a function that calls it"
        ) from error


def _result_of(name: str, function: Callable[..., Any], hint: Any) -> tuple[bool, Any]:
    """Whether the answer is a stream, and the type of the result or item."""
    if not inspect.isgeneratorfunction(function) and _origin(hint) in (Iterator, Generator):
        raise UsageError(
            f"{name} gives {hint}, which would block the loop: write -> AsyncIterator[...], in an interface as a plain "
            "def, for aiozpat.sync too"
        )
    if inspect.isgeneratorfunction(function):
        raise UsageError(
            f"{name} is a plain generator, which would block the loop; write it as an async generator: "
            "async def with yield, -> AsyncIterator[...]"
        )
    if inspect.isasyncgenfunction(function):
        if not _is_stream(hint) and hint not in (Any, object):
            raise UsageError(f"{name} yields, so what it gives is a stream: -> AsyncIterator[...] instead of {hint}")
        return True, _item_of(hint) if _is_stream(hint) else Any
    if not _is_stream(hint):
        return False, hint
    if inspect.iscoroutinefunction(function):
        raise UsageError(
            f"{name} is a coroutine that returns {hint}: write it with `yield`, or in an interface as a plain def"
        )
    return True, _item_of(hint)


def _origin(hint: Any) -> Any:
    kind = bare(hint)
    return get_origin(kind) or kind


def _is_stream(hint: Any) -> bool:
    return _origin(hint) in _STREAMS


def _item_of(hint: Any) -> Any:
    return (get_args(bare(hint)) or (Any,))[0]
