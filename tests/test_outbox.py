"""What waits to be sent to one peer: order, the window, taking back, and how it is cut into messages."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiozpat.protocol import records as azp
from aiozpat.protocol.flow import SendFlow
from aiozpat.protocol.outbox import Outbox

WINDOW = 1024 * 1024
BATCH_BYTES = 256 * 1024


def request(number: int, filler: int = 0) -> bytes:
    return azp.encode((azp.REQUEST, number, 0, "m", 1000, [b"x" * filler]))


def large(number: int) -> bytes:
    return azp.encode((azp.REQUEST, number, 1, "m", 1000, [1]))


def send(outbox: Outbox) -> tuple[list[azp.Record], Sequence[azp.Buffer]] | None:
    """Send the next message; its records and buffers, None when there is nothing that may be sent."""
    message = outbox.peek()
    if message is None:
        return None
    header, buffers = message
    outbox.commit(len(header) + sum(map(len, buffers)))
    return azp.split(header), buffers


def send_all(outbox: Outbox) -> list[tuple[list[azp.Record], Sequence[azp.Buffer]]]:
    messages = []
    while (message := send(outbox)) is not None:
        messages.append(message)
    return messages


def ids(records: Sequence[azp.Record]) -> list[int]:
    return [record.id for record in records if isinstance(record, (azp.Request, azp.Cancel))]


def put(outbox: Outbox, flow: SendFlow, *items: int) -> None:
    """Let items wait in a stream's flow."""
    for item in items:
        if not flow.values:
            outbox.begin(flow)
        flow.values.append(azp.encode(item))
        flow.nbytes += len(flow.values[-1])


def contents(records: Sequence[azp.Record]) -> list[tuple[int, list[int]]]:
    """Calls and cancels by id alone, items with what they hold."""
    return [
        (record.id, msgspec.msgpack.decode(record.values) if isinstance(record, azp.Item) else [])
        for record in records
        if isinstance(record, (azp.Request, azp.Cancel, azp.Item, azp.End))
    ]


# One alone


@pytest.mark.parametrize("buffers", [[], [b"x" * 70_000], [b"x" * 70_000, b"y" * 80_000]])
@pytest.mark.parametrize("acknowledges", [False, True])
def test_one_record_may_leave_alone_as_it_would_with_others(buffers: list[bytes], acknowledges: bool) -> None:
    record = large(1) if buffers else request(1)
    alone, usual = Outbox(WINDOW), Outbox(WINDOW)
    if acknowledges:
        alone.acknowledge()
        usual.acknowledge()
    if buffers:
        usual.add_large(1, record, buffers)
    else:
        usual.add(1, record)
    header, apart = usual.peek() or (b"", ())
    assert alone.alone(record) == header
    assert alone.pending is acknowledges  # until it was sent
    nbytes = len(header) + sum(map(len, apart))
    alone.left_alone(nbytes)
    usual.commit(nbytes)
    for outbox in (alone, usual):
        assert outbox.sent == nbytes
        assert outbox.nbytes_apart == 0
        assert_empty(outbox)


@pytest.mark.parametrize("before", ["another", "large", "controls", "long control", "pong", "items", "closed window"])
def test_a_record_that_others_go_before_does_not_leave_alone(before: str) -> None:
    outbox = Outbox(64)
    if before == "another":
        outbox.add(2, request(2))
    elif before == "large":
        outbox.add_large(2, large(2), [b"x" * 70_000])
    elif before == "controls":
        outbox.control(azp.encode((azp.CANCEL, 5)))
        outbox.control(azp.encode((azp.CANCEL, 6)))
    elif before == "long control":
        outbox.control(azp.encode((azp.GOAWAY, "x" * 1000)))
    elif before == "pong":
        outbox.pong(7)
    elif before == "items":
        put(outbox, SendFlow(1, 10), 1)
    elif before == "closed window":
        outbox.sent = 64
    assert outbox.alone(request(1)) is None


def assert_empty(outbox: Outbox) -> None:
    assert not outbox.pending
    assert not outbox.waiting
    assert len(outbox) == 0
    assert outbox.nbytes == 0
    assert outbox.peek() is None


def test_an_empty_outbox_has_nothing_to_send() -> None:
    assert_empty(Outbox(WINDOW))


def test_what_waits_leaves_in_one_message_in_order() -> None:
    outbox = Outbox(WINDOW)
    for number in (3, 1, 2):
        outbox.add(number, request(number))
    assert outbox.pending
    assert len(outbox) == 3
    assert outbox.nbytes == 3 * len(request(1))
    message = send(outbox)
    assert message is not None
    assert ids(message[0]) == [3, 1, 2]
    assert_empty(outbox)


