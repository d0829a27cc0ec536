"""Interfaces: one annotated class that a server implements and a client calls."""

from __future__ import annotations

import inspect
import re
from abc import ABCMeta
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, overload

from aiozpat.errors import UsageError
from aiozpat.rpc.signature import Signature, signature_of

F = TypeVar("F", bound=Callable[..., Any])

MAX_QUEUED = 1000
_MARK = "__aiozpat_method__"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOptions:
    """What is said of a method beside its signature.

    Attributes:
        name: Its name, None for the function's.
        idempotent: Whether running it twice does no more than once, so that a client may try it again.
        max_concurrency: How many calls of it run at once on one server.
        max_queued: How many more wait.
    """

    name: str | None = None
    idempotent: bool = False
    max_concurrency: int | None = None
    max_queued: int = MAX_QUEUED


@overload
def method(function: F, /) -> F: ...


@overload
def method(
    *, name: str | None = ..., idempotent: bool = ..., max_concurrency: int | None = ..., max_queued: int = ...
) -> Callable[[F], F]: ...


def method(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    idempotent: bool = False,
    max_concurrency: int | None = None,
    max_queued: int = MAX_QUEUED,
) -> F | Callable[[F], F]:
    """Mark a method of an interface, or of a class whose instance is served; a decorator, with or without arguments.

    All public methods of an interface are served, marked or not; of a class without an interface only marked ones.
    What the class that is served says of a method goes before what its interface says; defaults say nothing.

    Args:
        function: The method.
        name: The name that clients call it by; the function's by default.
        idempotent: Whether running it twice does no more than once, so that a client's `Retry` may try it again.
        max_concurrency: How many calls of it run at once, on one server; `None` leaves it to the server's limit.
        max_queued: How many more wait for their turn; past both, a call is refused with `ResourceExhausted`.

    Raises:
        UsageError: It is given something else than a function.
    """
    options = MethodOptions(name=name, idempotent=idempotent, max_concurrency=max_concurrency, max_queued=max_queued)

    def mark(function: F) -> F:
        if not inspect.isroutine(function):
            raise UsageError(not_a_function("method", function))
        setattr(inner(function), _MARK, options)
        return function

    return mark if function is None else mark(function)


def not_a_function(decorator: str, given: Any) -> str:
    """What is said of something that can't be a method."""
    text = f"a handler is a function or a method; got {given!r}"
    return f"{text}: write @{decorator}(name={given!r})" if isinstance(given, str) else text


def inner(function: Any) -> Any:
    """A function itself, also where it is static or of its class: what that is marked with is found on objects, too."""
    return function.__func__ if isinstance(function, (staticmethod, classmethod)) else function


def options_of(function: Any) -> MethodOptions | None:
    """What a method was marked with."""
    options = getattr(inner(function), _MARK, None)
    return options if isinstance(options, MethodOptions) else None


@dataclass(frozen=True, slots=True)
class InterfaceMethod:
    """One method of an interface."""

    attribute: str
    name: str
    function: Callable[..., Any]
    signature: Signature
    options: MethodOptions


