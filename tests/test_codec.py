"""Values to MessagePack and back: what leaves the record as a buffer, and what comes back in its place."""

from __future__ import annotations

import array
import contextlib
import gc
import os
import subprocess
import sys
import tracemalloc
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NewType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiozpat
from aiozpat.codec import ENCODE_ERRORS, Decoder, ItemDecoder, extract
from aiozpat.errors import InvalidArgument
from aiozpat.protocol.records import BUFFER_THRESHOLD, Buffer, encode
from tests.support import PATIENCE

SMALL = b"s" * (BUFFER_THRESHOLD - 1)
LARGE = b"l" * BUFFER_THRESHOLD


def reference(index: int) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(1, msgspec.msgpack.encode(index)))


def wide(data: bytes) -> memoryview:
    """A view whose length in elements is an eighth of its length in bytes."""
    return memoryview(array.array("Q", data))


def wide_and_constant(data: bytes) -> memoryview:
    """As `wide`, of what can't change, so that no copy is made."""
    return memoryview(data).cast("Q")


# What leaves


@pytest.mark.parametrize(
    "value",
    [None, 1, "text" * BUFFER_THRESHOLD, [LARGE], {"a": LARGE}, (LARGE,), SMALL, bytearray(SMALL), memoryview(SMALL)],
)
def test_what_is_small_or_no_bytes_stays(value: Any) -> None:
    buffers: list[Buffer] = []
    assert extract(value, buffers) is value
    assert buffers == []


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, wide, wide_and_constant], ids=lambda kind: kind.__name__
)
def test_large_bytes_leave_a_reference_of_the_wires_form(kind: Callable[[bytes], Any]) -> None:
    buffers: list[Buffer] = [b"another's"]
    assert encode(extract(kind(LARGE), buffers)) == b"\xd4\x01\x01"
    assert buffers == [b"another's", LARGE]
    assert len(buffers[1]) == len(LARGE)  # in bytes: it is what goes on the wire


def test_references_count_the_buffers_of_the_record() -> None:
    buffers: list[Buffer] = []
    references = [encode(extract(LARGE, buffers)) for _ in range(130)]
    assert references[0] == b"\xd4\x01\x00"
    assert references[129] == b"\xd5\x01\xcc\x81"
    assert references == [reference(index) for index in range(130)]


_NAMES = """
import typing, dataclasses, msgspec
from aiozpat.codec import Decoder, ItemDecoder

@dataclasses.dataclass
class Inner:
    naïve: int

class Keys(typing.TypedDict):
    größe: int

class One(msgspec.Struct, tag_field="tÿpe", tag="é"):
    x: int

class Two(msgspec.Struct, tag_field="tÿpe", tag="ü"):
    x: int

@dataclasses.dataclass
class Outer:
    inner: list[Inner]
    keys: Keys
    either: One | Two

decoder = Decoder(Outer)
names = [bytes.fromhex(name).decode() for name in ("6e61c3af7665", "6772c3b6c39f65", "74c3bf7065", "c3bc")]
raw = msgspec.msgpack.encode({"inner": [{names[0]: 1}], "keys": {names[1]: 2}, "either": {names[2]: names[3], "x": 3}})
print(decoder.plain(raw) == Outer([Inner(1)], {"größe": 2}, Two(3)))
"""


def test_fields_whose_names_are_not_ascii_decode_in_a_process_that_never_encoded_them() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUTF8": "1"}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _NAMES], capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_what_may_change_later_is_copied() -> None:
    mutable = bytearray(LARGE)
    buffers: list[Buffer] = []
    extract(mutable, buffers)
    extract(memoryview(mutable), buffers)
    mutable[:] = b"!" * len(mutable)
    assert buffers == [LARGE, LARGE]


def test_what_can_not_change_is_not_copied() -> None:
    buffers: list[Buffer] = []
    extract(LARGE, buffers)
    extract(memoryview(LARGE), buffers)
    assert buffers[0] is LARGE
    assert isinstance(buffers[1], memoryview)
    assert buffers[1].obj is LARGE


def test_a_view_with_gaps_leaves_as_the_bytes_it_shows() -> None:
    buffers: list[Buffer] = []
    data = bytes(range(256)) * 1024
    extract(memoryview(data)[::2], buffers)
    assert buffers == [data[::2]]


# What comes back


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (bytes, bytes),
        (bytearray, bytearray),
        (memoryview, memoryview),
        (Any, bytes),
        (object, bytes),
        (bytes | None, bytes),
        (bytearray | None, bytearray),
    ],
)
def test_a_buffer_comes_back_as_the_type_wanted(wanted: Any, expected: type) -> None:
    decoder = Decoder(wanted)
    for index, buffers in ((1, [b"zero", b"one"]), (0, [b"one"]), (0, [b"one", b"two"])):
        value = decoder.decode(reference(index), [memoryview(data) for data in buffers])
        assert type(value) is expected
        assert value == b"one"


