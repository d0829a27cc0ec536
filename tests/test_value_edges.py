"""Values that could arrive changed, stop everybody else, or raise what nobody expects: refused, with words."""

from __future__ import annotations

import asyncio
import enum
import math
from array import array
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec
import pytest

from aiozpat import JSON, Client, Server, Service, errors
from aiozpat.codec import Decoder, models, pack_rich
from aiozpat.observability.notices import printable
from tests.support import LOOPBACK, PATIENCE

attrs = pytest.importorskip("attrs")
numpy = pytest.importorskip("numpy")
pydantic = pytest.importorskip("pydantic")

T = TypeVar("T")
LARGE = 64 * 1024


class Model(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # the package is there or not
    """A model with what does not come back from a plain dump."""

    model_config = pydantic.ConfigDict(extra="forbid")
    user_id: int = pydantic.Field(alias="userId")
    numbers: list[int] = pydantic.Field(default_factory=list)

    @pydantic.computed_field  # type: ignore[prop-decorator,untyped-decorator]  # as pydantic's documentation has it
    @property
    def double(self) -> int:
        return self.user_id * 2


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass whose checks msgspec would not run."""

    amount: Annotated[int, pydantic.Field(gt=0)]


@dataclass
class Loose:
    """Something that may hold a buffer."""

    value: Any


def values() -> Service:
    service = Service("s")

    @service.method
    async def one(x: int) -> int:
        return x

    @service.method
    async def anything(x: Any) -> Any:
        return x

    @service.method
    async def maybe(x: Any | None, y: Mapping[str, Any]) -> list[str]:
        return [type(x).__name__, type(y["z"]).__name__]

    @service.method
    async def model(x: Model) -> Model:
        return x

    @service.method
    async def fail() -> None:
        raise errors.NotFound("no", details={1: "row", "a": 2})  # type: ignore[dict-item]  # it is carried all the same

    return service


@pytest.mark.parametrize("reads_names", [True, False], ids=["pydantic 2.11", "earlier"])
async def test_a_pydantic_model_comes_back_as_it_was(reads_names: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "reads_names", lambda: reads_names)
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        sent = Model(userId=3)
        assert await client.call("s.model", sent, result_type=Model) == sent


class Renamed(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model that is written by another name than it is read by."""

    written: int = pydantic.Field(serialization_alias="ex")
    read: int = pydantic.Field(default=2, validation_alias="why")


async def test_a_pydantic_model_of_two_names_comes_back_too() -> None:
    service = Service("s")

    @service.method
    async def same(x: Renamed) -> Renamed:
        return x

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        sent = Renamed(written=1, why=3)
        assert await client.call("s.same", sent, result_type=Renamed) == sent


def test_a_union_that_names_a_view_gets_one() -> None:
    wanted: Any = memoryview | list[Any]
    reference = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x00"))
    assert type(Decoder(wanted).decode(reference, [memoryview(bytes(LARGE))])) is memoryview


async def test_a_million_errors_of_a_model_make_a_short_one() -> None:
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.InvalidArgument, match="validation errors for Model") as raised:
            await client.call("s.model", {"userId": 1, "numbers": [None] * 5000})
        assert len(str(raised.value)) < 200
        with pytest.raises(errors.InvalidArgument, match="valid integer"):
            await client.call("s.model", {"userId": "x"})
    assert len(printable("x" * 100_000)) <= 2000


def test_what_holds_no_buffer_is_never_decoded_without_types() -> None:
    colliding = msgspec.msgpack.encode({(number, "x"): 0 for number in range(10)})
    with pytest.raises(msgspec.ValidationError, match="Expected `int`, got `object`"):
        Decoder(int).decode(colliding, [memoryview(bytes(LARGE))])
    assert Decoder(Loose).decode(msgspec.msgpack.encode({"value": 1}), [memoryview(bytes(LARGE))]) == Loose(1)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE])
