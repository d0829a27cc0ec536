"""Publish-subscribe: against each other, and against plain pyzmq peers that make the calls everybody makes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from socket import create_connection
from typing import Any

import pytest
import zmq

import aiozpat
from aiozpat import InvalidBody, Publisher, QueueFull, SocketOptions, Subscriber, TimedOut, errors
from aiozpat.endpoints import publisher as publisher_module
from aiozpat.endpoints import subscriber as subscriber_module
from aiozpat.endpoints.publication import ECHO, ECHO_BYTES
from aiozpat.endpoints.subscriptions import Subscriptions
from tests.support import LOOPBACK, PATIENCE, until

SMALL = SocketOptions(send_queue_messages=10, send_buffer_bytes=4096, receive_queue_messages=10)


@contextlib.contextmanager
def plain(kind: int, **options: int) -> Any:
    """A plain pyzmq socket."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = int(PATIENCE * 1000)
        for name, value in options.items():
            setattr(socket, name, value)
        yield socket


@contextlib.asynccontextmanager
async def held_up(publisher: Publisher) -> AsyncIterator[Any]:
    """A subscriber to everything that does not read by itself, and can't be sent much ahead."""
    with plain(zmq.SUB, rcvhwm=1, rcvbuf=4096) as socket:
        socket.connect(publisher.endpoint)
        socket.subscribe(b"")
        before = publisher.subscribers("")
        await publisher.wait_for_subscribers("", before + 1, PATIENCE)
        yield socket


async def test_a_topic_is_a_prefix_and_one_frame_is_topic_and_body() -> None:
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=["weather"]) as weather,
        Subscriber(connect=publisher.endpoint, topics=[b""]) as everything,
    ):
        await publisher.wait_for_subscribers("weather.snow", 2, PATIENCE)
        await publisher.send("weather.snow -10")
        await publisher.send("news", "header", "body")
        await publisher.send("weather.rain", "5")
        first, second = await weather.recv(PATIENCE), await weather.recv(PATIENCE)
        assert (first.topic, first.body) == (b"weather.snow -10", b"weather.snow -10")
        assert (second.topic, second.body, second.frames) == (b"weather.rain", b"5", (b"weather.rain", b"5"))
        news = [await everything.recv(PATIENCE) for _ in range(3)][1]
        assert (news.topic, news.header, news.body) == (b"news", (b"news", b"header"), b"body")
        assert publisher.statistics().sent == 3


async def test_no_slow_joiner_300_times_in_a_row() -> None:
    for number in range(300):
        async with (
            Publisher(bind=LOOPBACK) as publisher,
            Subscriber(connect=publisher.endpoint, topics=["weather"]) as subscriber,
        ):
            await publisher.wait_for_subscribers("weather.snow", timeout=PATIENCE)
            await publisher.send("weather.snow", str(number))
            assert (await subscriber.recv(PATIENCE)).text() == str(number)


async def test_ready_means_that_nothing_is_missed_from_now_on() -> None:
    async with (
        Publisher(bind=LOOPBACK) as one,
        Publisher(bind=LOOPBACK) as two,
        Subscriber(connect=[one.endpoint, two.endpoint], topics=["a"]) as subscriber,
    ):
        assert await subscriber.ready(PATIENCE)
        await one.send("a1")
        await two.send("a2")
        assert {(await subscriber.recv(PATIENCE)).body for _ in range(2)} == {b"a1", b"a2"}
        subscriber.subscribe("b")
        assert await subscriber.ready(PATIENCE)
        await one.send("b1")
        assert (await subscriber.recv(PATIENCE)).body == b"b1"
        assert one.statistics().sent == 2  # the answers to `ready` are not the user's messages


async def test_ready_counts_an_endpoint_that_is_given_twice_once() -> None:
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=[publisher.endpoint] * 2, topics=["a"]) as subscriber,
    ):
        assert await subscriber.ready(PATIENCE)


