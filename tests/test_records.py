"""The records of AZP/1 against the vectors, the specification's own example, and everything that is no AZP/1."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aiozpat
from aiozpat.errors import ProtocolError
from aiozpat.protocol import records as azp

HERE = Path(__file__).parent
SPECIFICATION = Path(aiozpat.__file__).parent / "protocol" / "README.md"
VECTORS = json.loads((HERE / "vectors" / "azp1.json").read_text(encoding="utf-8"))
ERRORS = {"NotAzp": azp.NotAzp, "UnknownVersion": azp.UnknownVersion, "ProtocolError": ProtocolError}
HEAD = b"\xc1\x01"

_INTEGERS = ((0xCC, ">BB", 1 << 8), (0xCD, ">BH", 1 << 16), (0xCE, ">BI", 1 << 32), (0xCF, ">BQ", 1 << 64))
_SIGNED = ((0xD0, ">Bb", 1 << 7), (0xD1, ">Bh", 1 << 15), (0xD2, ">Bi", 1 << 31), (0xD3, ">Bq", 1 << 63))


def pack(value: Any) -> bytes:
    """MessagePack, written from its specification: the shortest form of each value, none of our own encoder's code.

    Values are JSON's; {"bin": hex} is a byte string, {"ext": [type, hex]} an extension.
    """
    match value:
        case None | bool():
            return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
        case int():
            return _pack_int(value)
        case float():
            return struct.pack(">Bd", 0xCB, value)
        case str():
            text = value.encode()
            return (bytes([0xA0 | len(text)]) if len(text) < 32 else _head(len(text), 0xD9, 0xDA, 0xDB)) + text
        case {"bin": str(digits)}:
            data = bytes.fromhex(digits)
            return _head(len(data), 0xC4, 0xC5, 0xC6) + data
        case {"ext": [int(kind), str(digits)]}:
            data = bytes.fromhex(digits)
            fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(len(data))
            return (bytes([fixed]) if fixed else _head(len(data), 0xC7, 0xC8, 0xC9)) + bytes([kind]) + data
        case list():
            head = bytes([0x90 | len(value)]) if len(value) < 16 else _head(len(value), None, 0xDC, 0xDD)
            return head + b"".join(map(pack, value))
        case dict():
            head = bytes([0x80 | len(value)]) if len(value) < 16 else _head(len(value), None, 0xDE, 0xDF)
            return head + b"".join(pack(key) + pack(item) for key, item in value.items())
    raise TypeError(f"no MessagePack for {value!r}")


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value) if value < 0 else bytes([value])
    if value > 0:
        return next(struct.pack(form, tag, value) for tag, form, end in _INTEGERS if value < end)
    return next(struct.pack(form, tag, value) for tag, form, end in _SIGNED if value >= -end)


def _head(length: int, tag8: int | None, tag16: int, tag32: int) -> bytes:
    if tag8 is not None and length < 1 << 8:
        return struct.pack(">BB", tag8, length)
    return struct.pack(">BH", tag16, length) if length < 1 << 16 else struct.pack(">BI", tag32, length)


def as_json(value: Any) -> Any:
    """A decoded value in the form that the vectors use."""
    match value:
        case msgspec.Raw():
            return as_json(msgspec.msgpack.decode(value))
        case bytes():
            return {"bin": value.hex()}
        case msgspec.msgpack.Ext():
            return {"ext": [value.code, bytes(value.data).hex()]}
        case list():
            return [as_json(item) for item in value]
        case dict():
            return {key: as_json(item) for key, item in value.items()}
    return value


def fields_of(record: azp.Record) -> tuple[Any, ...]:
    """A record's tag and fields, as they are encoded; those that may be left out only where there are some."""
    fields = msgspec.structs.astuple(record)
    if isinstance(record, azp.Request):
        *fields_, metadata, opening = fields
        if opening is not None:
            fields = (*fields_, metadata, list(msgspec.structs.astuple(opening)))
        else:
            fields = (*fields_, metadata) if metadata is not None else tuple(fields_)
    if isinstance(record, azp.Refused) and bytes(record.details) == b"\x80":
        fields = fields[:-1]
    return (type(record).__struct_config__.tag, *fields)