def test_a_message_that_was_not_sent_comes_again() -> None:
    outbox = Outbox(WINDOW)
    outbox.pong(1)
    outbox.control(azp.encode((azp.CANCEL, 9)))
    outbox.add(1, request(1))
    first = outbox.peek()
    assert outbox.peek() == first
    assert outbox.sent == 0


def test_what_came_after_a_failed_try_joins_the_next() -> None:
    outbox = Outbox(WINDOW)
    outbox.add(1, request(1))
    outbox.peek()
    outbox.add(2, request(2))
    message = send(outbox)
    assert message is not None
    assert ids(message[0]) == [1, 2]


# Control records


def test_control_records_go_ahead_of_calls() -> None:
    outbox = Outbox(WINDOW)
    outbox.add(1, request(1))
    outbox.control(azp.encode((azp.CANCEL, 7)))
    outbox.control(azp.encode((azp.CANCEL, 8)))
    message = send(outbox)
    assert message is not None
    assert ids(message[0]) == [7, 8, 1]
    assert_empty(outbox)


def test_only_the_last_of_many_pings_is_answered() -> None:
    outbox = Outbox(WINDOW)
    for token in range(1000):
        outbox.pong(token)
    assert send_all(outbox) == [([azp.Pong(999)], ())]
    assert_empty(outbox)


def test_a_ping_with_token_zero_is_answered() -> None:
    outbox = Outbox(WINDOW)
    outbox.pong(0)
    assert outbox.pending
    assert send_all(outbox) == [([azp.Pong(0)], ())]


# The window


def test_past_the_window_calls_wait_until_the_peer_has_read() -> None:
    outbox = Outbox(window=1000)
    outbox.add(1, request(1, filler=1000))  # may begin below the window and end beyond it
    assert send(outbox) is not None
    outbox.add(2, request(2))
    assert send(outbox) is None
    assert outbox.pending
    outbox.on_ack(outbox.sent - 1000)
    assert send(outbox) is None
    outbox.on_ack(outbox.sent - 999)
    message = send(outbox)
    assert message is not None
    assert ids(message[0]) == [2]


def test_control_records_pass_a_full_window() -> None:
    outbox = Outbox(window=10)
    outbox.add(1, request(1))
    send(outbox)
    outbox.add(2, request(2))
    outbox.control(azp.encode((azp.CANCEL, 1)))
    outbox.pong(5)
    assert send_all(outbox) == [([azp.Pong(5), azp.Cancel(1)], ())]
    assert len(outbox) == 1


def test_control_records_count_as_sent() -> None:
    outbox = Outbox(window=10)
    outbox.control(azp.encode((azp.BYE, "a reason longer than the window")))
    send(outbox)
    outbox.add(1, request(1))
    assert send(outbox) is None


def test_buffers_count_against_the_window() -> None:
    outbox = Outbox(window=1000)
    outbox.add_large(1, large(1), [b"x" * 2000])
    send(outbox)
    assert outbox.sent > 2000
    outbox.add(2, request(2))
    assert send(outbox) is None


@pytest.mark.parametrize(
    ("acks", "acked"),
    [([50], 50), ([50, 20], 50), ([20, 50], 50), ([10**12], 100), ([-5], 0), ([10**12, 3], 100)],
)
def test_an_ack_is_never_more_than_was_sent_nor_less_than_before(acks: list[int], acked: int) -> None:
    outbox = Outbox(WINDOW)
    outbox.add(1, request(1))
    outbox.peek()
    outbox.commit(100)
    for received in acks:
        outbox.on_ack(received)
    assert outbox.acked == acked


def test_an_ack_is_due_at_each_quarter_of_the_window_and_tells_all_that_was_read() -> None:
    outbox = Outbox(window=400)
    assert outbox.ack_at == 100
    outbox.received = 130
    outbox.acknowledge()
    assert outbox.ack_at == 230
    outbox.received = 230
    outbox.acknowledge()
    assert send_all(outbox) == [([azp.Ack(130), azp.Ack(230)], ())]


def test_an_ack_may_be_told_early_where_there_is_something_to_tell() -> None:
    outbox = Outbox(window=400_000)
    outbox.received = 4095
    assert not outbox.acknowledge_early()
    outbox.received = 4096
    assert outbox.acknowledge_early()
    assert outbox.ack_at == 104_096
    assert not outbox.acknowledge_early()
    outbox.resize(800_000)
    assert not outbox.acknowledge_early()
    assert send_all(outbox) == [([azp.Ack(4096)], ())]