def service_name(interface: type) -> str:
    """The name of the service that a class stands for where none is given: `ImageStore` is `image_store`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", interface.__name__).lower()


def methods_of(interface: type) -> tuple[InterfaceMethod, ...]:
    """The methods of an interface: all its public functions.

    Raises:
        UsageError: It is no class that can be an interface, or a method's annotations are missing.
    """
    if not isinstance(interface, type):
        raise UsageError(f"an interface is a class; got {interface!r}")
    if getattr(interface, "_is_protocol", False) or isinstance(interface, ABCMeta):
        raise UsageError(
            f"{interface.__name__} is a Protocol or an abstract class, which type checkers don't take for a stub: make "
            "it a plain class whose methods raise NotImplementedError"
        )
    for base in interface.__mro__[:-1]:
        for name, value in vars(base).items():
            if isinstance(value, (staticmethod, classmethod)) and not name.startswith("_"):
                raise UsageError(f"{interface.__name__}.{name} is a {type(value).__name__}, and no method")
    found = tuple(
        _interface_method(interface, attribute, function)
        for attribute, function in _functions(interface).items()
        if not attribute.startswith("_")
    )
    if not found:
        raise UsageError(f"{interface.__name__} has no public methods, so it is no interface")
    return found


def _interface_method(interface: type, attribute: str, function: Callable[..., Any]) -> InterfaceMethod:
    options = options_of(function) or MethodOptions()
    # Bound to nothing: the signature without `self`.
    bound = function.__get__(object())
    name = f"{interface.__name__}.{attribute}"
    signature = signature_of(name, bound)
    kinds = [parameter.annotation for parameter in signature.parameters]
    for kind in (*kinds, signature.sends, signature.result):
        if _is_generic(kind):
            raise UsageError(f"{name}: nobody says what type {kind} is; an interface writes its types out")
    return InterfaceMethod(attribute, options.name or attribute, function, signature, options)


def _is_generic(kind: Any) -> bool:
    return isinstance(kind, TypeVar) or any(map(_is_generic, get_args(kind)))


def _functions(cls: type) -> dict[str, Callable[..., Any]]:
    """The functions of a class and its bases, by name, in the order of their definition."""
    found: dict[str, Callable[..., Any]] = {}
    for base in reversed(cls.__mro__[:-1]):
        for name, value in vars(base).items():
            if inspect.isfunction(value):
                found[name] = value
            else:
                found.pop(name, None)
    return found


@dataclass(frozen=True, slots=True)
class Implementation:
    """One method of an object that is served."""

    name: str
    handler: Callable[..., Any]
    options: MethodOptions


def implemented(instance: object, interface: type | None) -> tuple[Implementation, ...]:
    """The methods of an object that are served: its interface's, or those marked in its class.

    Raises:
        UsageError: It does not match its interface; the message names the first difference. Or nothing is marked.
    """
    if isinstance(instance, type):
        raise UsageError(f"give an instance, {instance.__name__}(), not the class")
    if interface is not None:
        return tuple(_implemented(instance, interface, declared) for declared in methods_of(interface))
    marked = tuple(
        Implementation(options.name or attribute, getattr(instance, attribute), options)
        for attribute, options in _marked(type(instance)).items()
    )
    if not marked:
        raise UsageError(
            f"{type(instance).__name__} has no method marked with @aiozpat.method; mark those to be served, or give "
            "interface="
        )
    return marked


def _marked(cls: type) -> Mapping[str, MethodOptions]:
    """Marks by attribute; that of a base holds for what overrides it."""
    marks: dict[str, MethodOptions] = {}
    for base in reversed(cls.__mro__[:-1]):
        for name, value in vars(base).items():
            options = options_of(value)
            if options is not None:
                marks[name] = options
    return marks


def _implemented(instance: object, interface: type, declared: InterfaceMethod) -> Implementation:
    attribute, of_interface = declared.attribute, f"{interface.__name__}.{declared.attribute}"
    handler = getattr(instance, attribute, None)
    cls = type(instance).__name__
    if not callable(handler) or getattr(handler, "__func__", None) is declared.function:
        raise UsageError(f"{cls} does not implement {of_interface}")
    name = f"{cls}.{attribute}"
    difference = _difference(declared.signature, signature_of(name, handler))
    if difference:
        raise UsageError(f"{name} does not match {of_interface}: {difference}")
    own = options_of(handler)
    if own is None:
        return Implementation(declared.name, handler, declared.options)
    if own.name not in (None, declared.name):
        raise UsageError(f"{name} is called {own.name!r} here and {declared.name!r} in {interface.__name__}")
    theirs = declared.options
    options = MethodOptions(
        idempotent=own.idempotent or theirs.idempotent,
        max_concurrency=theirs.max_concurrency if own.max_concurrency is None else own.max_concurrency,
        max_queued=theirs.max_queued if own.max_queued == MAX_QUEUED else own.max_queued,
    )
    return Implementation(declared.name, handler, options)


def _difference(declared: Signature, own: Signature) -> str | None:
    """The first difference between an interface's method and its implementation, in words."""
    names = [parameter.name for parameter in declared.parameters]
    own_names = [parameter.name for parameter in own.parameters]
    if names != own_names:
        return f"it takes ({', '.join(own_names)}), the interface ({', '.join(names)})"
    for parameter, mine in zip(declared.parameters, own.parameters, strict=True):
        if parameter.annotation != mine.annotation:
            return f"{mine.name!r} is {_text(mine.annotation)}, in the interface {_text(parameter.annotation)}"
        if parameter.kind is not mine.kind:
            return f"{mine.name!r} is {mine.kind.description}, in the interface {parameter.kind.description}"
        if parameter.default is not parameter.empty and mine.default is mine.empty:
            return f"{mine.name!r} has a default in the interface, and none here"
    if (declared.stream_at, declared.sends) != (own.stream_at, own.sends):
        return f"it takes {_stream(own)}, the interface {_stream(declared)}"
    if declared.replies != own.replies:
        kinds = ("one result", "a stream")
        return f"it gives {kinds[own.replies]}, the interface {kinds[declared.replies]}"
    if declared.result != own.result:
        return f"it gives {_text(own.result)}, the interface {_text(declared.result)}"
    return None


def _text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _stream(signature: Signature) -> str:
    if signature.stream_at is None:
        return "no stream"
    return f"a stream of {_text(signature.sends)} as parameter {signature.stream_at + 1}"