def named(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in VECTORS[kind]]


def test_every_record_type_has_a_vector() -> None:
    tags = {record[0] for case in VECTORS["valid"] for record in case["records"]}
    assert tags == {azp.HELLO, azp.PING, azp.PONG, azp.GOAWAY, azp.BYE, azp.ACK, azp.RESET} | {
        azp.REQUEST,
        azp.REPLY,
        azp.ERROR,
        azp.REFUSED,
        azp.CANCEL,
        azp.ITEM,
        azp.END,
        azp.CREDIT,
    }


@pytest.mark.parametrize("case", named("valid"))
def test_a_valid_vector_decodes_to_its_records(case: dict[str, Any]) -> None:
    records = azp.split(bytes.fromhex(case["header"]))
    assert [as_json(list(fields_of(record))) for record in records] == case["records"]


@pytest.mark.parametrize("case", [case for case in named("valid") if case.values[0].get("canonical", True)])
def test_a_valid_vector_is_what_we_write(case: dict[str, Any]) -> None:
    header = bytes.fromhex(case["header"])
    written = azp.join([azp.encode(fields_of(record)) for record in azp.split(header)])
    assert written == header
    assert HEAD + pack(case["records"]) == header


@pytest.mark.parametrize("case", named("valid"))
def test_a_vector_brings_the_buffers_that_its_records_announce(case: dict[str, Any]) -> None:
    announced = sum(record[2] for record in case["records"] if record[0] in (10, 11, 12, 13, 20))
    assert announced == len(case.get("buffers", []))


@pytest.mark.parametrize("case", named("invalid"))
def test_an_invalid_vector_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        azp.split(bytes.fromhex(case["header"]))
    assert type(caught.value) is ERRORS[case["error"]]


def test_the_example_of_the_specification_is_right() -> None:
    *_, block = re.findall(r"^```\n(.*?)^```", SPECIFICATION.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line.partition("#")[0] for line in block.splitlines()]
    messages = [
        bytes.fromhex(re.sub(r"[\s>]", "", text)) for text in re.split(r"\n?[<>]", "\n".join(lines)) if text.strip()
    ]
    expected = next(case["messages"] for case in VECTORS["sessions"] if case["name"] == "hello, request, bye")
    assert [message.hex() for message in messages] == [message["header"] for message in expected]
    for message, wanted in zip(messages, expected, strict=True):
        assert [as_json(list(fields_of(record))) for record in azp.split(message)] == wanted["records"]


# Round trips

integers = st.integers(min_value=-(2**63), max_value=2**64 - 1)
texts = st.text(max_size=40)
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False) | texts | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=10,
)
details = st.dictionaries(texts, values, max_size=3)
params = st.lists(values, max_size=4) | st.dictionaries(texts, values, max_size=4)
records_of_fields = st.one_of(
    st.tuples(
        st.just(azp.HELLO), st.binary(max_size=32), st.lists(integers), texts, texts, st.dictionaries(texts, integers)
    ),
    st.tuples(st.sampled_from((azp.PING, azp.PONG, azp.ACK, azp.CANCEL)), integers),
    st.tuples(st.sampled_from((azp.GOAWAY, azp.BYE)), texts),
    st.tuples(st.just(azp.RESET), integers, texts, st.lists(integers)),
    st.tuples(st.just(azp.REQUEST), integers, integers, texts, integers, params),
    st.tuples(st.just(azp.REQUEST), integers, integers, texts, integers, params, st.dictionaries(texts, texts)),
    st.tuples(st.just(azp.REPLY), integers, integers, values),
    st.tuples(st.just(azp.ERROR), integers, integers, integers, texts, details),
    st.tuples(st.just(azp.REFUSED), integers, integers, integers, texts),
)


texts.validate()  # makes Hypothesis' table of characters, which at first takes longer than a test may


@given(batch=st.lists(records_of_fields, max_size=20))
def test_what_is_joined_splits_into_the_same_records(batch: list[tuple[Any, ...]]) -> None:
    header = azp.join([azp.encode(fields) for fields in batch])
    records = azp.split(header)
    assert [as_json(list(fields_of(record))) for record in records] == [as_json(list(fields)) for fields in batch]
    assert azp.join([azp.encode(fields_of(record)) for record in records]) == header