@pytest.mark.parametrize("wanted", [bytes, bytearray, memoryview])
def test_bytes_in_band_have_the_type_wanted_with_buffers_or_without(wanted: type) -> None:
    decoder = Decoder(wanted)
    raw = msgspec.msgpack.encode(b"in-band")
    for buffers in ([], [memoryview(b"unused")]):
        value = decoder.decode(raw, buffers)
        assert type(value) is wanted
        assert value == b"in-band"


def test_an_optional_buffer_may_be_none() -> None:
    assert Decoder(bytes | None).decode(b"\xc0", [memoryview(b"unused")]) is None


@pytest.mark.parametrize(
    "wanted",
    [list[Any], dict[str, Any], list, dict, tuple, tuple[Any, ...], dict[str, list[Any]], list[dict[str, Any]]],
)
def test_a_buffer_among_values_of_no_type_comes_back_as_bytes(wanted: Any) -> None:
    def record_of(index: int) -> bytes:
        value: Any = msgspec.msgpack.Ext(1, bytes([index]))
        for kind in reversed(str(wanted).split("[")):
            if "list" in kind or "tuple" in kind:
                value = [value]
            elif "dict" in kind:
                value = {"a": value}
        return msgspec.msgpack.encode(value)

    part = Decoder(wanted).decode(record_of(0), [memoryview(b"one")])
    (parts, error) = ItemDecoder(wanted).decode(
        b"\x92" + record_of(0) + record_of(1), [memoryview(b"one"), memoryview(b"one")]
    )
    assert (parts, error) == ([part, part], None)
    while isinstance(part, (list, dict, tuple)):
        part = part["a"] if isinstance(part, dict) else part[0]
    assert type(part) is bytes


_ALIASES: list[Any] = [alias("Alias", Any)] if (alias := getattr(typing, "TypeAliasType", None)) is not None else []


@pytest.mark.parametrize("loose", [Annotated[Any, "said of it"], NewType("New", object), *_ALIASES])
def test_any_by_another_name_is_no_type_either(loose: Any) -> None:
    reference_alone = msgspec.msgpack.Ext(1, b"\x00")
    for wanted, value in (
        (loose, reference_alone),
        (list[loose], [reference_alone]),
        (dict[str, loose] | None, {"a": reference_alone}),
        (tuple[int, loose], [1, reference_alone]),
        (list[tuple[loose, memoryview]], [[reference_alone, b"view"]]),
    ):
        part = Decoder(wanted).decode(msgspec.msgpack.encode(value), [memoryview(b"one")])
        if wanted == list[tuple[loose, memoryview]]:
            assert type(part[0][1]) is memoryview
        while isinstance(part, (list, dict, tuple)):
            part = part["a"] if isinstance(part, dict) else part[0] if part[0] != 1 else part[1]
        assert type(part) is bytes


def test_where_a_view_was_asked_for_beside_other_values_it_is_one() -> None:
    raw = msgspec.msgpack.encode([1, msgspec.msgpack.Ext(1, b"\x00")])
    for wanted in (list[int | memoryview], tuple[Any, memoryview], tuple[int, memoryview] | None):
        value = Decoder(wanted).decode(raw, [memoryview(b"one")])
        assert type(value[1]) is memoryview


@pytest.mark.parametrize("when", [datetime(2026, 1, 2, 3, 4), datetime(2026, 1, 2, 3, 4, tzinfo=UTC)])
def test_times_decode_beside_buffers_as_they_do_without(when: datetime) -> None:
    decoder = Decoder(tuple[datetime, bytes])
    assert decoder.plain(msgspec.msgpack.encode((when, b"x"))) == (when, b"x")
    raw = msgspec.msgpack.encode((when, msgspec.msgpack.Ext(1, b"\x00")))
    assert decoder.decode(raw, [memoryview(b"one")]) == (when, b"one")


def test_a_view_of_a_buffer_is_no_copy() -> None:
    frame = memoryview(LARGE)
    value = Decoder(memoryview).decode(reference(0), [frame])
    assert value.obj is LARGE


@pytest.mark.parametrize(
    ("wanted", "value"), [(int, 5), (list[int], [1, 2]), (dict[str, Any], {"a": [1]}), (Any, "text")]
)
def test_other_types_decode_beside_buffers_too(wanted: Any, value: Any) -> None:
    raw = msgspec.msgpack.encode(value)
    decoder = Decoder(wanted)
    assert decoder.plain(raw) == decoder.decode(raw, []) == decoder.decode(raw, [memoryview(b"unused")]) == value