async def test_values_without_a_type_are_of_the_same_type_whatever_their_size(size: int) -> None:
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("s.maybe", bytes(size), {"z": bytes(size)}) == ["bytes", "bytes"]
        assert type(await client.call("s.anything", bytes(size), result_type=Any | None)) is bytes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda: numpy.ma.array([1, -9999], mask=[0, 1]), "mask"),
        (lambda: numpy.datetime64("2026-01-02T03:04:05.000000001", "ns"), "no value of Python's own"),
        (lambda: numpy.timedelta64(3, "M"), "no value of Python's own"),
        (lambda: numpy.datetime64("NaT", "s"), "no value of Python's own"),
        (lambda: numpy.zeros(1, [("a", "i4")])[0], "no value of Python's own"),
        (lambda: numpy.longdouble(1), "no value of Python's own"),
    ],
)
async def test_values_of_numpy_that_would_change_are_refused(value: Any, text: str) -> None:
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.InvalidArgument, match=text):
            await client.call("s.anything", value())
        assert await client.call("s.anything", numpy.int32(3)) == 3


async def test_text_that_is_none_and_released_views_are_invalid_arguments() -> None:
    view = memoryview(bytes(LARGE))
    view.release()
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for asking in (
            client.call("s.anything", view),
            client.call("s.anything\ud800"),
            client.call("s.anything", 1, metadata={"a": "\ud800"}),
        ):
            with pytest.raises(errors.InvalidArgument) as raised:
                await asyncio.wait_for(asking, PATIENCE)
            assert str(raised.value).encode()  # can be printed, whatever the name was
        assert await client.call("s.one", 1) == 1


async def test_text_that_is_none_is_an_invalid_argument_with_another_codec_too() -> None:
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint, codec=JSON()) as client:
        for asking in (client.call("s.anything\ud800"), client.call("s.anything", 1, metadata={"a": "\ud800"})):
            with pytest.raises(errors.InvalidArgument, match="can't be encoded"):
                await asyncio.wait_for(asking, PATIENCE)
        assert await client.call("s.one", 1) == 1


@pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])
async def test_views_with_gaps_travel_whatever_their_size(size: int) -> None:
    service = Service("s")
    data = bytes(range(250)) * (2 * size // 250)
    gaps, backwards = memoryview(data)[::2], memoryview(data)[::-1]

    @service.method
    async def echo(data: bytes) -> bytes:
        return data

    @service.method
    async def give() -> memoryview:
        return gaps

    @service.method
    async def items() -> AsyncIterator[memoryview]:
        yield backwards

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("s.echo", gaps, result_type=bytes) == data[::2]
        assert await client.call("s.echo", params={"data": backwards}, result_type=bytes) == data[::-1]
        assert await client.call("s.give", result_type=bytes) == data[::2]
        async with client.stream("s.items", item_type=bytes) as stream:
            assert [item async for item in stream] == [data[::-1]]


@dataclass
class Wanted:
    """Bytes in several places."""

    a: tuple[bytes, tuple[int, bytes]]
    array: bytes


@pytest.mark.parametrize("codec", [None, JSON()], ids=["msgpack", "json"])
async def test_views_with_gaps_travel_within_other_values_too(codec: JSON | None) -> None:
    service = Service("s")
    gaps = memoryview(bytes(range(200)))[::2]
    held = {"a": [gaps, (1, gaps)], "array": array("B", bytes(LARGE))}

    wanted = Wanted(a=(bytes(gaps), (1, bytes(gaps))), array=bytes(LARGE))

    @service.method
    async def give(x: Wanted) -> Any:
        assert x == wanted
        return held

    @service.method
    async def items() -> AsyncIterator[Any]:
        yield held

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, codec=codec) as client:
        assert await client.call("s.give", held, result_type=Wanted) == wanted
        async with client.stream("s.items", item_type=Wanted) as stream:
            assert [item async for item in stream] == [wanted]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (range(3), "objects of type range can't be encoded: send a list of what it holds"),
        ([iter([1])], r"list_iterator can't be encoded: send a list, or for a stream an async iterator"),
        ({"a": {}.keys()}, "dict_keys can't be encoded: send a list"),
        (object(), "objects of type object can't be encoded$"),
    ],
)
async def test_what_to_send_in_the_place_of_what_cant_be_encoded_is_said(value: Any, text: str) -> None:
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.InvalidArgument, match=text):
            await client.call("s.anything", value)


async def test_the_details_of_an_error_may_be_numbered() -> None:
    async with Server(values(), bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.NotFound) as raised:
            await client.call("s.fail")
    assert dict[Any, Any](raised.value.details) == {1: "row", "a": 2}


