"""Interfaces: one class that the server implements, checked when it is registered, and that the client calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pytest

import aiozpat
from aiozpat import Client, Server, Service, errors
from tests.support import LOOPBACK, PATIENCE, until


@dataclass
class Point:
    x: int
    y: int


class Calc:
    """The interface."""

    async def add(self, a: int, b: int = 0) -> int:
        raise NotImplementedError

    @aiozpat.method(idempotent=True)
    async def move(self, point: Point, *, by: int) -> Point:
        raise NotImplementedError

    def count(self, n: int) -> AsyncIterator[int]:
        raise NotImplementedError

    async def total(self, numbers: AsyncIterator[int], start: int = 0) -> int:
        raise NotImplementedError

    def shout(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        raise NotImplementedError

    @aiozpat.method(name="where")
    async def caller(self) -> str:
        raise NotImplementedError

    def _private(self) -> None:
        raise AssertionError


class Calculator(Calc):
    """The implementation."""

    def __init__(self) -> None:
        self.ended = 0

    async def add(self, a: int, b: int = 0) -> int:
        return a + b

    async def move(self, point: Point, *, by: int) -> Point:
        return Point(point.x + by, point.y + by)

    async def count(self, n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                yield number
        finally:
            self.ended += 1

    async def total(self, numbers: AsyncIterator[int], start: int = 0) -> int:
        return start + sum([number async for number in numbers])

    async def shout(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word.upper()

    @aiozpat.method(max_concurrency=1)
    async def caller(self) -> str:
        return f"{aiozpat.current_call().method} {dict(aiozpat.current_call().metadata)}"


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


async def words(*given: str) -> AsyncIterator[str]:
    for word in given:
        yield word


async def test_a_stub_calls_what_the_server_implements_and_its_types_are_seen() -> None:
    service = Service("calc", Calculator(), interface=Calc)
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        calc = client.stub(Calc)
        total: int = await calc.add(1, 2)
        assert total == 3
        assert await calc.add(1) == 1
        assert await calc.add(b=5, a=1) == 6
        assert await calc.add(1, b=2) == 3
        point: Point = await calc.move(Point(1, 2), by=3)
        assert point == Point(4, 5)
        assert [number async for number in calc.count(500)] == list(range(500))
        assert await calc.total(numbers(100), 7) == sum(range(100)) + 7
        assert await calc.total(numbers=numbers(3)) == 3
        assert [word async for word in calc.shout(words("a", "b"))] == ["A", "B"]
        assert isinstance(calc, Calc)
        assert repr(calc).startswith("<stub of Calc by <aiozpat.Client")
        assert calc.add.__name__ == "add"
        marked = client.stub(Calc, metadata={"who": "me"}, timeout=1.0)
        assert await marked.caller() == "calc.where {'who': 'me'}"
        with pytest.raises(errors.InvalidArgument, match="missing a required"):
            await calc.move(Point(1, 2))  # type: ignore[call-arg]  # the mistake
        with pytest.raises(errors.InvalidArgument, match="got `str`"):
            await calc.add("1")  # type: ignore[arg-type]  # the mistake
        with pytest.raises(errors.Unimplemented, match="no service 'other'"):
            await client.stub(Calc, "other").add(1)


async def test_arguments_that_dont_fit_are_refused_before_anything_is_sent(port: int) -> None:
    async with Client(f"tcp://127.0.0.1:{port}", timeout=PATIENCE) as client:  # nobody is there
        calc = client.stub(Calc)
        with pytest.raises(errors.InvalidArgument, match=r"calc\.add: missing a required argument"):
            await calc.add()  # type: ignore[call-arg]  # the mistake
        with pytest.raises(errors.InvalidArgument, match=r"calc\.count: too many positional arguments"):
            calc.count(1, 2)  # type: ignore[call-arg]  # the mistake
        assert client.statistics().calls == 0


async def test_a_stubs_streams_have_its_window_and_its_time() -> None:
    class Slow(Calculator):
        made = 0

        async def count(self, n: int) -> AsyncIterator[int]:
            for number in range(n):
                self.made += 1
                yield number
            await asyncio.Event().wait()

    slow = Slow()
    async with (
        Server(Service("calc", slow, interface=Calc), bind=LOOPBACK) as server,
        Client(server.endpoint, timeout=PATIENCE) as client,
    ):
        items = client.stub(Calc, window=4).count(100)
        assert await anext(items) == 0
        await until(lambda: slow.made >= 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert slow.made < 10
        with pytest.raises(errors.DeadlineExceeded):
            [item async for item in client.stub(Calc, idle_timeout=0.05).count(1)]
        assert await client.stub(Calc, window=4, idle_timeout=0.05).add(1, 2) == 3


async def test_a_stubs_stream_ends_when_it_is_dropped_or_closed() -> None:
    calculator = Calculator()
    service = Service("calc", calculator, interface=Calc)
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        calc = client.stub(Calc)
        async for number in calc.count(10**9):
            if number == 3:
                break
        await until(lambda: calculator.ended == 1)
        async with contextlib.aclosing(calc.count(10**9)) as items:  # type: ignore[type-var]  # it has an aclose
            assert await anext(items) == 0
        await until(lambda: calculator.ended == 2)
        never = calc.count(3)
        await never.aclose()  # type: ignore[attr-defined]  # as above
        short = calc.count(1)
        assert [number async for number in short] == [0]
        for over in (items, never, short):
            with pytest.raises(StopAsyncIteration):
                await anext(over)
        assert calculator.ended == 3

        async def read() -> None:
            async for _ in calc.count(10**9):
                await asyncio.sleep(0)

        reading = asyncio.create_task(read())
        await until(lambda: client.statistics().in_flight == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await until(lambda: calculator.ended == 4)
        await until(lambda: server.statistics().running == 0)
        assert client.statistics().in_flight == 0


async def test_a_stubs_stream_may_be_read_again_after_its_first_read_found_no_server(port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    async with Client(endpoint, timeout=PATIENCE) as client:
        items = client.stub(Calc).count(3)
        first = asyncio.ensure_future(anext(items))
        await until(lambda: client.statistics().in_flight == 1)
        first.cancel()
        await asyncio.wait({first})
        async with Server(Service("calc", Calculator(), interface=Calc), bind=endpoint):
            assert [item async for item in items] == [0, 1, 2]


async def test_a_stubs_stream_that_is_dropped_closes_the_source_of_its_items() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    service = Service("calc", Calculator(), interface=Calc)
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        shouted = client.stub(Calc).shout(source())
        assert await anext(shouted) == "A"
        del shouted
        gc.collect()
        await asyncio.wait_for(closed.wait(), PATIENCE)
        await until(lambda: server.statistics().running == 0)


async def test_marked_methods_are_served_without_an_interface() -> None:
    class Base:
        @aiozpat.method
        async def one(self) -> int:
            return 1

    class Thing(Base):
        @aiozpat.method(name="deux")
        async def two(self) -> int:
            return 2

        async def one(self) -> int:
            return 11

        async def hidden(self) -> None:
            raise AssertionError

    service = Service("thing", Thing())
    assert {method.name for method in service.methods} == {"thing.one", "thing.deux"}
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("thing.one") == 11
        assert await client.call("thing.deux") == 2
        with pytest.raises(errors.Unimplemented):
            await client.call("thing.hidden")


async def test_marked_methods_may_be_static_or_of_their_class() -> None:
    class Thing:
        kept: ClassVar[int] = 3

        @staticmethod
        @aiozpat.method
        async def inner(a: int) -> int:
            return a

        @aiozpat.method(idempotent=True)
        @staticmethod
        async def outer(a: int) -> int:
            return a

        @classmethod
        @aiozpat.method(name="of_class")
        async def of(cls, a: int) -> int:
            return int(a + cls.kept)

        @aiozpat.method
        @classmethod
        async def of_too(cls, a: int) -> int:
            return int(a * cls.kept)

    service = Service("thing", Thing())
    assert {method.name.partition(".")[2]: method.options.idempotent for method in service.methods} == {
        "inner": False,
        "outer": True,
        "of_class": False,
        "of_too": False,
    }
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert [await client.call(f"thing.{name}", 2) for name in ("inner", "outer", "of_class", "of_too")] == [
            2,
            2,
            5,
            6,
        ]


class StaticLimited:
    @aiozpat.method(max_concurrency=1)
    @staticmethod
    async def add() -> int:
        return 1


def test_what_is_said_of_a_static_method_holds_where_it_implements_an_interface() -> None:
    (method,) = Service("s", StaticLimited(), interface=Limited).methods
    assert (method.options.max_concurrency, method.options.idempotent) == (1, True)


class Ifc:
    async def add(self, a: int, b: int = 0) -> int:
        raise NotImplementedError


class Missing(Ifc):
    pass


class Renamed:
    async def add(self, x: int, b: int = 0) -> int:
        return x


class Retyped:
    async def add(self, a: str, b: int = 0) -> int:
        return b


class NoDefault:
    async def add(self, a: int, b: int) -> int:
        return b


class OtherResult:
    async def add(self, a: int, b: int = 0) -> str:
        return ""


class Streams:
    async def add(self, a: int, b: int = 0) -> AsyncIterator[int]:
        yield a


class Takes:
    async def add(self, a: int, b: int, c: AsyncIterator[int]) -> int:
        return a


class KeywordOnly:
    async def add(self, a: int, *, b: int = 0) -> int:
        return b


class Renames:
    @aiozpat.method(name="plus")
    async def add(self, a: int, b: int = 0) -> int:
        return a + b


@pytest.mark.parametrize(
    ("implementation", "says"),
    [
        (Missing(), r"Missing does not implement Ifc\.add"),
        (object(), r"object does not implement Ifc\.add"),
        (Renamed(), r"Renamed\.add does not match Ifc\.add: it takes \(x, b\), the interface \(a, b\)"),
        (Retyped(), r"'a' is str, in the interface int"),
        (NoDefault(), r"'b' has a default in the interface, and none here"),
        (OtherResult(), r"it gives str, the interface int"),
        (Streams(), r"it gives a stream, the interface one result"),
        (Takes(), r"'b' has a default|a stream of int as parameter 3, the interface no stream"),
        (KeywordOnly(), r"'b' is keyword-only, in the interface positional or keyword"),
        (Renames(), r"called 'plus' here and 'add' in Ifc"),
        (Calculator, r"give an instance, Calculator\(\), not the class"),
    ],
)
def test_a_difference_from_the_interface_is_named_at_registration(implementation: Any, says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        Service("s", implementation, interface=Ifc)


class Limited:
    @aiozpat.method(idempotent=True, max_concurrency=2, max_queued=3)
    async def add(self) -> int:
        raise NotImplementedError


class MarkedOnly:
    @aiozpat.method
    async def add(self) -> int:
        return 1


class Stricter:
    @aiozpat.method(max_concurrency=1, max_queued=0)
    async def add(self) -> int:
        return 1


@pytest.mark.parametrize(("implementation", "limits"), [(MarkedOnly(), (2, 3)), (Stricter(), (1, 0))])
def test_what_the_interface_says_holds_where_the_implementation_says_nothing(
    implementation: Any, limits: tuple[int, int]
) -> None:
    (method,) = Service("s", implementation, interface=Limited).methods
    assert (method.options.max_concurrency, method.options.max_queued) == limits
    assert method.options.idempotent


class Abstract(ABC):
    @abstractmethod
    async def add(self) -> int: ...


class Structural(Protocol):
    async def add(self) -> int: ...


class Unannotated:
    async def add(self, a) -> int:  # type: ignore[no-untyped-def]  # that is the point
        raise NotImplementedError


class Plain:
    def count(self) -> Iterator[int]:
        raise NotImplementedError


class Empty:
    pass


async def test_what_cant_be_an_interface_says_what_to_do() -> None:
    async with Client("tcp://127.0.0.1:1") as client:
        for abstract in (Abstract, Structural):
            with pytest.raises(errors.UsageError, match="a plain class whose methods raise NotImplementedError"):
                client.stub(abstract)  # type: ignore[type-abstract]  # the mistake
        with pytest.raises(errors.UsageError, match=r"Unannotated\.add: parameter 'a' has no annotation"):
            client.stub(Unannotated)
        with pytest.raises(
            errors.UsageError, match=r"Plain\.count gives .*: write -> AsyncIterator\[\.\.\.\], in an inter"
        ):
            client.stub(Plain)
        with pytest.raises(errors.UsageError, match="no public methods"):
            client.stub(Empty)
        with pytest.raises(errors.UsageError, match="is a class"):
            client.stub(Calculator())  # type: ignore[arg-type]  # the mistake
    with pytest.raises(errors.UsageError, match="no method marked"):
        Service("s", Ifc())
    with pytest.raises(errors.UsageError, match="the implementation is missing"):
        Service("s", interface=Ifc)


def test_a_service_is_named_after_its_interface() -> None:
    from aiozpat.rpc.interface import service_name

    for name, expected in (("Calc", "calc"), ("ImageStore", "image_store"), ("HTTPProxy2", "http_proxy2")):
        assert service_name(type(name, (), {})) == expected