@given(sizes=st.lists(st.integers(0, 600), min_size=1, max_size=50), window=st.integers(1, 1000))
def test_two_outboxes_that_acknowledge_never_stall(sizes: list[int], window: int) -> None:
    """The sender's window and the receiver's quarter of it fit together, whatever the sizes of messages."""
    sender, receiver = Outbox(window), Outbox(window)
    delivered = []
    for number, size in enumerate(sizes, 1):
        sender.add(number, request(number, filler=size))
    for _ in range(2 * len(sizes)):
        message = sender.peek()
        if message is None:
            break
        sender.commit(len(message[0]))
        delivered += ids(azp.split(message[0]))
        receiver.received += len(message[0])
        if receiver.received >= receiver.ack_at:
            receiver.acknowledge()
        for records, _ in send_all(receiver):
            for record in records:
                assert isinstance(record, azp.Ack)
                sender.on_ack(record.received)
    assert delivered == list(range(1, len(sizes) + 1))
    assert sender.sent - sender.acked < window + max(sizes) + 100


# Taking back


def test_what_has_not_left_can_be_taken_back() -> None:
    outbox = Outbox(WINDOW)
    for number in (1, 2, 3):
        outbox.add(number, request(number))
    assert outbox.remove(2)
    assert not outbox.remove(2)
    message = send(outbox)
    assert message is not None
    assert ids(message[0]) == [1, 3]
    assert not outbox.remove(1)
    assert_empty(outbox)


def test_taking_back_the_only_large_record_leaves_nothing_behind() -> None:
    outbox = Outbox(WINDOW)
    outbox.add_large(1, large(1), [b"x" * 100_000])
    assert outbox.remove(1)
    assert_empty(outbox)
    outbox.add(2, request(2))
    outbox.add(3, request(3))
    assert [ids(records) for records, _ in send_all(outbox)] == [[2, 3]]


# How it is cut into messages


def test_a_record_with_buffers_travels_alone_and_in_its_turn() -> None:
    outbox = Outbox(WINDOW)
    for number in (1, 2):
        outbox.add(number, request(number))
    outbox.add_large(3, large(3), [b"three"])
    outbox.add_large(4, large(4), [b"four"])
    outbox.add(5, request(5))
    outbox.control(azp.encode((azp.CANCEL, 9)))
    messages = [(ids(records), list(buffers)) for records, buffers in send_all(outbox)]
    assert messages == [([9, 1, 2], []), ([3], [b"three"]), ([4], [b"four"]), ([5], [])]
    assert_empty(outbox)


def test_many_bytes_are_cut_into_messages_of_a_quarter_megabyte() -> None:
    outbox = Outbox(100 * WINDOW)
    for number in range(1, 101):
        outbox.add(number, request(number, filler=10_000))
    sizes = []
    delivered: list[int] = []
    while (message := outbox.peek()) is not None:
        sizes.append(len(message[0]))
        outbox.commit(len(message[0]))
        delivered += ids(azp.split(message[0]))
    assert delivered == list(range(1, 101))
    assert max(sizes) <= BATCH_BYTES + 100
    assert len(sizes) == 4
    assert_empty(outbox)


def test_many_records_are_cut_into_messages_that_a_peer_accepts() -> None:
    outbox = Outbox(100 * WINDOW)
    for number in range(1, 10_001):
        outbox.add(number, request(number))
    messages = send_all(outbox)
    assert max(len(records) for records, _ in messages) <= 4096
    assert [number for records, _ in messages for number in ids(records)] == list(range(1, 10_001))


def test_one_record_larger_than_a_batch_still_leaves() -> None:
    outbox = Outbox(WINDOW)
    outbox.add(1, request(1, filler=500_000))
    outbox.add(2, request(2))
    assert [ids(records) for records, _ in send_all(outbox)] == [[1], [2]]


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from((0, 10, 70_000, 200_000))),
        st.tuples(st.just("large"), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(1, 30)),
        st.tuples(st.just("send"), st.integers(1, 3)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("ack"), st.integers(0, 400_000)),
    ),
    max_size=40,
)