class Repository(Generic[T]):
    """An interface of types that nobody knows."""

    async def get(self, key: str) -> list[T]:
        raise NotImplementedError


class Users(Repository[int]):
    """The same."""


class Static:
    """An interface with what can't be called on an object elsewhere."""

    @staticmethod
    def check() -> None:
        raise NotImplementedError


class Unknown(Protocol):
    """No type for a value."""


async def _numbers(items: AsyncIterator[complex]) -> None:
    """Nothing."""


async def _nested(x: list[Leading]) -> None:
    """Nothing."""


@dataclass
class Leading:
    """A type that leads nowhere."""

    further: list[Nowhere]  # type: ignore[name-defined]  # noqa: F821 - the point


@pytest.mark.parametrize(
    ("register", "text"),
    [
        (lambda: Client("tcp://127.0.0.1:9").stub(Users), "nobody says what type"),
        (lambda: Client("tcp://127.0.0.1:9").stub(Static), "staticmethod, and no method"),
        (lambda: Service("s").method(_checked), "use a BaseModel"),
        (lambda: Service("s").method(_numbers), "the items that it takes can't be decoded"),
        (lambda: Service("s").method(_nested), "can't be decoded"),
    ],
)
def test_what_can_not_travel_is_refused_when_it_is_registered(register: Any, text: str) -> None:
    with pytest.raises(errors.UsageError, match=text):
        register()


async def _checked(x: Checked) -> None:
    """Nothing."""


