"""What every server answers of itself, and what its services open and close around their calls."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import math
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import anyio
import pydantic
import pytest

import aiozpat
from aiozpat import Client, Limits, Server, Service, errors
from tests.raw import BYE, CANCEL, GOAWAY, REFUSED, REPLY, REQUEST, RawPeer, header
from tests.support import LOOPBACK, PATIENCE, Calc, until


@dataclass
class Point:
    x: int
    y: int = 0


def shapes() -> Service:
    service = Service("shapes", version="2.1.0")

    @service.method(idempotent=True)
    async def move(point: Point, by: int = 1) -> Point:
        """Move a point."""
        return Point(point.x + by, point.y)

    @service.method
    async def trace(points: AsyncIterator[Point]) -> AsyncIterator[float]:
        async for point in points:
            yield float(point.x)

    return service


async def test_a_server_describes_its_services() -> None:
    async with Server(shapes(), bind=LOOPBACK, name="drawing") as server, Client(server.endpoint) as client:
        assert await client.call("aiozpat.ping") == "pong"
        info = await client.call("aiozpat.info")
        assert info["name"] == "drawing"
        assert info["version"] == aiozpat.__version__
        assert info["protocol"] == [1]
        assert "msgpack" in info["codecs"]
        (service,) = info["services"]
        assert (service["name"], service["version"]) == ("shapes", "2.1.0")
        move, trace = service["methods"]
        assert (move["name"], move["about"], move["idempotent"]) == ("shapes.move", "Move a point.", True)
        params = move["params"]["$defs"]["Params"]
        assert params["required"] == ["point"]
        assert params["properties"]["by"] == {"type": "integer", "default": 1}
        assert move["params"]["$defs"]["Point"]["properties"]["x"] == {"type": "integer"}
        assert move["result"]["$ref"] == "#/$defs/Point"
        assert (move["sends"], move["streams"]) == (None, False)
        assert (trace["streams"], trace["result"]) == (True, {"type": "number"})
        assert trace["sends"]["$ref"] == "#/$defs/Point"
        statistics = await client.call("aiozpat.statistics")
        assert statistics["sessions"] == 1
        assert set(statistics["methods"]) == {"shapes.move", "shapes.trace"}
        assert await client.call("aiozpat.health") == {"status": "serving"}


class Access(enum.Flag):
    """What goes together, in any way."""

    WRITE = 2
    READ = 1
    BOTH = 3


class Inner(pydantic.BaseModel):
    """A model with a name that does not travel."""

    user_id: int = pydantic.Field(alias="userId")


class Outer(pydantic.BaseModel):
    """A model that refers to others, and to itself."""

    inner: Inner
    outer: Outer | None = None


def _lookup(schema: Any, part: Any) -> Any:
    """What a part of a schema refers to."""
    while "$ref" in part:
        found = schema
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


async def test_schemas_refer_to_what_is_there_and_name_what_is_on_the_wire() -> None:
    service = Service("s")

    @service.method
    async def model(outers: list[Outer], access: Access) -> Outer:
        return outers[0]

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        (described,) = (await client.call("aiozpat.info"))["services"]
    result = described["methods"][0]["result"]
    outer = _lookup(result, result)["properties"]
    assert set(_lookup(result, outer["inner"])["properties"]) == {"user_id"}
    assert _lookup(result, outer["outer"]["anyOf"][0])["properties"] == outer
    params = described["methods"][0]["params"]
    taken = _lookup(params, params)["properties"]
    assert _lookup(params, taken["outers"]["items"])["properties"] == outer
    assert _lookup(params, taken["access"])["type"] == "integer"
    assert "enum" not in _lookup(params, taken["access"])


async def test_what_json_has_not_is_left_out_of_what_a_server_says_of_itself() -> None:
    service = Service("s")

    @service.method
    async def wait(limit: float = math.inf, others: Numbers | None = None, fine: float = 1.5) -> float:
        return limit

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, codec=aiozpat.JSON()) as client:
        (described,) = (await client.call("aiozpat.info"))["services"]
    params = described["methods"][0]["params"]
    taken = _lookup(params, params)["properties"]
    assert taken["limit"] == {"type": "number"}
    assert taken["fine"] == {"type": "number", "default": 1.5}
    numbers = params["$defs"]["Numbers"]["properties"]
    assert "default" not in numbers["values"]
    assert numbers["first"]["default"] == 1.0


@dataclass
class Numbers:
    """Defaults, of which JSON has some."""

    values: list[float] = field(default_factory=lambda: [math.nan])
    first: float = 1.0


async def test_what_is_too_much_or_cant_be_said_costs_the_schemas_only(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("many")
    kind = dataclasses.make_dataclass("Wide", [(f"field_{number}", int, number) for number in range(200)])

    async def take(x: Any) -> None: ...

    take.__annotations__["x"] = kind
    for number in range(80):
        service.method(name=f"take_{number}", idempotent=number == 7)(take)

    async def odd(x: int = 2**70, y: str = chr(0xD800)) -> None: ...

    odd.__doc__ = f"About {chr(0xD800)}."
    service.method(odd)
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, retry=aiozpat.Retry()) as client:
        (described,) = (await client.call("aiozpat.info"))["services"]
        assert len(described["methods"]) == 81
        assert "it says nothing of types" in caplog.text
        await until(lambda: "many.take_7" in client._idempotent)
        assert "many.odd" not in client._idempotent
        assert (await client.call("aiozpat.statistics"))["running"] == 0


async def test_a_full_or_draining_server_still_says_how_it_is(calc: Calc) -> None:
    limits = Limits(max_concurrency=1, max_queued=0)
    async with (
        Server(calc.service, bind=LOOPBACK, limits=limits) as server,
        Client(server.endpoint) as client,
        RawPeer(server.endpoint) as peer,
    ):
        await peer.open()
        holding = asyncio.create_task(client.call("calc.hold", 1))
        await until(lambda: calc.started == [1])
        with pytest.raises(errors.ResourceExhausted):
            await client.call("calc.add", 1)
        assert await client.call("aiozpat.health") == {"status": "serving"}
        assert await client.call("aiozpat.ping") == "pong"
        closing = asyncio.create_task(server.close())
        await peer.record(GOAWAY)
        await peer.send(header([REQUEST, 1, 0, "aiozpat.health", 10_000, []]))
        assert await peer.record(REPLY) == [REPLY, 1, 0, {"status": "draining"}]
        await peer.send(header([BYE, ""]))
        calc.gate.set()
        assert await holding == 1
        await closing


async def test_calls_of_the_reserved_name_take_nobodys_place_and_are_few_for_each_client(calc: Calc) -> None:
    gate, inside = asyncio.Event(), 0

    async def hold(call: aiozpat.Call, proceed: aiozpat.Proceed) -> Any:
        nonlocal inside
        if call.method == "aiozpat.ping" and call.peer.startswith("raw"):
            inside += 1
            await gate.wait()
        return await proceed()

    def pings(*numbers: int) -> bytes:
        return header(*([REQUEST, number, 0, "aiozpat.ping", 60_000, []] for number in numbers))

    limits = Limits(max_concurrency=1, max_queued=0)
    async with (
        Server(calc.service, bind=LOOPBACK, limits=limits, interceptors=[hold], grace=3600) as server,
        Client(server.endpoint) as client,
        RawPeer(server.endpoint) as peer,
    ):
        await peer.open()
        await peer.send(pings(*range(1, 66)))
        assert (await peer.record(REFUSED, REPLY))[:4] == [REFUSED, 65, 0, errors.StatusCode.RESOURCE_EXHAUSTED]
        assert await client.call("calc.add", 1, 2) == 3
        assert (await client.call("aiozpat.statistics"))["running"] == server.statistics().running == 0
        assert await client.call("aiozpat.ping") == "pong"
        await peer.send(header([CANCEL, 1]))
        await peer.send(pings(66, 67))
        assert (await peer.record(REFUSED, REPLY))[:2] == [REFUSED, 67]
        gate.set()
        assert {(await peer.record(REPLY))[1] for _ in range(64)} == {*range(2, 65), 66}
        gate.clear()
        inside = 0
        await peer.send(pings(*range(101, 165)))  # all places are there again
        await until(lambda: inside == 64)
        closing = asyncio.create_task(server.close())
        await peer.record(GOAWAY)
        await peer.send(header([BYE, ""]))
        await closing  # they are not waited for


def test_the_reserved_name_is_nobodys() -> None:
    for name in ("aiozpat", "aiozpat.more"):
        with pytest.raises(ValueError, match="reserved"):
            Service(name)
    Service("aiozpat_more")


variable: ContextVar[str] = ContextVar("variable", default="unset")


async def test_a_lifespan_opens_before_the_first_call_and_closes_after_the_last(calc: Calc) -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[dict[str, Any]]:
        events.append("open")
        async with anyio.create_task_group() as group:  # which must be left by the task that entered it
            yield {"database": "here"}
            group.cancel_scope.cancel()
        events.append("closed")

    service = Service("s", lifespan=lifespan)

    @service.method
    async def get() -> str:
        events.append("call")
        state = aiozpat.current_call().state
        return f"{state['database']} {variable.get()}"

    @service.method
    async def hold() -> None:
        await calc.gate.wait()
        events.append("held")

    variable.set("set")
    server = await asyncio.create_task(Server(service, calc.service, bind=LOOPBACK).__aenter__())
    assert events == ["open"]
    async with Client(server.endpoint) as client:
        assert await client.call("s.get") == "here set"
        assert await client.call("calc.add", 1) == 1
        holding = asyncio.create_task(client.call("s.hold"))
        await until(lambda: server.statistics().running == 1)
        closing = asyncio.create_task(server.close())
        calc.gate.set()
        await holding
        await closing
    assert events == ["open", "call", "held", "closed"]


async def test_a_lifespan_that_fails_keeps_the_server_from_opening() -> None:
    events: list[str] = []

    def lifespan_of(name: str, *, fails: bool = False, fails_late: bool = False) -> Any:
        @contextlib.asynccontextmanager
        async def lifespan() -> AsyncIterator[None]:
            if fails:
                raise LookupError("no database")
            events.append(f"{name} open")
            try:
                yield
            finally:
                events.append(f"{name} closed")
            if fails_late:
                raise LookupError("can't close")

        return lifespan

    one, two = Service("one", lifespan=lifespan_of("one")), Service("two", lifespan=lifespan_of("two", fails=True))
    with pytest.raises(LookupError, match="no database"):
        async with Server(one, two, bind=LOOPBACK):
            pass
    assert events == ["one open", "one closed"]
    events.clear()
    with pytest.raises(errors.InvalidEndpoint):
        async with Server(one, bind="tcp://203.0.113.1:1"):
            pass
    assert events == ["one open", "one closed"]
    late = Service("late", lifespan=lifespan_of("late", fails_late=True))
    with pytest.raises(LookupError, match="can't close"):
        async with Server(late, bind=LOOPBACK):
            pass


async def test_a_lifespan_that_keeps_what_another_raised_keeps_the_server_from_opening_too() -> None:
    @contextlib.asynccontextmanager
    async def quiet() -> AsyncIterator[None]:
        with contextlib.suppress(LookupError):
            yield

    database: str | None = None

    @contextlib.asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        if database is None:
            raise LookupError("no database")
        yield

    with pytest.raises(errors.UsageError, match=r"the one of two raised, .* LookupError\('no database'\)") as raised:
        async with Server(Service("one", lifespan=quiet), Service("two", lifespan=failing), bind=LOOPBACK):
            pass
    assert isinstance(raised.value.__cause__, LookupError)


async def test_a_lifespan_that_ends_by_itself_stops_the_server(caplog: pytest.LogCaptureFixture) -> None:
    lost = asyncio.Event()

    async def watch() -> None:
        await lost.wait()
        raise ConnectionError("no database any more")

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            yield

    async with Server(Service("s", lifespan=lifespan), bind=LOOPBACK) as server:
        serving = asyncio.create_task(server.serve_forever())
        lost.set()
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(serving, PATIENCE)
        assert isinstance(raised.value.exceptions[0], ConnectionError)
    assert server.statistics().notices == {"lifespan ended": 1}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no database any more" in caplog.text


async def test_cancelling_the_opening_leaves_the_lifespan() -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        events.append("opening")
        try:
            await asyncio.Event().wait()
            yield
        finally:
            events.append("left")

    entering = asyncio.create_task(Server(Service("s", lifespan=slow), bind=LOOPBACK).__aenter__())
    await until(lambda: events == ["opening"])
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert events == ["opening", "left"]
