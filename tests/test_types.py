"""What params, results and items may be, with MessagePack, JSON, and a codec of one's own."""

from __future__ import annotations

import array
import enum
import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import numpy
import pydantic
import pytest
from numpy.typing import NDArray

import aiozpat
from aiozpat import JSON, Client, Codec, Server, Service, SocketOptions, errors
from aiozpat.codec import ForeignItemDecoder, Values, schema_of
from tests.support import LOOPBACK

LARGE = 50_000  # numbers of eight bytes: past the size from which bytes travel apart


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tagged(msgspec.Struct, tag=True):
    x: int


class Other(msgspec.Struct, tag=True):
    y: str


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    depth: int


@attrs.define
class Attrs:
    x: int
    tags: list[str] = attrs.field(factory=list)


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)
    when: datetime
    inner: list[int] = []


@dataclass
class Everything:
    """One of each kind."""

    text: str = "é"
    number: float = 0.5
    colour: Colour = Colour.BLUE
    when: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    day: date = date(2026, 1, 2)
    at: time = time(3, 4)
    lasts: timedelta = timedelta(seconds=90)
    key: UUID = field(default_factory=lambda: UUID(int=7))
    price: Decimal = Decimal("1.10")
    either: Tagged | Other | None = field(default_factory=lambda: Other("y"))
    pair: Pair = field(default_factory=lambda: Pair(1, "r"))
    options: Options = field(default_factory=lambda: Options(depth=3))
    by_number: dict[int, set[str]] = field(default_factory=lambda: {1: {"a"}})
    choice: Literal["a", 1] = "a"
    raw: bytes = b"\x00\xff"
    attrs: Attrs = field(default_factory=lambda: Attrs(1, ["t"]))
    nested: list[tuple[int, ...]] = field(default_factory=lambda: [(1, 2), ()])


class Types:
    """The interface."""

    async def everything(self, value: Everything) -> Everything:
        raise NotImplementedError

    async def model(self, value: Model, others: list[Model]) -> Model:
        raise NotImplementedError

    async def double(self, values: NDArray[numpy.float64], by: float = 2.0) -> NDArray[numpy.float64]:
        raise NotImplementedError

    async def any_array(self, values: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        raise NotImplementedError

    def arrays(self, count: int, size: int) -> AsyncIterator[NDArray[numpy.int32]]:
        raise NotImplementedError

    async def total(self, arrays: AsyncIterator[NDArray[numpy.int32]]) -> int:
        raise NotImplementedError

    async def raw(self, data: bytes) -> bytes:
        raise NotImplementedError


class TypesServed(Types):
    async def everything(self, value: Everything) -> Everything:
        return value

    async def model(self, value: Model, others: list[Model]) -> Model:
        assert all(isinstance(other, Model) for other in others)
        return value

    async def double(self, values: NDArray[numpy.float64], by: float = 2.0) -> NDArray[numpy.float64]:
        return values * by

    async def any_array(self, values: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return values

    async def arrays(self, count: int, size: int) -> AsyncIterator[NDArray[numpy.int32]]:
        reused = numpy.empty(size, numpy.int32)
        for number in range(count):
            reused[:] = number
            yield reused

    async def total(self, arrays: AsyncIterator[NDArray[numpy.int32]]) -> int:
        return sum([int(values.sum()) async for values in arrays])

    async def raw(self, data: bytes) -> bytes:
        return data


class Shout:
    """A codec of one's own: JSON in capital letters is still JSON, but for text."""

    name: ClassVar[str] = "shout"
    natives: ClassVar[tuple[type, ...]] = ()

    def encode(self, value: Any) -> bytes:
        return b"!" + json.dumps(value).encode()

    def decode(self, data: bytes) -> Any:
        if data[:1] != b"!":
            raise ValueError("it is not loud enough")
        return json.loads(data[1:])


@pytest.fixture(params=[None, JSON(), Shout()], ids=["msgpack", "json", "own"])
def codec(request: pytest.FixtureRequest) -> Codec | None:
    chosen: Codec | None = request.param
    return chosen


def server() -> Server:
    return Server(Service("types", TypesServed(), interface=Types), bind=LOOPBACK, codecs=[Shout()])


async def test_a_value_of_each_kind_goes_there_and_back(codec: Codec | None) -> None:
    async with server() as serving, Client(serving.endpoint, codec=codec) as client:
        types = client.stub(Types)
        assert await types.everything(Everything()) == Everything()
        given = Everything(either=Tagged(3), when=datetime(1999, 1, 1, tzinfo=UTC), raw=b"", by_number={})
        assert await types.everything(given) == given
        assert await types.raw(b"\x00\x01") == b"\x00\x01"
        assert await client.call("types.raw", params={"data": b"x"}, result_type=bytes) == b"x"
        with pytest.raises(errors.InvalidArgument, match=r"types\.everything"):
            await types.everything("nothing")  # type: ignore[arg-type]  # the mistake


async def test_pydantic_models_are_validated_by_pydantic(codec: Codec | None) -> None:
    async with server() as serving, Client(serving.endpoint, codec=codec) as client:
        types = client.stub(Types)
        model = Model(name="ab", when=datetime(2026, 1, 1, tzinfo=UTC), inner=[1])
        assert await types.model(model, [model, model]) == model
        with pytest.raises(errors.InvalidArgument, match="at least 2 characters"):
            await types.model(model, [Model.model_construct(name="a", when=model.when, inner=[])])


async def test_arrays_go_there_and_back(codec: Codec | None) -> None:
    async with server() as serving, Client(serving.endpoint, codec=codec) as client:
        types = client.stub(Types)
        values = numpy.arange(6.0).reshape(2, 3)
        assert numpy.array_equal(await types.double(values), values * 2)
        assert numpy.array_equal(await types.double(values.T, 3.0), values.T * 3)
        for given in (
            numpy.array([], dtype=numpy.int16),
            numpy.array(7),
            numpy.array(["ab", "c"]),
            numpy.array([b"ab", b"c"]),
            numpy.array(["2026-01-02"], dtype="datetime64[D]"),
            numpy.array([True, False]),
            numpy.array([1 + 2j]),
            numpy.arange(10)[::2],
        ):
            back = await types.any_array(given)
            assert back.dtype == given.dtype
            assert back.shape == given.shape
            assert numpy.array_equal(back, given)
        got = [values.tolist() async for values in types.arrays(3, 2)]
        assert got == [[0, 0], [1, 1], [2, 2]]
        with pytest.raises(errors.InvalidArgument, match="expected an array of float64, got int32"):
            await types.double(numpy.arange(3, dtype=numpy.int32))
        with pytest.raises(errors.InvalidArgument, match="arrays of object can't be sent"):
            await types.any_array(numpy.array([object()]))


Flat = numpy.ndarray[tuple[int], numpy.dtype[Any]]
Square = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float32 | numpy.float64]]


