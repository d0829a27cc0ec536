"""The records of AZP/1: how they look, how a batch of them is written and read.

A message is a header frame (0xC1, a version byte, a MessagePack array of records) and the buffer frames that its
records announce. Records are arrays that begin with their tag; README.md beside this file specifies each field.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from aiozpat.errors import ProtocolError

Buffer = bytes | bytearray | memoryview


MAGIC: Final = 0xC1
VERSION: Final = 1
VERSIONS: Final = (VERSION,)
CODEC: Final = "msgpack"

HEADER_LIMIT: Final = 1024 * 1024  # bytes of a header frame
RECORD_BYTES: Final = HEADER_LIMIT - 1024  # of one record; leaves room for what travels in the same message
RECORD_LIMIT: Final = 16_384  # records in one message
ENDLESS: Final = 20 * 86_400 * 1000  # milliseconds; a stream with that timeout, or a longer one, has no deadline
METADATA_LIMIT: Final = 16 * 1024  # bytes of one call's metadata, names and values
BUFFER_LIMIT: Final = 1024  # buffer frames of one message
BUFFER_EXT: Final = 1  # MessagePack extension type: "buffer number N of this record"
BUFFER_THRESHOLD: Final = 64 * 1024  # bytes from which a value travels as a buffer frame; in-band wins at 16 KiB

# Stands behind the elements of records that bring buffers, and is ignored there: so those are copied fast.
# libzmq sends the header and the beginning of the first buffer in one piece of 8 KiB, and the rest from where that
# ended; the kernel copies it to the start of a page. Where the source lies up to 40 bytes below that, modulo 4096, a
# CPU takes each load for one of what it has just stored ("4K aliasing"), and the copy takes up to twice as long (seen
# on AMD's Zen 3). Large memory of malloc, Python and NumPy begins 16 to 64 bytes behind a page's start: what goes
# before a buffer has to be longer than 104 bytes, then, and is by this.
SPACE: Final = bytes(96)

HELLO: Final = 0
PING: Final = 1
PONG: Final = 2
GOAWAY: Final = 3
BYE: Final = 4
ACK: Final = 5
RESET: Final = 6
REQUEST: Final = 10
REPLY: Final = 11
ERROR: Final = 12
REFUSED: Final = 13
CANCEL: Final = 14
ITEM: Final = 20
END: Final = 21
CREDIT: Final = 22


class Hello(msgspec.Struct, array_like=True, tag=HELLO, gc=False):
    """Opens a session; answered by a hello with the one version chosen."""

    session: bytes
    versions: list[int]
    codec: str
    name: str
    limits: dict[str, int]


class Ping(msgspec.Struct, array_like=True, tag=PING, gc=False):
    """Asks for a pong with the same token."""

    token: int


class Pong(msgspec.Struct, array_like=True, tag=PONG, gc=False):
    """Answers a ping."""

    token: int


class Goaway(msgspec.Struct, array_like=True, tag=GOAWAY, gc=False):
    """No new calls, please; those running will be finished."""

    reason: str


class Bye(msgspec.Struct, array_like=True, tag=BYE, gc=False):
    """Nothing more will come; answered by a bye."""

    reason: str


class Ack(msgspec.Struct, array_like=True, tag=ACK, gc=False):
    """So many bytes of this session have been read, all in all."""

    received: int


class Reset(msgspec.Struct, array_like=True, tag=RESET, gc=False):
    """There is no such session (any more), or no common version; nothing of the message was run."""

    code: int
    reason: str
    versions: list[int]


class Opening(msgspec.Struct, array_like=True, gc=False):
    """What makes a call a stream."""

    credit: int
    sends: bool
    idle: int


class Request(msgspec.Struct, array_like=True, tag=REQUEST, gc=False):
    """A call; id 0 wants no answer."""

    id: int
    buffers: int
    method: str
    timeout: int
    params: msgspec.Raw
    metadata: dict[str, str] | None = None
    opening: Opening | None = None


class Reply(msgspec.Struct, array_like=True, tag=REPLY, gc=False):
    """The result of a call."""

    id: int
    buffers: int
    result: msgspec.Raw


class Error(msgspec.Struct, array_like=True, tag=ERROR, gc=False):
    """A call that ran, or began to, and failed."""

    id: int
    buffers: int
    code: int
    message: str
    details: msgspec.Raw


class Refused(msgspec.Struct, array_like=True, tag=REFUSED, gc=False):
    """A call that never ran: admission turned it away."""

    id: int
    buffers: int
    code: int
    message: str
    details: msgspec.Raw = msgspec.Raw(b"\x80")  # an empty map


class Cancel(msgspec.Struct, array_like=True, tag=CANCEL, gc=False):
    """The caller does not want the answer any more."""

    id: int


class Item(msgspec.Struct, array_like=True, tag=ITEM, gc=False):
    """Items of one stream, in order."""

    id: int
    buffers: int
    values: msgspec.Raw


class End(msgspec.Struct, array_like=True, tag=END, gc=False):
    """No more items come from this side; from the server: the call has ended well."""

    id: int


class Credit(msgspec.Struct, array_like=True, tag=CREDIT, gc=False):
    """So many more units of items may be sent."""

    id: int
    units: int


Control = Hello | Ping | Pong | Goaway | Bye | Ack | Reset
Record = Control | Request | Reply | Error | Refused | Cancel | Item | End | Credit

_DECODE_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_decode = msgspec.msgpack.Decoder(list[Record]).decode
_decode_raw = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_timeless: Callable[[msgspec.Raw], Hello | Reset] = msgspec.msgpack.Decoder(Hello | Reset).decode
encode = msgspec.msgpack.Encoder().encode


def metadata_bytes(metadata: Mapping[str, str]) -> int:
    """The size of a call's metadata: its names and values, in UTF-8."""
    text = "".join(name + value for name, value in metadata.items())
    return len(text.encode("utf-8", "replace"))