@pytest.mark.parametrize("count", [0, 1, 15, 16, 1023, 1024, 16_384])
def test_any_number_of_records_up_to_the_limit_shares_a_message(count: int) -> None:
    records = azp.split(azp.join([azp.encode((azp.CANCEL, number)) for number in range(count)]))
    assert records == [azp.Cancel(number) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "head"), [(0, "90"), (15, "9f"), (16, "dc0010"), (65_535, "dcffff"), (65_536, "dd00010000")]
)
def test_array_heads(count: int, head: str) -> None:
    assert azp.array_head(count).hex() == head


def test_elements_that_a_later_version_adds_are_ignored() -> None:
    assert azp.split(HEAD + pack([[1, 5, "new", {"more": []}]])) == [azp.Ping(5)]


def test_params_stay_as_they_were_sent() -> None:
    odd = b"\x92\xcd\x00\x01\xd9\x01a"  # an array whose integer and string are not in their shortest forms
    (request,) = azp.split(HEAD + b"\x91\x96\x0a\x01\x00\xa1m\x05" + odd)
    assert isinstance(request, azp.Request)
    assert bytes(request.params) == odd


# Versions

HELLO = [0, {"bin": "00" * 16}, [2, 1], "msgpack", "later", {}]
RESET = [6, 12, "version 2 is spoken here", [2]]


def test_another_version_is_told_apart_from_damage() -> None:
    with pytest.raises(azp.UnknownVersion, match="AZP version 7 is not spoken here"):
        azp.split(b"\xc1\x07" + pack([[1, 5]]))


@pytest.mark.parametrize("version", [0, 1, 2, 255])
@pytest.mark.parametrize(
    ("records", "first"),
    [
        ([HELLO], azp.Hello(bytes(16), [2, 1], "msgpack", "later", {})),
        ([RESET], azp.Reset(12, "version 2 is spoken here", [2])),
        ([[*HELLO, "new in that version"]], azp.Hello(bytes(16), [2, 1], "msgpack", "later", {})),
    ],
)
def test_a_hello_and_a_reset_are_read_in_any_version(version: int, records: list[Any], first: azp.Record) -> None:
    assert azp.split_timeless(bytes([0xC1, version]) + pack(records)) == first


@pytest.mark.parametrize("records", [[], [[1, 5]], [["hello"]], [[99, "what a later version has"]], [HELLO, [10, 1]]])
def test_no_other_record_of_another_version_is_read(records: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        azp.split_timeless(b"\xc1\x02" + pack(records))


# Garbage raises only our errors

VALID = [bytes.fromhex(case["header"]) for case in VECTORS["valid"]]
READERS = (azp.split, azp.split_timeless)


def read_all(message: bytes) -> None:
    """Read it in each way; whatever it is, only our own errors may come of it."""
    for reader in READERS:
        with contextlib.suppress(ProtocolError):
            reader(message)


@given(message=st.binary(max_size=200))
@example(message=b"")
@example(message=b"\xc1")
@example(message=HEAD)
def test_random_bytes_raise_only_our_errors(message: bytes) -> None:
    read_all(message)


@given(tail=st.binary(max_size=200))
def test_random_bytes_after_a_right_head_raise_only_our_errors(tail: bytes) -> None:
    read_all(HEAD + tail)


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_messages_raise_only_our_errors(data: st.DataObject) -> None:
    message = bytearray(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(message)))
        what = data.draw(st.sampled_from(("set", "insert", "cut", "end")))
        if what == "set" and place < len(message):
            message[place] = data.draw(st.integers(0, 255))
        elif what == "insert":
            message[place:place] = data.draw(st.binary(max_size=5))
        elif what == "cut":
            del message[place : place + data.draw(st.integers(1, 5))]
        else:
            del message[max(place, 3) :]
    read_all(bytes(message))


@pytest.mark.parametrize("message", VALID, ids=[case["name"] for case in VECTORS["valid"]])
def test_a_message_cut_short_anywhere_is_refused(message: bytes) -> None:
    for length in range(len(message)):
        with pytest.raises(ProtocolError):
            azp.split(message[:length])