class Named(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model with bytes, which pydantic reads from text, and an address."""

    data: bytes
    url: pydantic.HttpUrl | None = None  # type: ignore[name-defined]  # as above


@pytest.mark.parametrize("codec", [None, JSON()], ids=["msgpack", "json"])
async def test_bytes_and_addresses_of_a_pydantic_model_come_back_or_are_refused(codec: JSON | None) -> None:
    service = Service("s")

    @service.method
    async def same(x: Named) -> Named:
        return x

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, codec=codec) as client:
        sent = Named(data=b"hi", url="https://example.org/a?b=1")
        assert await client.call("s.same", sent, result_type=Named) == sent
        binary = Named(data=b"\xff\0")
        if codec is None:
            assert await client.call("s.same", binary, result_type=Named) == binary
        else:
            with pytest.raises(errors.InvalidArgument, match=r"pydantic reads .* val_json_bytes='base64'"):
                await client.call("s.same", binary)


class Shifted(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model whose fields would take each other's values."""

    name: str = pydantic.Field(alias="title")
    title: str = pydantic.Field(validation_alias=pydantic.AliasChoices("heading", "head"))


class Opaque(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model of what pydantic takes as it is only."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    values: list[numpy.ndarray]  # type: ignore[name-defined]  # as above


class MayHold(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model that travels as long as it holds none of it."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    values: numpy.ndarray | None = None  # type: ignore[name-defined]  # as above


class Read(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model that says how it reads an array, has another with itself only, and reads by a name of its own."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    values: Annotated[
        numpy.ndarray,  # type: ignore[name-defined]  # as above
        pydantic.BeforeValidator(numpy.array),
        pydantic.PlainSerializer(lambda array: array.tolist()),
    ]
    cached: numpy.ndarray | None = pydantic.Field(None, exclude=True)  # type: ignore[name-defined]  # as above
    type: int = pydantic.Field(1, alias="type")


class Holder(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model of models."""

    shifted: dict[str, Shifted]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Shifted, "'title' is an alias of 'name'"),
        (Holder, "'title' is an alias"),
        (Opaque, "takes nothing else for it"),
    ],
)
def test_models_whose_fields_cant_travel_are_refused_when_they_are_registered(kind: Any, text: str) -> None:
    async def take(x: Any) -> None: ...

    take.__annotations__["x"] = list[kind]
    with pytest.raises(errors.UsageError, match=text):
        Service("s").method(take)


async def test_a_model_that_may_do_without_what_cant_travel_does_so() -> None:
    service = Service("s")

    @service.method
    async def same(x: MayHold) -> MayHold:
        return x

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        assert await client.call("s.same", MayHold(), result_type=MayHold) == MayHold()


def test_a_model_that_reads_what_it_sends_may_hold_anything() -> None:
    sent = Read(values=numpy.array([1, 2]))
    back = Decoder(Read).plain(pack_rich(sent, [], copy=True))
    assert (back.values.tolist(), back.cached, back.type) == ([1, 2], None, 1)


class InBase64(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model that reads bytes in a way of its own."""

    model_config = pydantic.ConfigDict(val_json_bytes="base64")
    data: bytes
    more: list[bytes] = pydantic.Field(default_factory=list)


class InHex(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """The same."""

    model_config = pydantic.ConfigDict(val_json_bytes="hex")
    data: bytes


class InBoth(InHex):
    """A model of two ways."""

    inner: InBase64


@pytest.mark.parametrize("codec", [None, JSON()], ids=["msgpack", "json"])
async def test_bytes_of_models_travel_as_those_read_them(codec: JSON | None) -> None:
    service = Service("s")

    @service.method
    async def first(x: InBase64) -> InBase64:
        return x

    @service.method
    async def second(x: InHex) -> InHex:
        return x

    @service.method
    async def both(x: InBoth) -> bytes:
        return bytes(x.inner.data)

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, codec=codec) as client:
        for name, kind in (("s.first", InBase64), ("s.second", InHex)):
            for data in (b"secret12", b"\xff\xfe\0", b""):
                sent = kind.model_construct(data=data)
                assert await client.call(name, sent, result_type=kind) == sent
        two = InBoth.model_construct(data=b"ab", inner=InBase64.model_construct(data=b"cd", more=[]))
        if codec is None:
            assert await client.call("s.both", two, result_type=bytes) == b"cd"
        else:
            with pytest.raises(errors.InvalidArgument, match="in more than one way"):
                await client.call("s.both", two)


class Colour(enum.Enum):
    """A value that is text on the wire."""

    RED = "red"


class Strict(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A strict model of what is text on the wire."""

    model_config = pydantic.ConfigDict(strict=True)
    day: date = date(2026, 1, 2)
    when: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    key: UUID = UUID(int=1)
    price: Decimal = Decimal("1.10")
    lasts: timedelta = timedelta(1)
    colour: Colour = Colour.RED
    pair: tuple[int, str] = (1, "a")
    numbers: set[int] = pydantic.Field(default_factory=lambda: {1})
    numbered: dict[int, float] = pydantic.Field(default_factory=dict)
    count: int = 1


class Stricter(pydantic.BaseModel):  # type: ignore[misc,name-defined]  # as above
    """A model with a strict field, and another strict model with bytes, which alone would travel."""

    day: date = pydantic.Field(date(2026, 1, 2), strict=True)
    data: bytes | None = None


@pytest.mark.parametrize("codec", [None, JSON()], ids=["msgpack", "json"])
async def test_strict_models_take_what_is_text_on_the_wire_and_stay_strict(codec: JSON | None) -> None:
    service = Service("s")

    @service.method
    async def same(x: Strict) -> Strict:
        return x

    @service.method
    async def field(x: Stricter) -> Stricter:
        return x

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, codec=codec) as client:
        sent = Strict(numbered={1: 1.5 if codec else math.inf})
        assert await client.call("s.same", sent, result_type=Strict) == sent
        assert await client.call("s.field", Stricter(), result_type=Stricter) == Stricter()
        with pytest.raises(errors.InvalidArgument, match="count"):
            await client.call("s.same", {"count": "1"})
        with pytest.raises(errors.InvalidArgument, match="validation errors for Strict"):
            await client.call("s.same", {"numbers": ["x"] * 50})
        if codec is None:
            with pytest.raises(errors.InvalidArgument, match="Stricter is strict, so that it takes dates"):
                await client.call("s.field", Stricter(data=b"x"))


@attrs.define
class Private:
    """A class with an attribute that msgspec passes over."""

    _hidden: int = 1


def test_private_attributes_of_attrs_are_refused_and_not_lost() -> None:
    with pytest.raises(TypeError, match="private attributes of attrs, as '_hidden', don't travel"):
        Decoder(list[Private])


@dataclass(frozen=True)
class Key:
    """A key that is a map on the wire."""

    x: int


class Ordered(msgspec.Struct, array_like=True, frozen=True):
    """A key that is an array there."""

    x: int


@pytest.mark.parametrize("kind", [Key, tuple[int, Key], Key | None, Model])
def test_keys_that_are_maps_are_refused_and_those_that_are_arrays_work_beside_buffers(kind: Any) -> None:
    with pytest.raises(TypeError, match="can't be, or be in, the key of a dict: use a tuple"):
        Decoder(dict[kind, int])
    raw = msgspec.msgpack.encode({Ordered(1): 2})
    for buffers in ([], [memoryview(bytes(LARGE))]):
        assert Decoder(dict[Ordered, Any]).decode(raw, buffers) == {Ordered(1): 2}
    assert Decoder(dict[Any, int]).plain(msgspec.msgpack.encode({1: 2})) == {1: 2}


@pytest.mark.parametrize("kind", [msgspec.Raw, msgspec.msgpack.Ext])
def test_what_is_sent_as_it_is_has_no_type_to_ask_for(kind: Any) -> None:
    with pytest.raises(TypeError, match="msgspec's Raw and Ext"):
        Decoder(list[kind])


async def test_an_array_in_a_tuple_of_any_length_is_bytes_whatever_its_size() -> None:
    service = Service("s")

    @service.method
    async def kinds(x: tuple[Any, ...]) -> list[str]:
        return [type(part).__name__ for part in x]

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for size in (8, LARGE):
            assert await client.call("s.kinds", (array("B", bytes(size)), 1)) == ["bytes", "int"]


class Odd(BaseException):
    """As a compiled extension's panic may be."""


RAISES: dict[str, type[BaseException]] = {
    "cancelled": asyncio.CancelledError,
    "exit": SystemExit,
    "generator": GeneratorExit,
    "odd": Odd,
    "zero": ZeroDivisionError,
    "key": KeyError,
}


@dataclass
class Picky:
    """Whose own validation raises what no validation should."""

    kind: str

    def __post_init__(self) -> None:
        if self.kind in RAISES:
            raise RAISES[self.kind]("no")


@pytest.mark.parametrize("kind", RAISES)
@pytest.mark.parametrize("codec", [None, JSON()])
async def test_whatever_a_validation_raises_concerns_its_own_call_alone(kind: str, codec: JSON | None) -> None:
    service = Service("s")
    name = RAISES[kind].__name__

    @service.method
    async def take(picky: Picky) -> str:
        return picky.kind

    @service.method
    async def give(kind: str) -> Any:
        return {"kind": kind}

    @service.method
    async def stream(kind: str) -> AsyncIterator[Any]:
        yield {"kind": "good"}
        yield {"kind": kind}

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint, codec=codec) as client:
        calls = [client.call("s.take", {"kind": given}, timeout=PATIENCE) for given in ("a", kind, "b", "c")]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(outcomes[1], errors.InvalidArgument)
        assert name in str(outcomes[1])
        assert [outcomes[0], *outcomes[2:]] == ["a", "b", "c"]
        with pytest.raises(errors.Internal, match=name):
            await client.call("s.give", kind, result_type=Picky, timeout=PATIENCE)
        async with client.stream("s.stream", kind, item_type=Picky) as items:
            assert await anext(items) == Picky("good")
            with pytest.raises(errors.RpcError, match=name):
                await anext(items)
        assert await client.call("s.take", {"kind": "still here"}) == "still here"


class Unset(msgspec.Struct):
    a: int


class Hostile:
    """What is asked for an attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError("not even that")


async def test_what_raises_whatever_it_likes_when_it_is_encoded_is_an_invalid_argument() -> None:
    service = Service("s")

    @service.method
    async def take(value: Any) -> None:
        """Take anything."""

    unset = Unset(1)
    del unset.a
    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        for value in (unset, Hostile()):
            for send in (client.call, client.notify):
                with pytest.raises(errors.InvalidArgument, match=r"s\.take.*can't be encoded"):
                    await send("s.take", value)


async def test_an_extension_that_is_none_of_ours_is_told_with_the_methods_name() -> None:
    service = Service("s")

    @service.method
    async def take(value: Any) -> None:
        """Take anything."""

    async with Server(service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        with pytest.raises(errors.InvalidArgument, match=r"s\.take\(value\): .*extension 5"):
            await client.call("s.take", msgspec.msgpack.Ext(5, b"x"))
