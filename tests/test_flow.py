"""Credit: the two ends of a stream, joined by their rules, never breach them, never stall, and lose nothing."""

from __future__ import annotations

from collections import deque

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiozpat.errors import ProtocolError
from aiozpat.protocol import records as azp
from aiozpat.protocol.flow import JOIN_BYTES, MAX_WINDOW, TOLERANCE, ReceiveFlow, SendFlow, credit_record

KEY = 7
UNIT = 4096  # bytes for which a record costs one more


class Joined:
    """A sender and a receiver that keep to the rules, and what is under way between them.

    Args:
        window: Units that the sender may be ahead.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.sender = SendFlow(KEY, window)
        self.receiver = ReceiveFlow(window)
        self.made = 0
        self.used: list[int] = []
        self._may_make = True
        self._records: deque[tuple[bytes, int]] = deque()  # with the bytes of their buffers
        self._arrived: deque[tuple[list[int], int]] = deque()  # with their cost
        self._credits: deque[int] = deque()
        self._costs: deque[int] = deque()  # of the records sent and not used yet

    @property
    def may_make(self) -> bool:
        """Whether the sender makes an item: it was told so after the last one, or there is room."""
        return self._may_make or self.sender.room

    def make(self, size: int) -> None:
        """One more item of about so many bytes."""
        assert self.may_make
        value = azp.encode((self.made, bytes(size)))
        self.made += 1
        flow = self.sender
        flow.values.append(value)
        flow.nbytes += len(value)
        if len(flow.values) >= flow.most or flow.nbytes >= JOIN_BYTES:
            self.flush()
        self._may_make = flow.room

    def make_large(self, size: int) -> None:
        """One more item, that travels as a buffer frame."""
        self.flush()
        reference = azp.encode((self.made, msgspec.msgpack.Ext(azp.BUFFER_EXT, azp.encode(0))))
        self.made += 1
        self._send(self.sender.seal_large(reference, 1, size), size)
        self._may_make = self.sender.room

    def flush(self) -> None:
        """What waits leaves, as it does in the next turn of the loop."""
        if self.sender.values:
            self._send(self.sender.seal(), 0)

    def _send(self, record: bytes, buffer_bytes: int) -> None:
        self._records.append((record, buffer_bytes))
        values = memoryview(_item(record).values)
        self._costs.append(azp.array_length(values) + (len(values) + buffer_bytes) // UNIT)
        assert sum(self._costs) - self._costs[-1] < self.window + TOLERANCE

    def deliver(self) -> None:
        """The oldest record arrives."""
        if self._records:
            record, buffer_bytes = self._records.popleft()
            values = memoryview(_item(record).values)
            numbers = [number for number, _ in msgspec.msgpack.decode(values)]
            cost = self.receiver.arrive(azp.array_length(values), len(values) + buffer_bytes)
            self._arrived.append((numbers, cost))

    def use(self) -> None:
        """The consumer has used the items of a record."""
        if self._arrived:
            numbers, cost = self._arrived.popleft()
            self.used += numbers
            assert cost == self._costs.popleft()
            units = self.receiver.consume(cost)
            if units:
                self._credits.append(units)

    def grant(self) -> None:
        """The oldest credit arrives."""
        if self._credits:
            self.sender.grant(self._credits.popleft())

    def settle(self) -> None:
        """Everything under way arrives and is used."""
        self.flush()
        while self._records or self._arrived or self._credits:
            self.deliver()
            self.use()
            self.grant()


def _item(record: bytes) -> azp.Item:
    [item] = azp.split(azp.join([record]))
    assert isinstance(item, azp.Item)
    assert item.id == KEY
    return item


def room_for(flow: SendFlow) -> int:
    """How many items may be made now."""
    count = 0
    while flow.room:
        flow.values.append(b"\x00")
        count += 1
    flow.clear()
    return count


windows = st.one_of(st.integers(1, 40), st.sampled_from((64, 256, 1000, MAX_WINDOW)))
sizes = st.one_of(st.integers(0, 20), st.sampled_from((1000, 4085, 4096, 20_000, 65_520, 65_530, 300_000)))
scripts = st.lists(
    st.one_of(
        st.tuples(st.just("make"), sizes, st.integers(1, 20)),
        st.tuples(st.just("make_large"), st.sampled_from((65_536, 1_000_000, 16_777_216)), st.integers(1, 2)),
        st.tuples(st.sampled_from(("flush", "deliver", "use", "grant", "settle")), st.just(0), st.integers(1, 5)),
    ),
    max_size=60,
)


# Then an item that just fits with others is sent alone, and costs all that may be owed, before the next is there.
_TWO_LEFT = [("make", 0, 1), ("flush", 0, 1), ("make", 0, 1), ("flush", 0, 1)]


@given(window=windows, script=scripts)
@example(window=4, script=[*_TWO_LEFT, ("make", 65_530, 1), ("flush", 0, 1), ("make", 0, 1), ("deliver", 0, 4)])
@example(
    window=4, script=[*_TWO_LEFT, ("make", 65_530, 1), ("flush", 0, 1), ("make_large", 65_536, 1), ("deliver", 0, 4)]
)
@example(window=4, script=[*_TWO_LEFT, ("make", 65_530, 1), ("make_large", 65_536, 1), ("deliver", 0, 4)])
def test_both_ends_keep_the_rules_whatever_they_send_and_when(window: int, script: list[tuple[str, int, int]]) -> None:
    stream = Joined(window)
    for what, size, times in script:
        for _ in range(times):
            if what in ("make", "make_large"):
                if stream.may_make:
                    getattr(stream, what)(size)
            else:
                getattr(stream, what)()
            assert stream.made - len(stream.used) <= window + TOLERANCE
    stream.settle()
    assert stream.used == list(range(stream.made))
    assert stream.sender.room


@given(window=windows, sizes_of_items=st.lists(sizes, min_size=1, max_size=5))
def test_a_consumer_that_goes_on_lets_the_sender_go_on(window: int, sizes_of_items: list[int]) -> None:
    stream = Joined(window)
    for _ in range(20):
        for size in sizes_of_items:
            if not stream.may_make:
                stream.settle()
            stream.make(size)
    stream.settle()
    assert stream.used == list(range(20 * len(sizes_of_items)))


# The sender


def test_a_record_holds_what_waits_in_order_and_costs_by_number_and_by_bytes() -> None:
    flow = SendFlow(KEY, 10)
    flow.values += [azp.encode(number) for number in range(3)]
    flow.nbytes = 3
    assert _item(flow.seal()) == azp.Item(KEY, 0, msgspec.Raw(b"\x93\x00\x01\x02"))
    assert (flow.values, flow.nbytes) == ([], 0)
    assert room_for(flow) == 7


@pytest.mark.parametrize(("nbytes", "units"), [(4094, 1), (4095, 2), (8190, 2), (8191, 3), (40_000, 10)])
def test_each_full_4096_bytes_of_a_record_cost_one_more(nbytes: int, units: int) -> None:
    flow = SendFlow(KEY, units + 1)
    flow.values.append(bytes(nbytes))  # the head of the array is one byte more
    flow.nbytes = nbytes
    flow.seal()
    assert room_for(flow) == 1


def test_a_large_item_is_paid_for_before_the_next_one() -> None:
    flow = SendFlow(KEY, 1)
    record = _item(flow.seal_large(b"\xd4\x01\x00", 1, 100_000))
    assert record == azp.Item(KEY, 1, msgspec.Raw(b"\x91\xd4\x01\x00"))
    flow.grant(100_004 // UNIT)
    assert room_for(flow) == 0
    flow.grant(1)
    assert room_for(flow) == 1


@pytest.mark.parametrize("units", [0, -1, MAX_WINDOW + 1, 1 << 62])
def test_credit_that_cant_be_is_a_breach(units: int) -> None:
    flow = SendFlow(KEY, 1)
    with pytest.raises(ProtocolError, match=f"credit of {units}"):
        flow.grant(units)


def test_credit_that_is_never_used_is_a_breach() -> None:
    flow = SendFlow(KEY, MAX_WINDOW)
    flow.grant(MAX_WINDOW)
    with pytest.raises(ProtocolError, match="not used yet"):
        flow.grant(1)


@pytest.mark.parametrize(("credit", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (100, 50), (256, 128), (MAX_WINDOW, 128)])
def test_a_record_takes_half_a_window_so_that_both_sides_work_at_once(credit: int, most: int) -> None:
    assert SendFlow(KEY, credit).most == most


def test_a_flow_that_has_ended_or_may_send_nothing_has_no_room() -> None:
    assert not SendFlow(KEY, 0).room
    flow = SendFlow(KEY, 1)
    flow.ended = True
    assert not flow.room


def test_what_waits_can_be_forgotten_and_costs_nothing() -> None:
    flow = SendFlow(KEY, 1)
    flow.values.append(b"\x00")
    flow.nbytes = 1
    flow.clear()
    assert flow.nbytes == 0
    assert room_for(flow) == 1


# The receiver


@pytest.mark.parametrize("window", [0, 1, 10, MAX_WINDOW])
def test_items_past_the_credit_are_borne_up_to_the_tolerance(window: int) -> None:
    flow = ReceiveFlow(window)
    assert flow.arrive(window + TOLERANCE, 100) == window + TOLERANCE
    with pytest.raises(ProtocolError, match="1 items where 0 were granted"):
        flow.arrive(1, 2)


def test_bytes_past_the_credit_are_owed() -> None:
    flow = ReceiveFlow(10)
    assert flow.arrive(1, 10 * UNIT) == 11
    assert flow.arrive(1, 100 * UNIT) == 101
    with pytest.raises(ProtocolError, match="granted"):
        flow.arrive(1, 2)


@pytest.mark.parametrize(("window", "each", "granted"), [(1, 1, [1, 1, 1]), (4, 1, [0, 2, 0]), (5, 1, [0, 0, 3])])
def test_half_a_window_is_granted_at_once(window: int, each: int, granted: list[int]) -> None:
    flow = ReceiveFlow(window)
    assert [flow.consume(flow.arrive(each, 10)) for _ in granted] == granted


def test_a_credit_record_says_for_which_call() -> None:
    assert azp.split(azp.join([credit_record(KEY, 12)])) == [azp.Credit(KEY, 12)]