def request_with(params: bytes) -> bytes:
    return HEAD + b"\x91\x96\x0a\x01\x00\xa1m\x05" + params


MANY = azp.HEADER_LIMIT - 100
REFUSED = {
    "nested arrays as records": HEAD + b"\x91" * MANY,
    "nested arrays as params": request_with(b"\x91" * MANY),
    "nested maps as params": request_with(b"\x81" * MANY),
    "nested arrays as an element too many": HEAD + b"\x91\x93\x01\x05" + b"\x91" * MANY,
    "nested maps as limits": HEAD + b"\x91\x96\x00\xc4\x00\x90\xa0\xa0" + b"\x81" * MANY,
    "a bomb of empty maps": HEAD + b"\xdd" + MANY.to_bytes(4, "big") + b"\x80" * MANY,
    "a bomb of empty arrays": HEAD + b"\xdd" + MANY.to_bytes(4, "big") + b"\x90" * MANY,
    "a bomb of pings": HEAD + b"\xdd" + (MANY // 3).to_bytes(4, "big") + b"\x92\x01\x05" * (MANY // 3),
    "one record over the limit": HEAD + b"\xdc\x40\x01" + b"\x92\x01\x05" * 16_385,
    "an array of 4 billion": HEAD + b"\xdd\xff\xff\xff\xff" + b"\x92\x01\x05" * 3,
    "params of 4 billion": request_with(b"\xdd\xff\xff\xff\xff"),
    "params of a map of 4 billion": request_with(b"\xdf\xff\xff\xff\xff"),
    "a string of 4 GB": HEAD + b"\x91\x92\x04\xdb\xff\xff\xff\xff" + b"a",
    "bytes of 4 GB": HEAD + b"\x91\x96\x00\xc6\xff\xff\xff\xff" + b"a",
    "an extension of 4 GB": request_with(b"\xc9\xff\xff\xff\xff\x01"),
    "versions of 4 billion": HEAD + b"\x91\x96\x00\xc4\x00\xdd\xff\xff\xff\xff" + b"\x01" * 10,
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED.keys())
def test_hostile_messages_are_refused_cheaply(message: bytes) -> None:
    for reader in READERS:
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(ProtocolError):
            reader(message)
        spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 256 * 1024
        assert spent < 1.0


ACCEPTED = {
    "a bomb of empty maps as params": request_with(b"\xdd" + MANY.to_bytes(4, "big") + b"\x80" * MANY),
    "a million elements too many": HEAD + b"\x91\xdd" + (MANY + 2).to_bytes(4, "big") + b"\x01\x05" + b"\x80" * MANY,
}


@pytest.mark.parametrize("message", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_not_decoded_yet_costs_nothing(message: bytes) -> None:
    tracemalloc.start()
    records = azp.split(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(records) == 1
    assert peak < 256 * 1024


@pytest.mark.parametrize(("beyond", "accepted"), [(0, True), (1, False)])
def test_the_limit_of_a_header_frame(beyond: int, accepted: bool) -> None:
    filler = azp.HEADER_LIMIT + beyond - len(request_with(b"\xc6" + bytes(4)))
    message = request_with(b"\xc6" + filler.to_bytes(4, "big") + b"a" * filler)
    assert len(message) == azp.HEADER_LIMIT + beyond
    if accepted:
        assert len(azp.split(message)) == 1
    else:
        with pytest.raises(ProtocolError, match="the limit is 1048576"):
            azp.split(message)


@pytest.mark.parametrize(
    "fields",
    [
        (azp.REQUEST, 5, 1, "s.m", 1000, [], None, None),
        (azp.REQUEST, 5, 1, "s.m", 1000, [], {"trace": "1"}, (8, True, 1000)),
        (azp.REPLY, 5, 1, None),
        (azp.ITEM, 5, 1, [b""]),
    ],
    ids=["request", "stream", "reply", "item"],
)
def test_what_stands_behind_a_record_changes_nothing(fields: tuple[Any, ...]) -> None:
    record, lengthened = azp.encode(fields), azp.encode((*fields, azp.SPACE))
    assert azp.split(azp.join([lengthened])) == azp.split(azp.join([record]))