@pytest.mark.parametrize(
    ("wanted", "raw", "count"),
    [
        (bytes, reference(1), 1),
        (bytes, reference(0), 0),
        (bytes, reference(-1), 1),
        (Any, reference(1), 1),
        (int, reference(0), 1),
        (str, reference(0), 1),
        (bytes, msgspec.msgpack.encode(msgspec.msgpack.Ext(2, b"\0")), 1),
        (Any, msgspec.msgpack.encode(msgspec.msgpack.Ext(2, b"\0")), 1),
        (bytes, b"\xc7\x00\x01", 1),
        (bytes, b"\xa1a", 1),
        (bytes, b"\x05", 1),
        (bytes, b"", 1),
        (Any, b"\x91" * 100_000, 1),
        (Any, b"\x91" * 100_000, 0),
        (str, b"\xa1\xff", 0),
    ],
)
def test_bad_values_raise_only_what_callers_catch(wanted: Any, raw: bytes, count: int) -> None:
    with pytest.raises((msgspec.DecodeError, RecursionError, UnicodeDecodeError, InvalidArgument)):
        Decoder(wanted).decode(raw, [memoryview(b"zero")] * count)


def test_buffers_of_one_record_are_not_seen_by_the_next() -> None:
    decoder = Decoder(bytes)
    assert decoder.decode(reference(1), [memoryview(b"a"), memoryview(b"b")]) == b"b"
    with pytest.raises(InvalidArgument, match="brought 1"):
        decoder.decode(reference(1), [memoryview(b"c")])


@pytest.mark.parametrize("index", [0, 1], ids=["decoded", "refused"])
def test_a_decoder_does_not_hold_on_to_buffers(index: int) -> None:
    decoder, data = Decoder(bytes), bytearray(b"data")
    with contextlib.suppress(InvalidArgument):
        decoder.decode(reference(index), [memoryview(data)])
    gc.collect()
    data.append(0)  # a BufferError while somebody holds a view


class Unknown:
    """A type that MessagePack has no form for."""


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [Unknown(), 2**64, -(2**63) - 1, endless(), "\ud800", {1, Unknown()}])
def test_what_can_not_be_encoded_raises_only_what_callers_catch(value: Any) -> None:
    with pytest.raises(ENCODE_ERRORS):
        encode(value)


@given(data=st.lists(st.binary(max_size=20).map(lambda head: head + LARGE) | st.binary(max_size=20), max_size=5))
def test_params_with_large_bytes_come_back_as_they_were(data: list[bytes]) -> None:
    buffers: list[Buffer] = []
    raw = encode([extract(value, buffers) for value in data])
    assert len(buffers) == sum(len(value) >= BUFFER_THRESHOLD for value in data)
    views = [memoryview(buffer) for buffer in buffers]
    assert [Decoder(bytes).decode(encode(item), views) for item in msgspec.msgpack.decode(raw)] == data


@pytest.mark.parametrize("last", [b"\xd4\x01\x00", b"\x07"], ids=["all alike", "one of another type"])
def test_a_few_bytes_never_stand_for_a_buffer_again_and_again(last: bytes) -> None:
    buffer = memoryview(LARGE)
    tracemalloc.start()
    try:
        values, error = ItemDecoder(bytes).decode(b"\xdc\x00\x64" + b"\xd4\x01\x00" * 99 + last, [buffer])
        with pytest.raises(InvalidArgument, match="buffer 0 is referred to twice"):
            Decoder(list[bytes]).decode(b"\xdc\x00\x64" + b"\xd4\x01\x00" * 100, [buffer])
        assert tracemalloc.get_traced_memory()[1] < 8 * len(LARGE)
    finally:
        tracemalloc.stop()
    assert len(values) == 1
    assert "referred to twice" in str(error)


def test_a_codec_that_is_none_is_told_what_it_lacks() -> None:
    class Nearly:
        name = "nearly"

        def encode(self, value: object) -> bytes:
            return b""

    with pytest.raises(TypeError, match="which has no natives, decode"):
        aiozpat.Client("tcp://127.0.0.1:9", codec=Nearly())  # type: ignore[arg-type]  # it is none
    service = aiozpat.Service("s")
    with pytest.raises(TypeError, match="codecs are several"):
        aiozpat.Server(service, bind="tcp://127.0.0.1:*", codecs=aiozpat.JSON())  # type: ignore[arg-type]  # as above
