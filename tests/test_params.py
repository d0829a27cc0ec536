"""From a signature to its params: by position and by name, typed, with buffers; what does not fit is named."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiozpat.errors import InvalidArgument, UsageError
from aiozpat.rpc.params import Params
from aiozpat.rpc.signature import signature_of

pack = msgspec.msgpack.encode


class Colour(Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: int = 0


def plain(a: int, b: str) -> None: ...


def defaulted(a: int, b: int = 2, c: int = 3) -> None: ...


def keyword_only(a: int, b: int = 2, *, c: int, d: int = 4) -> None: ...


def positional_only(a: int, /, b: int = 2) -> None: ...


def nothing() -> None: ...


def anything(value: Any) -> None: ...


def typed(
    point: Point,
    colour: Colour = Colour.RED,
    when: datetime.date | None = None,
    small: Annotated[int, msgspec.Meta(lt=10)] = 0,
) -> None: ...


def awkward(self: int, cls: int, name: int, __init__: int) -> None: ...


def params_of(handler: Callable[..., Any]) -> Params:
    return Params("t.method", signature_of("t.method", handler).parameters)


FITTING: list[tuple[Callable[..., Any], Any, tuple[Any, ...]]] = [
    (plain, [1, "x"], (1, "x")),
    (plain, {"a": 1, "b": "x"}, (1, "x")),
    (plain, {"b": "x", "a": 1}, (1, "x")),
    (defaulted, [1], (1, 2, 3)),
    (defaulted, [1, 5], (1, 5, 3)),
    (defaulted, [1, 5, 6], (1, 5, 6)),
    (defaulted, {"a": 1, "c": 6}, (1, 2, 6)),
    (keyword_only, {"a": 1, "c": 3}, (1, 2, 3, 4)),
    (keyword_only, {"d": 7, "c": 3, "b": 5, "a": 1}, (1, 5, 3, 7)),
    (keyword_only, [1, 5, 3], (1, 5, 3, 4)),
    (positional_only, [1], (1, 2)),
    (positional_only, {"a": 1, "b": 3}, (1, 3)),
    (nothing, [], ()),
    (nothing, {}, ()),
    (anything, [{"a": [None, 1.5, "x", b"y"]}], ({"a": [None, 1.5, "x", b"y"]},)),
    (anything, {"value": None}, (None,)),
    (typed, [{"x": 1}], (Point(1), Colour.RED, None, 0)),
    (typed, [{"x": 1, "y": 2}, "red", "2026-01-31", 9], (Point(1, 2), Colour.RED, datetime.date(2026, 1, 31), 9)),
    (awkward, {"self": 1, "cls": 2, "name": 3, "__init__": 4}, (1, 2, 3, 4)),
    (awkward, [1, 2, 3, 4], (1, 2, 3, 4)),
]


@pytest.mark.parametrize(("handler", "sent", "expected"), FITTING)
def test_params_that_fit(handler: Callable[..., Any], sent: Any, expected: tuple[Any, ...]) -> None:
    params = params_of(handler)
    assert params.decode(pack(sent)) == expected
    if isinstance(sent, list):
        assert params.fast(pack(sent)) == expected


MISFITS: list[tuple[Callable[..., Any], Any, str]] = [
    (plain, [1], "missing"),
    (plain, [1, "x", 2], "it takes 2 params, and got 3"),
    (plain, ["1", "x"], r"Expected `int`, got `str` - at `\$\.a`"),
    (plain, [1, 2], r"Expected `str`, got `int` - at `\$\.b`"),
    (plain, {"a": 1}, "missing required field `b`"),
    (plain, {"a": 1, "b": "x", "z": 1}, "unknown field `z`"),
    (plain, {"a": 1, "b": 2}, r"Expected `str`, got `int` - at `\$\.b`"),
    (plain, [True, "x"], "Expected `int`, got `bool`"),
    (plain, [1.0, b"x"], "Expected `str`, got `bytes`|Expected `int`, got `float`"),
    (defaulted, [], "missing"),
    (defaulted, [1, 2, 3, 4], "it takes 3 params, and got 4"),
    (keyword_only, {"a": 1}, "missing required field `c`"),
    (keyword_only, [1, 5], "missing"),
    (nothing, [1], "it takes 0 params, and got 1"),
    (nothing, {"a": 1}, "unknown field `a`"),
    (plain, None, "Expected `array`, got `None`"),
    (plain, 5, "Expected `array`, got `int`"),
    (plain, "ab", "Expected `array`, got `str`"),
    (typed, [{"x": 1}, "blue"], r"Invalid enum value 'blue' - at `\$\.colour`"),
    (typed, [{"x": 1}, "red", None, 10], r"`int` <= 9 - at `\$\.small`"),
    (typed, [{"y": 1}], r"missing required field `x` - at `\$\.point`"),
    (typed, [{"x": [0]}], r"Expected `int`, got `array` - at `\$\.point\.x`"),
]


@pytest.mark.parametrize(("handler", "sent", "complaint"), MISFITS)
def test_params_that_do_not_fit_are_named(handler: Callable[..., Any], sent: Any, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        params_of(handler).decode(pack(sent))
    assert caught.value.message.startswith("t.method(")


def test_the_complaint_shows_the_signature() -> None:
    with pytest.raises(InvalidArgument, match=re.escape("t.method(a, b): ")):
        params_of(plain).decode(pack([]))


@pytest.mark.parametrize("level", [b"\x91", b"\x81\xa1a"])
@pytest.mark.parametrize("handler", [anything, plain])
def test_params_nested_too_deep_are_refused(handler: Callable[..., Any], level: bytes) -> None:
    raw = b"\x91" + level * 100_000 + b"\xc0"
    with pytest.raises(InvalidArgument):
        params_of(handler).decode(raw)


@pytest.mark.parametrize("handler", [anything, plain, nothing])
def test_params_cut_short_are_refused(handler: Callable[..., Any]) -> None:
    raw = pack([{"a": 1}, "text"])
    for length in range(1, len(raw)):
        with pytest.raises(InvalidArgument):
            params_of(handler).decode(raw[:length])


@given(raw=st.binary(min_size=1, max_size=100))
def test_random_bytes_raise_only_invalid_argument(raw: bytes) -> None:
    for handler in (plain, anything, typed, blob):
        for buffers in ((), (memoryview(b"one"),)):
            with contextlib.suppress(InvalidArgument):
                params_of(handler).decode(raw, buffers)


def test_a_mutable_default_is_the_signatures_own_as_in_any_call() -> None:
    default: list[int] = []

    def handler(items: list[int] = default) -> None: ...

    assert params_of(handler).decode(pack([]))[0] is default


# Signatures


def no_annotation(a) -> None: ...  # type: ignore[no-untyped-def]  # what the test is about


def star(*values: int) -> None: ...


def double_star(**values: int) -> None: ...


def unresolved(a: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - what the test is about


def undecodable(a: int | Point | Colour | list[int] | tuple[int, ...]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "complaint"),
    [
        (no_annotation, "'a' has no annotation"),
        (star, r"\*values can't be typed"),
        (double_star, "values can't be typed"),
        (unresolved, "can't be resolved: .*NoSuchType"),
        (undecodable, "can't be decoded"),
    ],
)
def test_a_signature_that_can_not_be_typed_is_refused_when_registered(
    handler: Callable[..., Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        params_of(handler)
    assert str(caught.value).startswith("t.method")


def test_what_it_knows_of_the_signature() -> None:
    params = params_of(keyword_only)
    assert params.names == ("a", "b", "c", "d")


# Buffers


def blob(data: bytes) -> None: ...


def blobs(first: bytes, second: bytearray, third: memoryview, fourth: Any, fifth: bytes | None = None) -> None: ...


def mixed(key: str, data: bytes = b"default", *, note: str = "") -> None: ...


def number(value: int) -> None: ...


def reference(index: int) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(1, pack(index))


def loose(first: list[Any], second: dict[str, Any], third: tuple[Any, memoryview]) -> None: ...


def frames(*data: bytes) -> list[memoryview]:
    return [memoryview(item) for item in data]


BUFFERED: list[tuple[Callable[..., Any], Any, Sequence[memoryview], tuple[Any, ...]]] = [
    (blob, [reference(0)], frames(b"zero"), (b"zero",)),
    (blob, {"data": reference(0)}, frames(b""), (b"",)),
    (blob, [reference(1)], frames(b"zero", b"one"), (b"one",)),
    (blob, [reference(200)], frames(*(bytes([index]) for index in range(201))), (b"\xc8",)),
    (blob, [b"in-band"], frames(b"not referred to"), (b"in-band",)),
    (mixed, ["k", reference(0)], frames(b"zero"), ("k", b"zero", "")),
    (mixed, {"note": "n", "data": reference(0), "key": "k"}, frames(b"zero"), ("k", b"zero", "n")),
    (mixed, ["k"], frames(b"unused"), ("k", b"default", "")),
]


@pytest.mark.parametrize(("handler", "sent", "buffers", "expected"), BUFFERED)
def test_references_become_the_buffers(
    handler: Callable[..., Any], sent: Any, buffers: Sequence[memoryview], expected: tuple[Any, ...]
) -> None:
    assert params_of(handler).decode(pack(sent), buffers) == expected


@pytest.mark.parametrize("by_name", [False, True])
def test_a_buffer_has_the_type_that_was_asked_for(by_name: bool) -> None:
    params = params_of(blobs)
    sent = [reference(4), reference(3), reference(2), reference(1), reference(0)]
    raw = pack(dict(zip(params.names, sent, strict=True)) if by_name else sent)
    values = params.decode(raw, frames(b"0", b"1", b"2", b"3", b"4"))
    assert [type(value) for value in values] == [bytes, bytearray, memoryview, bytes, bytes]
    assert [bytes(value) for value in values] == [b"4", b"3", b"2", b"1", b"0"]


def test_a_buffer_among_values_of_no_type_is_bytes() -> None:
    sent = [[1, reference(0)], {"a": [reference(1)]}, [reference(2), reference(3)]]
    first, second, third = params_of(loose).decode(pack(sent), frames(b"0", b"1", b"2", b"3"))
    assert type(first[1]) is type(second["a"][0]) is bytes
    assert type(third[1]) is memoryview


def test_in_band_bytes_have_the_type_that_was_asked_for_beside_a_buffer() -> None:
    values = params_of(blobs).decode(pack([reference(0), b"1", b"2", b"3", None]), frames(b"0"))
    assert [type(value) for value in values] == [bytes, bytearray, memoryview, bytes, type(None)]
    assert values[1:3] == (b"1", b"2")


def test_params_without_buffers_still_decode_after_one_with() -> None:
    params = params_of(blob)
    assert params.decode(pack([reference(0)]), frames(b"one")) == (b"one",)
    assert params.decode(pack([b"two"])) == (b"two",)
    assert params.decode(pack([reference(0)]), frames(b"three")) == (b"three",)


BAD_REFERENCES = [
    pytest.param(blob, [reference(1)], frames(b"zero"), "buffer 1 of a record that brought 1", id="past the last"),
    pytest.param(blob, [reference(-1)], frames(b"zero"), "buffer -1 of", id="negative"),
    pytest.param(blobs, [reference(0)] * 2, frames(b"zero"), "buffer 0 is referred to twice", id="twice"),
    pytest.param(blob, [reference(2**63)], frames(b"zero"), "buffer 9223372036854775808 of", id="huge"),
    pytest.param(blob, [reference(0)], [], "got `ext`", id="no buffers at all"),
    pytest.param(blob, [msgspec.msgpack.Ext(7, b"\0")], frames(b"zero"), "extension 7", id="another extension"),
    pytest.param(blob, [msgspec.msgpack.Ext(1, b"")], frames(b"zero"), "truncated", id="no index"),
    pytest.param(blob, [msgspec.msgpack.Ext(1, b"\xa10")], frames(b"zero"), "Expected `int`", id="index as text"),
    pytest.param(blob, [msgspec.msgpack.Ext(1, b"\0\0")], frames(b"zero"), "trailing", id="two indices"),
    pytest.param(blob, {"data": reference(3)}, frames(b"zero"), "buffer 3 of", id="past the last, by name"),
    pytest.param(number, [reference(0)], frames(b"zero"), "Expected `int`, got `bytes`", id="an integer was wanted"),
    pytest.param(blob, ["text"], frames(b"zero"), "Expected `bytes`, got `str`", id="text beside a buffer"),
    pytest.param(blob, [1], frames(b"zero"), "Expected `bytes`, got `int`", id="an integer beside a buffer"),
    pytest.param(mixed, [reference(0)], frames(b"zero"), "Expected `str`, got `bytes`", id="text was wanted"),
    pytest.param(blob, [], frames(b"zero"), "missing", id="no params, but a buffer"),
]


@pytest.mark.parametrize(("handler", "sent", "buffers", "complaint"), BAD_REFERENCES)
def test_bad_references_are_invalid_arguments(
    handler: Callable[..., Any], sent: Any, buffers: Sequence[memoryview], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        params_of(handler).decode(pack(sent), buffers)


def constrained(data: Annotated[bytes, msgspec.Meta(max_length=10)]) -> None: ...


def one_of_two(data: bytes | int) -> None: ...


@pytest.mark.parametrize("handler", [constrained, one_of_two])
def test_bytes_may_come_as_a_buffer_wherever_they_may_come_in_band(handler: Callable[..., Any]) -> None:
    params = params_of(handler)
    assert params.decode(pack([b"in-band"])) == (b"in-band",)
    assert params.decode(pack([reference(0)]), frames(b"apart")) == (b"apart",)


@pytest.mark.parametrize("code", [1, 7])
def test_an_extension_without_buffers_is_no_value(code: int) -> None:
    with pytest.raises(InvalidArgument):
        params_of(anything).decode(pack([msgspec.msgpack.Ext(code, b"\0")]))