async def test_ready_waits_for_the_connection_and_says_when_a_plain_pub_cannot_confirm(port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    async with Subscriber(connect=endpoint, topics=["a"]) as subscriber:
        with pytest.raises(TimedOut, match="0 of 1 publishers were connected"):
            await subscriber.ready(0.05)
        with plain(zmq.PUB) as socket:
            socket.bind(endpoint)
            assert not await subscriber.ready(PATIENCE)
            assert subscriber.peers == 1


async def test_what_ready_asks_is_seen_by_no_subscriber_of_ours() -> None:
    async with (
        aiozpat.Proxy("publish-subscribe", frontend_bind=LOOPBACK, backend_bind=LOOPBACK) as proxy,
        Publisher(connect=proxy.frontend_endpoint) as publisher,
        Subscriber(connect=proxy.backend_endpoint, topics=[""]) as everything,
        Subscriber(connect=proxy.backend_endpoint, topics=["a"]) as subscriber,
    ):
        assert await everything.ready(PATIENCE)
        assert await subscriber.ready(PATIENCE)
        await publisher.send("a", "1")
        assert (await everything.recv(PATIENCE)).frames == (b"a", b"1")


async def test_subscriptions_change_while_running() -> None:
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics="a") as subscriber,
    ):
        await publisher.wait_for_subscribers("a", timeout=PATIENCE)
        subscriber.subscribe("b")
        subscriber.subscribe("b")  # once is enough, and twice is taken back at once
        await publisher.wait_for_subscribers("b", timeout=PATIENCE)
        subscriber.unsubscribe("b")
        await until(lambda: publisher.subscribers("b") == 0)
        await publisher.send("b", "lost on purpose")
        await publisher.send("a", "kept")
        assert (await subscriber.recv(PATIENCE)).body == b"kept"
        assert subscriber.topics == {b"a"}
        with pytest.raises(errors.UsageError, match="has not subscribed"):
            subscriber.unsubscribe("b")


async def test_the_count_of_subscribers_follows_connections_that_come_and_go() -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        for _ in range(20):
            with plain(zmq.SUB) as one, plain(zmq.SUB) as two:
                for socket in (one, two):
                    socket.connect(publisher.endpoint)
                    for topic in (b"a", b"a", b"abc", b""):  # repeated ones are sent twice and taken back once
                        socket.subscribe(topic)
                await publisher.wait_for_subscribers("abcd", 2, PATIENCE)
                one.unsubscribe(b"a")
                one.unsubscribe(b"a")
                one.unsubscribe(b"abc")
                one.unsubscribe(b"")
                await until(lambda: publisher.subscribers("abcd") == 1)
            await until(lambda: publisher.subscribers("") == publisher.subscribers("abcd") == publisher.peers == 0)
        assert len(publisher._subscriptions) == 0


async def test_who_does_not_shake_hands_is_no_peer() -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        host, port = publisher.endpoint.removeprefix("tcp://").split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        async with Subscriber(connect=publisher.endpoint, topics=["a"]) as subscriber:
            assert await subscriber.ready(PATIENCE)
            assert publisher.peers == 1
            for reader, writer in silent:
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                assert await reader.read(1)  # its greeting
                writer.close()
            await publisher.send("a")
            await subscriber.recv(PATIENCE)
            assert (publisher.peers, publisher.subscribers("a")) == (1, 1)


async def test_waiting_for_subscribers_runs_out_of_time_and_says_how_many_there_were() -> None:
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=["a"]),
    ):
        await publisher.wait_for_subscribers("a", timeout=PATIENCE)
        with pytest.raises(TimedOut, match="1 of 2 subscribers"):
            await publisher.wait_for_subscribers("a", 2, timeout=0.01)
        waiting = asyncio.create_task(publisher.wait_for_subscribers("a", 2))
        await asyncio.sleep(0)
        await publisher.close()
        with pytest.raises(errors.Closed):
            await waiting


