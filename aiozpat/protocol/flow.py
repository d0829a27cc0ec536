"""One stream's flow in one direction: items joined into records, and the credit that holds a fast producer back.

Credit is counted in units: an item costs one, and a record of items one more for each full 4096 bytes of them, so that
a window bounds what waits at the receiver in number and in bytes. A record may hold as many items as there is credit;
what their bytes cost is owed, up to `TOLERANCE` before the next record.
"""

from __future__ import annotations

from aiozpat.errors import ProtocolError
from aiozpat.protocol.records import CREDIT, ITEM, SPACE, array_head, encode

_SPACE = encode(SPACE)
UNIT_SHIFT = 12  # 4096 bytes
MAX_WINDOW = 65_536  # units
_JOIN = 128  # items of one record, or half a window: the receiver works on them while more are made
JOIN_BYTES = 64 * 1024  # of one record, and the last item more
TOLERANCE = JOIN_BYTES >> UNIT_SHIFT  # a record with one large item follows at once on one of small ones


class SendFlow:
    """Items of one stream that wait to be sent.

    Args:
        key: The call's id.
        credit: Units that the receiver has granted.

    Attributes:
        values: The items, encoded.
        nbytes: Their size.
        most: How many of them make a record that should leave.
        ended: The call is over: whoever waits for credit waits in vain.
    """

    __slots__ = ("_credit", "_head", "_join", "ended", "most", "nbytes", "values")

    def __init__(self, key: int, credit: int) -> None:
        self.values: list[bytes] = []
        self.nbytes = 0
        self.ended = False
        self._head = b"\x94" + encode(ITEM) + encode(key)
        self._join = max(1, min(_JOIN, credit >> 1))
        self._set_credit(credit)

    def _set_credit(self, units: int) -> None:
        self._credit = units
        self.most = min(units, self._join)

    @property
    def room(self) -> bool:
        """Whether one more item may be made."""
        return not self.ended and len(self.values) < self._credit

    def grant(self, units: int) -> None:
        """The receiver lets so many more be sent."""
        if not 0 < units <= MAX_WINDOW or self._credit + units > 2 * MAX_WINDOW:
            raise ProtocolError(f"credit of {units}, beside {self._credit} not used yet")
        self._set_credit(self._credit + units)

    def seal(self) -> bytes:
        """The record of all items that wait."""
        values = self.values
        count = len(values)
        head = array_head(count)
        self._set_credit(self._credit - count - ((len(head) + self.nbytes) >> UNIT_SHIFT))
        record = b"".join((self._head, b"\x00", head, *values))
        self.clear()
        return record

    def clear(self) -> None:
        """Forget what waits."""
        self.values = []
        self.nbytes = 0

    def seal_large(self, value: bytes, buffers: int, nbytes: int) -> bytes:
        """The record of one item that refers to so many buffer frames, of `nbytes` together."""
        items = b"\x91" + value
        self._set_credit(self._credit - 1 - ((len(items) + nbytes) >> UNIT_SHIFT))
        return b"".join((b"\x95", self._head[1:], encode(buffers), items, _SPACE))


class ReceiveFlow:
    """What one stream's receiver has granted, and owes.

    Args:
        window: Units that the sender may be ahead of the consumer.
    """

    __slots__ = ("_allowed", "_due", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._allowed = window
        self._due = 0

    def arrive(self, count: int, nbytes: int) -> int:
        """Count a record's items against the credit; what they cost.

        Args:
            count: How many.
            nbytes: The bytes of their array, and of their buffers.

        Raises:
            ProtocolError: More than was granted.
        """
        if count > self._allowed + TOLERANCE:
            raise ProtocolError(f"{count} items where {max(0, self._allowed)} were granted")
        cost = count + (nbytes >> UNIT_SHIFT)
        self._allowed -= cost
        return cost

    def consume(self, cost: int) -> int:
        """A record's items have been used; the units to grant now, 0 if that can wait."""
        self._due = due = self._due + cost
        if due << 1 < self._window:
            return 0
        self._due = 0
        self._allowed += due
        return due


def credit_record(key: int, units: int) -> bytes:
    """The record that grants so many more units."""
    return encode((CREDIT, key, units))
