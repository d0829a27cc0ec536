"""What waits to be sent to one peer: coalesced into messages, held back by its window, removable until it left."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from aiozpat.protocol.flow import SendFlow
from aiozpat.protocol.records import ACK, PONG, Buffer, encode, join

Entry = bytes | tuple[bytes, Sequence[Buffer]]

_MESSAGE_BYTES = 256 * 1024  # of records in one message; beyond it, coalescing gains nothing and delays the first
_MESSAGE_RECORDS = 4096
_OWN_KEYS = 1 << 64  # above all calls' ids: of records that are never taken back
_ALONE = join([b""])  # what stands before a record that is alone in its message
_WORTH_TELLING = 4096  # bytes read
_CONTROL_BESIDE = 512  # bytes of control records that may travel beside entries: a header frame has room for them
_CONTROL_LEAST, _CONTROL_PER_CALL = 16_384, 4  # records


def most_control(calls: int) -> int:
    """How many control records may wait for a peer with so many calls.

    For one that keeps to the credit which has reached it there are a few for each stream, and one for each call that is
    cancelled. One that reads nothing, and goes on as if it had, brings about more and more: these wait for no window.
    """
    return _CONTROL_LEAST + _CONTROL_PER_CALL * calls


class Outbox:
    """The records for one peer, in order, and the account of what it has not read yet.

    Entries (calls, replies) have a key and wait while the peer's window is full. Control records (acks, cancels,
    pongs) go ahead of them, window or not: two peers that both waited for the other's ack would wait for ever. Items of
    streams wait in their flows, and become records when they are sent, as many together as there are by then.

    Args:
        window: Bytes that may be sent beyond what the peer has acknowledged.

    Attributes:
        entries: What waits, by key, in order.
        nbytes: Its size.
        nbytes_apart: The part of it in records that bring buffers.
        taken: How many entries the message has that was peeked at last.
    """

    __slots__ = (
        "_control",
        "_control_taken",
        "_flows",
        "_large",
        "_last_key",
        "_pong",
        "ack_at",
        "acked",
        "entries",
        "nbytes",
        "nbytes_apart",
        "received",
        "sent",
        "taken",
        "window",
    )

    def __init__(self, window: int) -> None:
        self.window = window
        self.entries: dict[int, Entry] = {}
        self.nbytes = 0
        self.nbytes_apart = 0
        self.sent = 0
        self.acked = 0
        self.received = 0
        self.ack_at = window >> 2
        self._control: list[bytes] = []
        self._control_taken = 0
        self._pong: int | None = None
        self._large = 0
        self._flows: list[SendFlow] = []
        self._last_key = _OWN_KEYS
        self.taken = 0

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def controls(self) -> int:
        """How many control records wait."""
        return len(self._control)

    @property
    def pending(self) -> bool:
        """Whether anything waits to be sent, window or not."""
        return bool(self.entries or self._flows or self._control or self._pong is not None)

    @property
    def waiting(self) -> bool:
        """Whether entries wait, or items."""
        return bool(self.entries or self._flows)

    def add(self, key: int, record: bytes) -> None:
        """Queue one record under a key that no other has."""
        self.entries[key] = record
        self.nbytes += len(record)

    def add_large(self, key: int, record: bytes, buffers: Sequence[Buffer]) -> None:
        """Queue one record that brings buffer frames; it travels in a message of its own."""
        self.entries[key] = entry = (record, buffers)
        size = _size(entry)
        self.nbytes += size
        self.nbytes_apart += size
        self._large += 1

    @staticmethod
    def of_call(key: int) -> bool:
        """Whether the record with this key is a call or its answer, not one that was appended."""
        return key <= _OWN_KEYS

    def append(self, record: bytes, buffers: Sequence[Buffer] = ()) -> None:
        """Queue one record that is never taken back, behind all there is."""
        self.seal()
        self._last_key += 1
        if buffers:
            self.add_large(self._last_key, record, buffers)
        else:
            self.add(self._last_key, record)

    def begin(self, flow: SendFlow) -> None:
        """The first item of a stream waits there, and more may, until they are sealed."""
        self._flows.append(flow)

    def drop(self, flow: SendFlow) -> None:
        """Forget the items of a stream that wait: its call is over."""
        if flow.values:
            self._flows.remove(flow)
            flow.clear()

    def seal(self) -> None:
        """Make records of all items that wait; what is queued after them comes after them."""
        if not self._flows:
            return
        flows, self._flows = self._flows, []
        for flow in flows:
            self._last_key += 1
            self.add(self._last_key, flow.seal())

    def remove(self, key: int) -> bool:
        """Take back a record that has not left; False if it has."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        self._forget(entry)
        return True

    def clear(self) -> None:
        """Forget all that waits: there is nobody to send it to any more."""
        for flow in self._flows:
            flow.clear()
        self._flows = []
        self._control = []
        self._control_taken = 0
        self._pong = None
        self.entries = {}
        self.nbytes = self.nbytes_apart = self._large = 0

    def control(self, record: bytes) -> None:
        """Queue a control record, ahead of all entries."""
        self._control.append(record)

    def pong(self, token: int) -> None:
        """Answer a ping; only the last one counts, so a flood of pings makes no queue."""
        self._pong = token

    def on_ack(self, received: int) -> bool:
        """Take the peer's word for how much it has read, never more than was sent; whether that is news."""
        acked = min(received, self.sent)
        if acked <= self.acked:
            return False
        self.acked = acked
        return True

    def resize(self, window: int) -> None:
        """Keep to the window that both sides have agreed on."""
        self.window = window
        self.ack_at = self.received + (window >> 2)

    def acknowledge(self) -> None:
        """Tell the peer how much has been read; due when `received` has come to `ack_at`, a quarter of a window on."""
        self.ack_at = self.received + (self.window >> 2)
        self._control.append(encode((ACK, self.received)))

    def acknowledge_early(self) -> bool:
        """The same before it is due, if there is something to tell; called every so often, it says whether there was.

        On a narrow link it takes long until it is due, and what else this side says may be behind much else: without a
        word, the peer would take it for dead.
        """
        told = self.ack_at - (self.window >> 2)
        if self.received - told < _WORTH_TELLING:
            return False
        self.acknowledge()
        return True

    def alone(self, record: bytes) -> bytes | None:
        """The header frame of a message with this record, unless others go before it; `left_alone` once it is sent.

        For calls one at a time, whose time is all theirs: to queue it, `peek` and `commit` takes five times as long. An
        acknowledgement, say, travels with it.
        """
        if self.entries or self._flows or self.sent - self.acked >= self.window or self._pong is not None:
            return None
        control = self._control
        if not control:
            return _ALONE + record
        if len(control) == 1 and len(control[0]) <= _CONTROL_BESIDE:
            return join((*control, record))
        return None

    def left_alone(self, nbytes: int) -> None:
        """The message whose header `alone` gave was sent, so many bytes."""
        self.sent += nbytes
        if self._control:
            self._control = []
            self._control_taken = 0

    def peek(self) -> tuple[bytes, Sequence[Buffer]] | None:
        """The next message as (header frame, buffer frames), None if there is none; `commit` once it is sent."""
        entries = self.entries
        if (
            entries
            and not (self._control or self._flows or self._large)
            and self.nbytes <= _MESSAGE_BYTES
            and len(entries) <= _MESSAGE_RECORDS
            and self.sent - self.acked < self.window
            and self._pong is None
        ):
            self.taken = len(entries)
            return join(entries.values()), ()  # type: ignore[arg-type]  # none is large: all are bytes
        return self._peek_all()

    def _peek_all(self) -> tuple[bytes, Sequence[Buffer]] | None:
        """As `peek`, where there is not just a handful of small entries."""
        records: list[bytes] = []
        if self._pong is not None:
            records.append(encode((PONG, self._pong)))
        self.taken = self._control_taken = 0
        if self._control:
            part = self._control[:_MESSAGE_RECORDS]
            self._control_taken = len(part)
            records += part
            if sum(map(len, part)) > _CONTROL_BESIDE:
                return join(records), ()
        if self._flows:
            self.seal()
        if not self.entries or self.sent - self.acked >= self.window:
            return (join(records), ()) if records else None
        if not self._large and self.nbytes <= _MESSAGE_BYTES and len(self.entries) <= _MESSAGE_RECORDS:
            records += self.entries.values()  # type: ignore[arg-type]  # none is large: all are bytes
            self.taken = len(self.entries)
            return join(records), ()
        return self._peek_part(records)

    def _peek_part(self, records: list[bytes]) -> tuple[bytes, Sequence[Buffer]]:
        """As many entries as fit one message; a large one alone."""
        size = 0
        for entry in self.entries.values():
            if isinstance(entry, tuple):
                if self.taken:
                    break
                self.taken = 1
                return join([*records, entry[0]]), entry[1]
            size += len(entry)
            if self.taken and (size > _MESSAGE_BYTES or self.taken >= _MESSAGE_RECORDS):
                break
            records.append(entry)
            self.taken += 1
        return join(records), ()

    def commit(self, nbytes: int) -> bool:
        """The message last peeked at was sent, so many bytes of it; whether more is `pending`."""
        self.sent += nbytes
        if self._control_taken:
            del self._control[: self._control_taken]
            self._control_taken = 0
        self._pong = None
        if self.taken < len(self.entries):
            for key in list(islice(self.entries, self.taken)):
                self._forget(self.entries.pop(key))
        elif self.taken:
            self.entries = {}
            self.nbytes = self.nbytes_apart = self._large = 0
        return self.pending

    def _forget(self, entry: Entry) -> None:
        size = _size(entry)
        self.nbytes -= size
        if isinstance(entry, tuple):
            self.nbytes_apart -= size
            self._large -= 1


def _size(entry: Entry) -> int:
    if isinstance(entry, tuple):
        return len(entry[0]) + sum(map(len, entry[1]))
    return len(entry)