async def test_drop_leaves_out_the_subscriber_that_does_not_read_and_counts_it() -> None:
    async with (
        Publisher(bind=LOOPBACK, options=SMALL) as publisher,
        Subscriber(connect=publisher.endpoint, topics=[""]) as reader,
    ):
        await publisher.wait_for_subscribers("", timeout=PATIENCE)
        async with held_up(publisher) as silent:
            for number in range(2000):
                await publisher.send("topic", f"{number:0>500}")
                assert int((await reader.recv(PATIENCE)).body) == number
            assert 1 <= publisher.statistics().notices["overflow"] < 100  # episodes, not messages
            assert publisher.statistics().sent == 2000
            got = 0
            while True:  # until it has room again, and hears of the second episode's beginning
                await publisher.send("topic", "again")
                assert (await reader.recv(PATIENCE)).body == b"again"
                bodies = []
                while silent.poll(0):
                    bodies.append(silent.recv_multipart()[1])
                got += len(bodies) - bodies.count(b"again")
                if b"again" in bodies:
                    break
            assert 10 <= got < 2000


async def test_wait_loses_nothing_and_holds_up_all() -> None:
    async with Publisher(bind=LOOPBACK, overflow="wait", options=SMALL) as publisher, held_up(publisher) as slow:
        sent = 0
        with pytest.raises(TimedOut, match="nothing was sent"):
            while True:
                await publisher.send(f"{sent:0>500}", timeout=0.05)
                sent += 1
        for number in range(sent):
            assert int(slow.recv()) == number

        def read() -> list[int]:
            return [int(slow.recv()) for _ in range(1000)]

        reading = asyncio.create_task(asyncio.to_thread(read))
        for number in range(1000):
            await publisher.send(f"{number:0>500}", timeout=PATIENCE)
        assert await reading == list(range(1000))


async def test_raise_says_that_a_queue_is_full() -> None:
    async with Publisher(bind=LOOPBACK, overflow="raise", options=SMALL) as publisher, held_up(publisher):
        with pytest.raises(QueueFull, match="nothing was sent"):
            for _ in range(100_000):
                await publisher.send("x" * 500)


async def test_a_plain_publisher_and_a_plain_subscriber_are_peers(port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    with plain(zmq.PUB) as socket:
        socket.bind(endpoint)
        async with Subscriber(connect=endpoint, topics=["weather"]) as subscriber:
            while not subscriber.statistics().received:  # a plain PUB can't say when it is heard
                socket.send_string("weather.snow -10")
                await asyncio.sleep(0.001)
            assert (await subscriber.recv(PATIENCE)).text() == "weather.snow -10"
    async with Publisher(bind=LOOPBACK) as publisher:
        with plain(zmq.SUB) as socket:
            socket.connect(publisher.endpoint)
            socket.setsockopt_string(zmq.SUBSCRIBE, "weather")
            await publisher.wait_for_subscribers("weather", timeout=PATIENCE)
            await publisher.send("weather.snow -10")
            assert await asyncio.to_thread(socket.recv_string) == "weather.snow -10"


@dataclass
class Reading:
    """A typed body."""

    place: str
    celsius: float


async def test_bodies_have_types_and_one_that_does_not_fit_concerns_itself_alone() -> None:
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=["t"], body_type=Reading) as subscriber,
        Subscriber(connect=publisher.endpoint, topics=["t"]) as untyped,
    ):
        await publisher.wait_for_subscribers("t", 2, PATIENCE)
        await publisher.send_value("t", Reading("Oslo", -10.0))
        await publisher.send_value("t", {"place": "Oslo"})
        await publisher.send("t", b"\xc1\xff")
        await publisher.send_value("t", Reading("Rome", 20.0))
        assert (await subscriber.recv(PATIENCE)).value == Reading("Oslo", -10.0)
        for _ in range(2):
            message = await subscriber.recv(PATIENCE)
            with pytest.raises(InvalidBody, match="not what was asked for"):
                _ = message.value
        assert (await subscriber.recv(PATIENCE)).value.place == "Rome"
        assert (await untyped.recv(PATIENCE)).value == {"place": "Oslo", "celsius": -10.0}
        with pytest.raises(TypeError, match="can't be encoded"):
            await publisher.send_value("t", object())