@given(script=operations)
def test_everything_leaves_once_and_in_order_but_what_was_taken_back(script: list[tuple[str, int]]) -> None:
    outbox = Outbox(window=300_000)
    waiting: dict[int, int] = {}  # number -> buffers
    expected: list[int] = []
    delivered: list[int] = []
    last = 0

    def send_one() -> bool:
        message = send(outbox)
        if message is None:
            return False
        records, buffers = message
        taken = ids(records)
        delivered.extend(taken)
        assert sum(waiting[number] for number in taken) == len(buffers)
        for number in taken:
            del waiting[number]
        return True

    for what, value in script:
        if what in ("add", "large"):
            last += 1
            expected.append(last)
            waiting[last] = value if what == "large" else 0
            if what == "add":
                outbox.add(last, request(last, filler=value))
            else:
                outbox.add_large(last, large(last), [b"b" * 1000] * value)
        elif what == "remove":
            assert outbox.remove(value) is (value in waiting)
            if waiting.pop(value, None) is not None:
                expected.remove(value)
        elif what == "send":
            for _ in range(value):
                send_one()
        elif what == "fail":
            outbox.peek()
        else:
            outbox.on_ack(outbox.acked + value)
        assert len(outbox) == len(waiting)
    outbox.on_ack(outbox.sent)
    while send_one():
        outbox.on_ack(outbox.sent)
    assert delivered == expected
    assert_empty(outbox)


@pytest.mark.parametrize(
    ("cancels", "filler"),
    [(20_000, 0), (2_000, azp.HEADER_LIMIT - 2_000)],
    ids=["too many records", "a header frame too large"],
)
def test_a_flood_of_cancels_makes_no_message_that_the_peer_refuses(cancels: int, filler: int) -> None:
    outbox = Outbox(100 * WINDOW)
    for number in range(1, cancels + 1):
        outbox.control(azp.encode((azp.CANCEL, number)))
    outbox.add(30_000, request(30_000, filler=filler))
    assert [number for records, _ in send_all(outbox) for number in ids(records)] == [*range(1, cancels + 1), 30_000]


# Streams


def test_the_items_of_a_stream_leave_as_one_record_behind_what_waited_before() -> None:
    outbox, flow = Outbox(WINDOW), SendFlow(7, 100)
    outbox.add(1, request(1))
    put(outbox, flow, 10, 11, 12)
    assert len(outbox) == 1
    outbox.control(azp.encode((azp.CANCEL, 9)))
    message = send(outbox)
    assert message is not None
    assert contents(message[0]) == [(9, []), (1, []), (7, [10, 11, 12])]
    assert_empty(outbox)
    assert send_all(outbox) == []
    put(outbox, flow, 13)
    assert [contents(records) for records, _ in send_all(outbox)] == [[(7, [13])]]


@pytest.mark.parametrize("key", [2**53 + 1, 2**62 + 1, 2**64 - 1])
def test_items_and_calls_of_whatever_id_leave_all(key: int) -> None:
    outbox = Outbox(WINDOW)
    flow = SendFlow(key, 100)
    outbox.add(key, request(key))
    for number in range(3):
        put(outbox, flow, number)
        outbox.seal()
        outbox.append(azp.encode((azp.END, 5)))
    assert outbox.of_call(key)
    assert [len(records) for records, _ in send_all(outbox)] == [7]


def test_items_that_join_those_that_wait_travel_with_them() -> None:
    outbox, one, two = Outbox(WINDOW), SendFlow(1, 100), SendFlow(2, 100)
    put(outbox, one, 1)
    put(outbox, two, 5)
    put(outbox, one, 2)
    assert [contents(records) for records, _ in send_all(outbox)] == [[(1, [1, 2]), (2, [5])]]


def test_sealed_items_count_and_precede_what_is_queued_after_them() -> None:
    outbox, flow = Outbox(WINDOW), SendFlow(7, 100)
    outbox.seal()
    assert_empty(outbox)
    put(outbox, flow, 10, 11)
    assert outbox.nbytes == 0
    outbox.seal()
    assert len(outbox) == 1
    assert outbox.nbytes == len(azp.encode((azp.ITEM, 7, 0, [10, 11])))
    outbox.add(1, request(1))
    put(outbox, flow, 12)
    outbox.seal()
    outbox.seal()
    assert [contents(records) for records, _ in send_all(outbox)] == [[(7, [10, 11]), (1, []), (7, [12])]]
    assert_empty(outbox)


def test_what_is_appended_comes_behind_all_items_and_is_never_taken_back() -> None:
    outbox, one, two = Outbox(WINDOW), SendFlow(1, 100), SendFlow(2, 100)
    put(outbox, one, 10)
    put(outbox, two, 20)
    outbox.append(azp.encode((azp.END, 1)))
    put(outbox, two, 21)
    outbox.append(azp.encode((azp.END, 2)))
    assert not outbox.remove(1)
    assert not outbox.remove(2)
    assert [contents(records) for records, _ in send_all(outbox)] == [
        [(1, [10]), (2, [20]), (1, []), (2, [21]), (2, [])]
    ]
    assert_empty(outbox)