async def test_arrays_are_of_the_types_and_dimensions_that_were_asked_for(codec: Codec | None) -> None:
    service = Service("s")

    @service.method
    async def square(values: Square) -> list[int]:
        return list(values.shape)

    @service.method
    async def flat(values: Flat) -> int:
        return len(values)

    async with (
        Server(service, bind=LOOPBACK, codecs=[Shout()]) as serving,
        Client(serving.endpoint, codec=codec) as client,
    ):
        for dtype in ("f4", "f8"):
            assert await client.call("s.square", numpy.zeros((2, 3), dtype)) == [2, 3]
        assert await client.call("s.flat", numpy.zeros(3, "i2")) == 3
        for name, given, says in (
            ("s.square", numpy.zeros((2, 3), "i4"), "expected an array of float32 or float64, got int32"),
            ("s.square", numpy.zeros(6), "expected an array of 2 dimensions, got 1"),
            ("s.flat", numpy.zeros(()), "expected an array of 1 dimensions, got 0"),
            ("s.flat", [1, 2, 3], r"expected a numpy array \(its type, shape and bytes\), got list"),
            ("s.flat", 7, r"expected a numpy array .*, got int"),
        ):
            with pytest.raises(errors.InvalidArgument, match=says):
                await client.call(name, given)


async def test_large_arrays_travel_apart_without_a_copy_on_arrival() -> None:
    async with server() as serving, Client(serving.endpoint) as client:
        types = client.stub(Types)
        values = numpy.arange(float(LARGE))
        back = await types.double(values)
        assert numpy.array_equal(back, values * 2)
        assert not back.flags.owndata  # it is the frame itself
        async with client.stream("types.arrays", 20, LARGE, item_type=NDArray[numpy.int32]) as arrays:
            assert [int(one[0]) async for one in arrays] == list(range(20))

        async def source() -> AsyncIterator[Any]:
            reused = numpy.empty(LARGE, numpy.int32)
            for number in range(10):
                reused[:] = number
                yield reused

        assert await types.total(source()) == LARGE * 45