async def test_misuse_is_told_what_to_do() -> None:
    with pytest.raises(errors.UsageError, match=r'topics=\[""\]'):
        Subscriber(connect="tcp://127.0.0.1:1", topics=[])
    with pytest.raises(errors.UsageError, match=r'topics=\[""\]'):
        Subscriber(connect="tcp://127.0.0.1:1")  # type: ignore[call-overload]  # mypy says so too
    with pytest.raises(TypeError, match="a topic is text or bytes"):
        Subscriber(connect="tcp://127.0.0.1:1", topics=[5])  # type: ignore[list-item]  # the mistake
    with pytest.raises(ValueError, match="4000 is the most"):
        Subscriber(connect="tcp://127.0.0.1:1", topics=["a" * 4001])
    with pytest.raises(TypeError, match="topics are text or bytes"):
        Subscriber(connect="tcp://127.0.0.1:1", topics=5)  # type: ignore[call-overload]  # the mistake
    with pytest.raises(ValueError, match='"drop", "wait" or "raise"'):
        Publisher(bind=LOOPBACK, overflow="lose")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(errors.InvalidEndpoint):
        Publisher(bind="weather")
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=["a"]) as subscriber,
    ):
        with pytest.raises(TypeError, match="a frame is"):
            await publisher.send(5)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(errors.Closed):
        await publisher.send("a")
    with pytest.raises(errors.Closed):
        subscriber.subscribe("b")
    with pytest.raises(errors.Closed):
        await subscriber.ready()


async def test_a_peer_of_another_pattern_is_refused_by_the_handshake() -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        with plain(zmq.PULL) as puller, plain(zmq.XSUB) as odd:
            failures = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            with puller.get_monitor_socket(zmq.EVENT_DISCONNECTED | failures) as monitor:
                puller.connect(publisher.endpoint)
                assert monitor.poll(PATIENCE * 1000)
                puller.disable_monitor()
            odd.connect(publisher.endpoint)
            odd.send(b"a message of its own")
            odd.send(b"\1a")
            await publisher.wait_for_subscribers("a", timeout=PATIENCE)
            assert publisher.statistics().notices["not a subscription"] == 1
            assert publisher.peers == 1


async def test_a_flood_of_questions_is_not_answered_with_a_flood() -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        with plain(zmq.SUB) as everything, plain(zmq.SUB, sndhwm=0) as asking:
            for socket in (everything, asking):
                socket.connect(publisher.endpoint)
            everything.subscribe(b"")
            await publisher.wait_for_subscribers("", timeout=PATIENCE)
            for number in range(5000):
                asking.subscribe(ECHO + b"%0*d" % (ECHO_BYTES - len(ECHO), number))
            asking.subscribe(b"end")
            await publisher.wait_for_subscribers("end", 2, PATIENCE)
            answers = 5000 - publisher.statistics().notices["ready not answered"]
            assert 0 < answers < 4000
            assert all(everything.recv().startswith(ECHO) for _ in range(answers))
            await publisher.send("nothing comes between")
            assert everything.recv() == b"nothing comes between"


async def test_on_inproc_at_least_one_can_be_told() -> None:
    async with (
        aiozpat.Context() as context,
        Publisher(bind="inproc://news", context=context) as publisher,
        Subscriber(connect="inproc://news", topics=["a"], context=context) as subscriber,
        Subscriber(connect="inproc://news", topics=["a"], context=context) as other,
    ):
        await publisher.wait_for_subscribers("a", timeout=PATIENCE)
        assert await subscriber.ready(PATIENCE)
        assert publisher.subscribers("a") == 1
        await publisher.send("a")
        assert (await subscriber.recv(PATIENCE)).topic == b"a"
        assert (await other.recv(PATIENCE)).topic == b"a"
        with pytest.raises(errors.UsageError, match="inproc"):
            await publisher.wait_for_peers()


