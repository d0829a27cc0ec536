"""Registering methods: what can't be one, or comes too late, is told at once."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

import aiozpat
from aiozpat import Client, Server, errors
from tests.support import LOOPBACK


def test_a_function_stays_what_it_was() -> None:
    service = aiozpat.Service("s")

    @service.method
    async def plain(a: int) -> int:
        return a

    @service.method(name="other", max_concurrency=3)
    def named() -> None:
        """Nothing."""

    assert plain.__name__ == "plain"
    assert [method.name for method in service.methods] == ["s.plain", "s.other"]
    assert "plain" in repr(service)


def test_names_are_checked() -> None:
    for bad in ("", "a b", "1a", "a..b", "a.", "é-", "größe"):
        with pytest.raises(ValueError, match="ASCII identifiers"):
            aiozpat.Service(bad)
    with pytest.raises(TypeError, match="a service's name is text; got 5"):
        aiozpat.Service(5)  # type: ignore[arg-type]  # that is the point


async def _no_annotation(a) -> None:  # type: ignore[no-untyped-def]  # that is the point
    """Nothing."""


async def _any_number(*values: int) -> None:
    """Nothing."""


def _generator() -> Iterator[int]:
    yield 1


async def _no_yield() -> AsyncIterator[int]:
    raise NotImplementedError


async def _two_streams(a: AsyncIterator[int], b: AsyncIterable[int]) -> None:
    """Nothing."""


async def _unknown(a: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821 - that is the point
    """Nothing."""


class Opaque:
    """A class that MessagePack knows nothing of, for a union that can't be decoded."""


async def _undecodable(a: Opaque | bytes | Any | dict[str, int] | Point2) -> None:  # type: ignore[name-defined]  # noqa: F821 - that is the point
    """Nothing."""


async def _broken(a: aiozpat.Nowhere) -> None:  # type: ignore[name-defined]  # that is the point
    """Nothing."""


async def _one_item() -> int:  # type: ignore[misc]  # that is the point
    yield 1


class _OfItsClass:
    @classmethod
    async def method(cls) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (_no_annotation, "has no annotation"),
        (_any_number, "can't be typed"),
        (_generator, "plain generator"),
        (_one_item, r"yields, so .* -> AsyncIterator\[\.\.\.\] instead of <class 'int'>"),
        (_no_yield, "write it with `yield`"),
        (_two_streams, "second stream"),
        (_unknown, "can't be resolved"),
        (_undecodable, "can't be resolved"),
        (lambda: None, "identifier"),
        (_broken, "can't be resolved: AttributeError"),
        (getattr, r"s\.getattr: <built-in function getattr> says nothing of its parameters"),
        (vars(_OfItsClass)["method"], "has no class here"),
        ("add", r"a function or a method; got 'add': write @service\.method\(name='add'\)"),
        (_OfItsClass(), "a handler is a function or a method; got <"),
    ],
)
def test_what_cant_be_a_method_is_refused_with_a_reason(handler: Any, says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        aiozpat.Service("s").method(handler)


def test_a_name_is_registered_once_and_limits_make_sense() -> None:
    service = aiozpat.Service("s")

    async def one() -> None:
        """Nothing."""

    service.method(one)
    with pytest.raises(errors.UsageError, match="registered already"):
        service.method(one)
    with pytest.raises(errors.UsageError, match="number from 1"):
        service.method(name="two", max_concurrency=0)(one)
    with pytest.raises(errors.UsageError, match="number from 0"):
        service.method(name="two", max_queued=-1)(one)


async def test_what_is_registered_too_late_is_refused() -> None:
    service = aiozpat.Service("empty")

    async def late() -> str:
        return "late"

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.Unimplemented, match="service 'empty' has no methods: none was registered before"):
            await client.call("empty.late")
        with pytest.raises(errors.Unimplemented, match=r"no service 'other' here for 'other.late'"):
            await client.call("other.late")
        with pytest.raises(errors.UsageError, match="late: a server serves 'empty' already, without it: register it"):
            service.method(late)
    service.method(late)
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("empty.late") == "late"


def test_a_mark_is_for_functions() -> None:
    with pytest.raises(errors.UsageError, match=r"got 'add': write @method\(name='add'\)"):
        aiozpat.method("add")  # type: ignore[call-overload]  # the mistake


async def test_a_static_method_is_registered_as_the_function_that_it_is() -> None:
    service = aiozpat.Service("s")

    class Thing:
        @service.method
        @staticmethod
        async def double(a: int) -> int:
            return 2 * a

    assert await Thing.double(2) == 4
    async with aiozpat.Server(service, bind=LOOPBACK) as server, aiozpat.Client(server.endpoint) as client:
        assert await client.call("s.double", 3) == 6


_ALIASES: list[Any] = (
    [alias("Numbers", AsyncIterator[int])] if (alias := getattr(typing, "TypeAliasType", None)) is not None else []
)


@pytest.mark.parametrize("stream", [Annotated[AsyncIterator[int], "numbers"], *_ALIASES])
async def test_streams_by_another_name_have_the_types_of_their_items(stream: Any) -> None:
    async def double(numbers: Any) -> Any:
        async for number in numbers:
            yield 2 * number

    double.__annotations__.update({"numbers": stream, "return": stream})
    service = aiozpat.Service("s")
    service.method(double)
    (method,) = service.methods
    assert (method.signature.sends, method.signature.result, method.signature.stream_at) == (int, int, 0)
    async with aiozpat.Server(service, bind=LOOPBACK) as server, aiozpat.Client(server.endpoint) as client:
        with pytest.raises(errors.InvalidArgument, match="Expected `int`, got `str`"):
            async with client.open("s.double") as talk:
                await talk.send("one")
                await anext(talk)