async def test_other_buffers_are_taken_as_bytes() -> None:
    async with server() as serving, Client(serving.endpoint) as client:
        for size in (3, 100_000):
            data = array.array("H", range(3)) * (size // 3)
            assert await client.call("types.raw", data, result_type=bytes) == data.tobytes()
            nested = await client.call("types.raw", memoryview(data).cast("B"), result_type=memoryview)
            assert nested == data.tobytes()


async def test_an_array_that_is_none_is_refused() -> None:
    async with server() as serving, Client(serving.endpoint) as client:
        for wrong in (
            "text",
            ["<f8", [2]],
            ["<f8", [2], b"1234567"],
            ["<f8", [3], b"12345678"],
            ["O", [1], b"12345678"],
            ["i4,i4", [1], b"12345678"],
            ["nonsense", [1], b"12345678"],
            ["<f8", [-1, -1], b"12345678"],
            ["<f8", ["1"], b"12345678"],
            [1, [1], b"12345678"],
            ["<f8", 1.5, b"12345678"],
            ["<f8", [1], "12345678"],
        ):
            with pytest.raises(errors.InvalidArgument, match=r"types\.any_array"):
                await client.call("types.any_array", wrong)
        assert await client.call("aiozpat.ping") == "pong"


async def test_an_array_of_64_mib_passes_with_limits_raised_by_name() -> None:
    size = 64 * 2**20
    options = SocketOptions(max_message_bytes=size + 2**20)
    serving = Server(Service("types", TypesServed(), interface=Types), bind=LOOPBACK, options=options)
    async with serving, Client(serving.endpoint, options=options) as client:
        values = numpy.zeros(size // 8)
        values[-1] = 1
        assert (await client.stub(Types).double(values))[-1] == 2


class Opaque:
    pass


@dataclass
class Holds:
    values: list[Opaque]


async def test_a_type_that_cant_travel_is_named_at_registration_or_where_it_is_asked_for() -> None:
    async def handler(value: Holds) -> None:
        """Nothing."""

    with pytest.raises(errors.UsageError, match=r"s\.handler: .*Opaque.* is no type that can travel"):
        Service("s").method(handler)
    async with server() as serving, Client(serving.endpoint) as client:
        with pytest.raises(errors.UsageError, match="Opaque"):
            await client.call("types.raw", b"", result_type=Opaque)
        with pytest.raises(errors.InvalidArgument, match="type Opaque"):
            await client.call("types.raw", Opaque())


async def test_streams_and_errors_with_each_codec(codec: Codec | None) -> None:
    service = Service("s")

    @service.method
    async def echo(items: AsyncIterator[datetime], *, shift: int = 0) -> AsyncIterator[datetime]:
        async for item in items:
            yield item + timedelta(days=shift)

    @service.method
    async def fail() -> None:
        raise errors.NotFound("nothing", details={"looked": ["here"]})

    first = datetime(2026, 1, 1, tzinfo=UTC)

    async def days() -> AsyncIterator[datetime]:
        for number in range(300):
            yield first + timedelta(days=number)

    async with (
        Server(service, bind=LOOPBACK, codecs=[Shout()]) as serving,
        Client(serving.endpoint, codec=codec) as client,
    ):
        async with client.stream("s.echo", days(), item_type=datetime) as items:
            assert [item async for item in items] == [first + timedelta(days=n) for n in range(300)]
        with pytest.raises(errors.NotFound) as caught:
            await client.call("s.fail")
        assert caught.value.details == {"looked": ["here"]}
        with pytest.raises(errors.InvalidArgument, match="an item"):
            async with client.open("s.echo") as talk:
                await talk.send("yesterday")
                await anext(talk)
        with pytest.raises(errors.InvalidArgument, match="can't be encoded"):
            async with client.open("s.echo") as talk:
                await talk.send(object())
        await client.notify("s.fail")
        assert "json" in (await client.call("aiozpat.info"))["codecs"]


async def test_items_of_another_codec_have_one_decoder_for_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    service, made = Service("s"), []

    @service.method
    async def total(items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    class Counted(ForeignItemDecoder):
        def __init__(self, values: Values, wanted: Any) -> None:
            super().__init__(values, wanted)
            made.append(values.name)

    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    monkeypatch.setattr("aiozpat.rpc.route.ForeignItemDecoder", Counted)
    async with Server(service, bind=LOOPBACK, codecs=[Shout()]) as serving:
        for codec in (JSON(), Shout(), None, JSON()):
            async with Client(serving.endpoint, codec=codec) as client:
                assert [await client.call("s.total", numbers()) for _ in range(2)] == [3, 3]
    assert made == ["json", "shout"]


async def test_a_codec_that_gives_no_bytes_is_named_as_the_cause() -> None:
    class Texts(Shout):
        def encode(self, value: Any) -> bytes:
            return json.dumps(value)  # type: ignore[return-value]  # that is the point

    service = Service("any")

    @service.method
    async def same(value: object) -> object:
        return value

    says = r"codec 'shout': encode\(\) must return bytes; it returned str"
    kinds: list[tuple[Codec, Codec, type[Exception]]] = [
        (Shout(), Texts(), errors.InvalidArgument),
        (Texts(), Shout(), errors.Internal),
    ]
    for there, here, error in kinds:
        async with (
            Server(service, bind=LOOPBACK, codecs=[there]) as serving,
            Client(serving.endpoint, codec=here) as client,
        ):
            with pytest.raises(error, match=says):
                await client.call("any.same", 1)


def test_a_codec_needs_a_name_of_its_own() -> None:
    class Named(Shout):
        def __init__(self, name: Any) -> None:
            self.name = name  # type: ignore[misc]  # an instance's own

    for name, error, says in (("msgpack", ValueError, "needs one of its own"), (5, TypeError, "name is text")):
        with pytest.raises(error, match=says):
            Client("tcp://127.0.0.1:1", codec=Named(name))
        with pytest.raises(error, match=says):
            Server(Service("s"), bind=LOOPBACK, codecs=[Named(name)])
    with pytest.raises(ValueError, match="two codecs of one Server have the name 'a'"):
        Server(Service("s"), bind=LOOPBACK, codecs=[Named("a"), Named("a")])
    Server(Service("s"), bind=LOOPBACK, codecs=[Named("json"), Named("b")])


async def test_a_codec_that_the_server_lacks_is_named() -> None:
    service = Service("s")
    async with Server(service, bind=LOOPBACK) as serving, Client(serving.endpoint, codec=Shout()) as client:
        with pytest.raises(errors.Unimplemented, match="codec 'shout' is not spoken here, but msgpack, json"):
            await client.call("s.any")
    assert aiozpat.JSON is JSON


async def test_values_of_no_declared_type_come_back_as_they_were(codec: Codec | None) -> None:
    service = Service("any")

    @service.method
    async def same(value: object) -> object:
        return value

    async with (
        Server(service, bind=LOOPBACK, codecs=[Shout()]) as serving,
        Client(serving.endpoint, codec=codec) as client,
    ):
        for value in (["red", "green", "blue!"], ["a", "b", "c"], {"k": ["x", "y", "abcd"]}):
            assert await client.call("any.same", value) == value


async def test_what_a_handler_gives_and_nobody_can_get_is_the_servers_failure(
    codec: Codec | None, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service("bad")

    @service.method
    async def item() -> AsyncIterator[object]:
        yield 1
        yield object()

    @service.method
    async def result() -> object:
        return object()

    @service.method
    async def total(items: AsyncIterator[Any]) -> int:
        return len([item async for item in items])

    async with (
        Server(service, bind=LOOPBACK, codecs=[Shout()]) as serving,
        Client(serving.endpoint, codec=codec) as client,
    ):
        got = []
        with pytest.raises(errors.Internal, match=r"an item of bad\.item can't be encoded"):
            async with client.stream("bad.item") as items:
                async for one in items:
                    got.append(one)  # noqa: PERF401 - those before the error count
        assert got == [1]
        with pytest.raises(errors.Internal, match=r"the result of bad\.result can't be encoded"):
            await client.call("bad.result")
        logged = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert [text.partition(" can't")[0] for text in logged] == ["an item of bad.item", "the result of bad.result"]
        with pytest.raises(errors.InvalidArgument, match=r"an item of bad\.total can't be encoded"):
            async with client.open("bad.total") as talk:
                await talk.send(object())
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 2


async def test_json_refuses_what_it_has_not() -> None:
    async with server() as serving, Client(serving.endpoint, codec=JSON()) as client:
        for value in (float("nan"), [1, {"a": [float("-inf")]}]):
            with pytest.raises(errors.InvalidArgument, match="JSON has no"):
                await client.call("types.any_array", value)
        assert JSON().encode([None, 1.5]) == b"[null,1.5]"


def test_a_field_called_default_is_in_its_schema() -> None:
    class Odd(msgspec.Struct):
        default: float = math.inf
        other: float = math.inf

    fields = schema_of(Odd)["$defs"]["Odd"]["properties"]
    assert fields == {"default": {"type": "number"}, "other": {"type": "number"}}