def test_the_table_of_subscriptions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiozpat.endpoints.subscriptions._MOST", 10)
    table = Subscriptions()
    assert [table.add(1, b"%d" % number) for number in range(11)] == [True] * 10 + [False]
    assert table.add(1, b"0")  # known already
    table.drop(1)
    table.drop(1)
    table.remove(1, b"0")
    assert len(table) == table.count(b"0") == 0
    assert [table.add(2, b"%d" % number) for number in range(10)] == [True] * 10
    assert not table.add(3, b"no room")
    assert list(table._by_connection) == [2]


async def test_thousands_of_topics_arrive_all() -> None:
    topics = [f"topic {number:05}" for number in range(3000)]
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=topics) as subscriber,
    ):
        for number in range(3000):
            subscriber.subscribe(f"later {number:05}")
        await until(lambda: len(publisher._subscriptions) == 6000)


async def test_subscriptions_outlive_the_publisher(port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    async with Subscriber(connect=endpoint, topics=["a"]) as subscriber:
        for _ in range(2):
            # With a context of its own, so that the port is free when the block is left.
            async with aiozpat.Context() as context, Publisher(bind=endpoint, context=context) as publisher:
                await publisher.wait_for_subscribers("a", timeout=PATIENCE)
                await publisher.send("a")
                await subscriber.recv(PATIENCE)


async def test_closing_ends_the_iteration() -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        subscriber = await Subscriber(connect=publisher.endpoint, topics=["a"]).__aenter__()
        got: list[bytes] = []

        async def read() -> None:
            got.extend([message.body async for message in subscriber])

        reading = asyncio.create_task(read())
        await publisher.wait_for_subscribers("a", timeout=PATIENCE)
        await publisher.send_many([["a", "1"], ["a", "2"]])
        await until(lambda: subscriber.statistics().received == 2 and not subscriber.statistics().waiting)
        await subscriber.close()
        await reading
        assert got == [b"1", b"2"]


async def test_a_crowd_that_asks_whether_it_is_ready_is_answered() -> None:
    async with Publisher(bind=LOOPBACK) as publisher, contextlib.AsyncExitStack() as stack:
        crowd = [Subscriber(connect=publisher.endpoint, topics=["a"]) for _ in range(150)]
        for subscriber in crowd:
            await stack.enter_async_context(subscriber)
        assert all(await asyncio.gather(*(subscriber.ready(PATIENCE) for subscriber in crowd)))


async def test_ready_knows_inproc_beside_tcp() -> None:
    async with (
        aiozpat.Context() as context,
        Publisher(bind="inproc://near", context=context) as near,
        Publisher(bind=LOOPBACK, context=context) as far,
        Subscriber(connect=["inproc://near", far.endpoint], topics=["a"], context=context) as subscriber,
    ):
        assert await subscriber.ready(PATIENCE)
        await near.send("a", "near")
        await far.send("a", "far")
        assert {(await subscriber.recv(PATIENCE)).body for _ in range(2)} == {b"near", b"far"}


async def test_a_crowd_that_comes_and_goes_while_the_loop_stands_still_blocks_nothing() -> None:
    """libzmq's I/O thread would wait for room in the monitor's queue, with a lock that closing and binding need."""

    def visit(endpoint: str) -> None:
        host, port = endpoint.removeprefix("tcp://").split(":")
        for _ in range(1500):  # three events each
            with create_connection((host, int(port))) as visitor:
                visitor.recv(1)  # its greeting: libzmq's I/O thread is at work

    async with Publisher(bind=LOOPBACK) as publisher:
        visit(publisher.endpoint)  # blocks the loop, as a careless handler does
        publisher.bind(LOOPBACK)
        await until(lambda: publisher.peers == 0)


async def test_a_topic_of_any_length_is_counted_at_once() -> None:
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=["a", "ab", "x" * 4000]),
    ):
        await publisher.wait_for_subscribers("x" * 1_000_000, timeout=PATIENCE)  # the longest there may be
        await publisher.wait_for_subscribers("a" * 1_000_000, timeout=PATIENCE)
        assert publisher.subscribers("ab" * 500_000) == 1