class UnknownVersion(ProtocolError):
    """A message of another version of AZP."""

    def __init__(self, version: int) -> None:
        super().__init__(f"AZP version {version} is not spoken here; versions spoken: {list(VERSIONS)}")


class NotAzp(ProtocolError):
    """A message that is not AZP at all; its sender gets no answer."""


def array_head(count: int) -> bytes:
    """MessagePack's head for an array of `count` elements."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 65_536:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def _heads(count: int) -> tuple[bytes, ...]:
    return tuple(_HEAD + array_head(number) for number in range(count))


_HEAD = bytes((MAGIC, VERSION))
_HEADS_MADE = 1024  # most batches are smaller
_HEADS = _heads(_HEADS_MADE)


def join(records: Collection[bytes]) -> bytes:
    """The header frame that holds these encoded records."""
    count = len(records)
    head = _HEADS[count] if count < _HEADS_MADE else _HEAD + array_head(count)
    return head + b"".join(records)


def split(header: bytes) -> list[Record]:
    """Read a header frame.

    Raises:
        NotAzp: It does not begin as AZP does.
        UnknownVersion: It is of a version not spoken here.
        ProtocolError: It is AZP/1, and damaged, hostile or over a limit.
    """
    try:
        if len(header) <= RECORD_LIMIT and header.startswith(_HEAD):  # as nearly all do
            return _decode(header[2:])  # of so little, a copy costs less than a view
        check_head(header)
        if header[1] != VERSION:
            raise UnknownVersion(header[1])
        return _decode(memoryview(header)[2:])
    except _DECODE_ERRORS as error:
        check_head(header)  # there may have been nothing to decode
        raise ProtocolError(f"records that don't decode: {error}") from None


def split_timeless(header: bytes) -> Hello | Reset:
    """The one record of a message of any version, if it is one of the two that never change.

    Raises:
        NotAzp: It does not begin as AZP does.
        UnknownVersion: It holds anything else.
        ProtocolError: It is over a limit.
    """
    check_head(header)
    try:
        records = _decode_raw(memoryview(header)[2:])
        if len(records) != 1:
            raise UnknownVersion(header[1])
        return _decode_timeless(records[0])
    except _DECODE_ERRORS:
        raise UnknownVersion(header[1]) from None


def check_head(header: bytes) -> None:
    """Check magic and size, before anything is decoded."""
    nbytes = len(header)
    if nbytes < 3 or header[0] != MAGIC:
        raise NotAzp("not an AZP message: its first byte is not 0xC1, or it has less than three")
    if nbytes > HEADER_LIMIT:
        raise ProtocolError(f"a header frame of {nbytes} bytes; the limit is {HEADER_LIMIT}")
    if nbytes > RECORD_LIMIT and (count := array_length(header[2:7])) > RECORD_LIMIT:
        raise ProtocolError(f"a message of {count} records; the limit is {RECORD_LIMIT}")


def array_length(array: bytes | memoryview) -> int:
    """How many elements the array's head announces, before they are decoded: 1 MB of tiny ones is 60 MB of objects."""
    first = array[0]
    if first == 0xDC:
        return int.from_bytes(array[1:3], "big")
    if first == 0xDD:
        return int.from_bytes(array[1:5], "big")
    return first & 0x0F