def test_what_is_appended_with_buffers_travels_alone_and_in_its_turn() -> None:
    outbox, flow = Outbox(WINDOW), SendFlow(7, 100)
    put(outbox, flow, 10)
    reference = azp.encode(msgspec.msgpack.Ext(azp.BUFFER_EXT, b"\x00"))
    outbox.append(flow.seal_large(reference, 1, 70_000), [b"x" * 70_000])
    put(outbox, flow, 11)
    assert outbox.nbytes > 70_000
    messages = [(len(records), list(buffers)) for records, buffers in send_all(outbox)]
    assert messages == [(1, []), (1, [b"x" * 70_000]), (1, [])]
    assert_empty(outbox)


def test_the_items_of_a_call_that_is_over_are_forgotten() -> None:
    outbox, one, two = Outbox(WINDOW), SendFlow(1, 100), SendFlow(2, 100)
    outbox.drop(one)
    put(outbox, one, 10)
    put(outbox, two, 20)
    outbox.drop(one)
    outbox.drop(one)
    assert [contents(records) for records, _ in send_all(outbox)] == [[(2, [20])]]
    put(outbox, one, 11)
    outbox.seal()
    outbox.drop(one)  # too late: it is a record by now
    assert [contents(records) for records, _ in send_all(outbox)] == [[(1, [11])]]
    put(outbox, two, 21)
    outbox.drop(two)
    assert_empty(outbox)


def test_items_wait_for_the_window_and_control_records_do_not_count_as_waiting() -> None:
    outbox, flow = Outbox(window=10), SendFlow(7, 100)
    outbox.control(azp.encode((azp.CANCEL, 9)))
    outbox.pong(1)
    assert (outbox.pending, outbox.waiting) == (True, False)
    outbox.add(1, request(1))
    assert (outbox.pending, outbox.waiting) == (True, True)
    assert send(outbox) is not None
    assert (outbox.pending, outbox.waiting) == (False, False)
    put(outbox, flow, 10)
    assert (outbox.pending, outbox.waiting) == (True, True)
    assert send(outbox) is None
    assert (outbox.pending, outbox.waiting) == (True, True)
    outbox.control(azp.encode((azp.CANCEL, 8)))
    put(outbox, flow, 11)
    assert [contents(records) for records, _ in send_all(outbox)] == [[(8, [])]]
    outbox.on_ack(outbox.sent)
    message = send(outbox)
    assert message is not None
    assert [item for _, items in contents(message[0]) for item in items] == [10, 11]
    assert_empty(outbox)


stream_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3)),
        st.tuples(st.just("call"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(1, 3)),
        st.tuples(st.just("drop"), st.integers(1, 3)),
        st.tuples(st.sampled_from(("seal", "send", "fail", "ack")), st.just(0)),
    ),
    max_size=50,
)


@given(script=stream_operations)
def test_the_items_of_each_stream_leave_once_in_order_and_before_its_end(script: list[tuple[str, int]]) -> None:
    outbox = Outbox(window=100)
    flows = {key: SendFlow(key, 1000) for key in (1, 2, 3)}
    expected: dict[int, list[object]] = {key: [] for key in flows}
    unsealed: dict[int, int] = dict.fromkeys(flows, 0)
    delivered: dict[int, list[object]] = {key: [] for key in flows}

    def take() -> None:
        message = send(outbox)
        for record in message[0] if message is not None else ():
            if isinstance(record, azp.Item):
                delivered[record.id] += msgspec.msgpack.decode(record.values)
            elif isinstance(record, azp.End):
                delivered[record.id].append("end")

    for last, (what, key) in enumerate(script):
        if what == "put":
            put(outbox, flows[key], last)
            expected[key].append(last)
            unsealed[key] += 1
        elif what == "call":
            outbox.add(1000 + last, request(1000 + last))
        elif what == "drop":
            outbox.drop(flows[key])
            del expected[key][len(expected[key]) - unsealed[key] :]
            unsealed[key] = 0
        elif what == "ack":
            outbox.on_ack(outbox.sent)
        else:
            if what == "end":
                outbox.append(azp.encode((azp.END, key)))
                expected[key].append("end")
            elif what == "seal":
                outbox.seal()
            elif what == "fail":
                outbox.peek()
            else:
                take()
            unsealed = dict.fromkeys(flows, 0)
    for _ in script:
        outbox.on_ack(outbox.sent)
        take()
    assert delivered == expected
    assert_empty(outbox)