async def test_a_sender_that_waits_leaves_the_processor_alone() -> None:
    async with Publisher(bind=LOOPBACK, overflow="wait", options=SMALL) as publisher, held_up(publisher):
        turns = 0
        attempt = publisher._try

        def counted(frames: Sequence[bytes]) -> bool:
            nonlocal turns
            turns += 1
            return attempt(frames)

        publisher._try = counted  # type: ignore[method-assign]  # to count
        with pytest.raises(TimedOut):
            while True:  # until all that the kernel takes is full
                turns = 0
                await publisher.send("x" * 1000, timeout=0.5)
        assert turns < 100  # every 20 ms, and whenever the peer takes something


@pytest.mark.parametrize("said", [b"\1\0", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(189)])
async def test_a_stranger_is_no_subscriber(said: bytes) -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        with contextlib.closing(create_connection(("127.0.0.1", int(publisher.endpoint.rpartition(":")[2])))) as peer:
            peer.sendall(said)
            await until(lambda: "subscription not counted" in publisher.statistics().notices)
        assert publisher.subscribers("weather") == 0
        async with Subscriber(connect=publisher.endpoint, topics="weather"):
            await publisher.wait_for_subscribers("weather", timeout=PATIENCE)
            assert publisher.subscribers("weather") == 1


async def test_a_publisher_that_is_closed_has_no_subscribers() -> None:
    async with Publisher(bind=LOOPBACK) as publisher, Subscriber(connect=publisher.endpoint, topics="weather"):
        await publisher.wait_for_subscribers("weather", timeout=PATIENCE)
        await publisher.close()
        assert publisher.subscribers("weather") == 0


async def test_ready_asks_again_where_an_answer_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    echo = Publisher._echo

    def losing_the_first(publisher: Publisher, question: bytes) -> None:
        asked.append(question)
        if len(asked) > 1:
            echo(publisher, question)

    monkeypatch.setattr(Publisher, "_echo", losing_the_first)
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=[""]) as subscriber,
    ):
        assert await subscriber.ready(PATIENCE)
    assert len(asked) == 2


async def test_who_has_left_before_its_subscription_was_read_is_no_subscriber() -> None:
    async with Publisher(bind=LOOPBACK) as publisher:
        socket = publisher._usable()
        async with Subscriber(connect=publisher.endpoint, topics=["a"]) as subscriber:
            await subscriber.wait_for_peers(1, PATIENCE)
            socket.pause()  # as if the loop stood still
            subscriber.subscribe("b")
            await until(lambda: bool(socket._events() & zmq.POLLIN))
        await until(lambda: publisher.peers == 0)
        socket.resume()
        await until(lambda: not socket._events() & zmq.POLLIN)
        assert publisher.subscribers("b") == 0


async def test_on_inproc_who_leaves_takes_no_other_subscriber_along() -> None:
    async with (
        aiozpat.Context() as context,
        Publisher(bind="inproc://news", context=context) as publisher,
        Subscriber(connect="inproc://news", topics=["a"], context=context),
        Subscriber(connect="inproc://news", topics=["a"], context=context) as leaving,
    ):
        leaving.subscribe("b")
        await publisher.wait_for_subscribers("b", timeout=PATIENCE)
        leaving.unsubscribe("a")
        leaving.subscribe("c")
        await publisher.wait_for_subscribers("c", timeout=PATIENCE)  # so what came before was read as well
        assert publisher.subscribers("a") == 1


async def test_who_subscribes_is_a_peer_though_the_handshake_was_taken_for_anothers() -> None:
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=["a"]) as subscriber,
    ):
        await publisher.wait_for_subscribers("a", timeout=PATIENCE)
        connections = publisher._connections
        (fd,) = connections._peers
        connections.ended(fd)
        connections.opened(fd)  # as one that has not shaken hands
        assert publisher.peers == 0
        subscriber.subscribe("b")
        await publisher.wait_for_subscribers("b", timeout=PATIENCE)
        assert publisher.peers == 1


async def test_who_asks_in_another_second_is_answered_however_many_asked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher_module, "_ECHOES", 1)
    async with (
        Publisher(bind=LOOPBACK) as publisher,
        Subscriber(connect=publisher.endpoint, topics=["a"]) as subscriber,
    ):
        for _ in range(3):
            assert await subscriber.ready(PATIENCE)
            publisher._echoes_since -= 1.0  # a second passes


async def test_ready_leaves_no_subscription_behind() -> None:
    with plain(zmq.XPUB) as xpub:
        port = xpub.bind_to_random_port("tcp://127.0.0.1")
        async with Subscriber(connect=f"tcp://127.0.0.1:{port}", topics=["a"]) as subscriber:
            asking = asyncio.create_task(subscriber.ready(PATIENCE))
            assert await asyncio.to_thread(xpub.recv) == b"\1a"
            question = await asyncio.to_thread(xpub.recv)
            xpub.send(question[1:])
            assert await asking
            came = {question}
            for _ in range(100):  # it may have asked more than once
                came ^= {b"\1" + (said := await asyncio.to_thread(xpub.recv))[1:]}
                if not came:
                    break
            assert said[:1] == b"\0"


async def test_closing_ends_waiting_for_an_answer_to_ready() -> None:
    with plain(zmq.PUB) as pub:
        port = pub.bind_to_random_port("tcp://127.0.0.1")
        async with Subscriber(connect=f"tcp://127.0.0.1:{port}", topics=["a"]) as subscriber:
            asking = asyncio.create_task(subscriber.ready(PATIENCE))
            await until(lambda: bool(subscriber._answers))
            await subscriber.close()
            with pytest.raises(errors.Closed):
                await asking


async def test_a_subscriber_that_binds_is_ready_once_each_that_has_connected_confirms() -> None:
    async with Subscriber(bind=LOOPBACK, topics=["a"]) as subscriber, Publisher(connect=subscriber.endpoint):
        await subscriber.wait_for_peers(1, PATIENCE)
        assert await subscriber.ready(PATIENCE)
        with plain(zmq.PUB) as pub:
            pub.connect(subscriber.endpoint)
            await subscriber.wait_for_peers(2, PATIENCE)
            assert not await subscriber.ready(0.3)


async def test_ready_waits_for_answers_no_longer_than_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "_ECHO_SECONDS", 10 * PATIENCE)
    with plain(zmq.PUB) as pub:
        port = pub.bind_to_random_port("tcp://127.0.0.1")
        async with Subscriber(connect=f"tcp://127.0.0.1:{port}", topics=["a"]) as subscriber:
            await subscriber.wait_for_peers(1, PATIENCE)
            assert not await asyncio.wait_for(subscriber.ready(0.05), PATIENCE)


async def test_who_reads_nothing_keeps_nobody_from_being_ready() -> None:
    async with Publisher(bind=LOOPBACK, options=SMALL) as publisher, held_up(publisher):
        socket, refused = publisher._socket, 0
        assert socket is not None
        while refused < 50:  # by then it is full, and no overflow has been met that would leave it out
            if socket.send_frames((b"z" * 1000,)):
                refused = 0
            else:
                refused += 1
                await asyncio.sleep(0.002)
        async with Subscriber(connect=publisher.endpoint, topics="weather") as subscriber:
            assert await subscriber.ready(PATIENCE)
        assert publisher.statistics().sent == 0  # answers are no messages
