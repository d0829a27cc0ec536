"""PUSH and PULL, and PAIR: against each other, against plain pyzmq peers, and over worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import zmq
import zmq.asyncio

import aiozpat
from aiozpat import Dealer, Pair, Publisher, Puller, Pusher, Router, SocketOptions, Subscriber, TimedOut, errors
from aiozpat.endpoints import reconnecting
from aiozpat.transport import Socket, place_of
from tests.support import LOOPBACK, PATIENCE, Process, in_thread, until

Start = Callable[..., Process]
SMALL = SocketOptions(send_queue_messages=1, send_buffer_bytes=4096)


@contextlib.contextmanager
def plain(kind: int) -> Any:
    """A plain pyzmq socket."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.rcvtimeo = socket.sndtimeo = int(PATIENCE * 1000)
        yield socket


async def test_tasks_go_to_each_connected_puller_in_turn() -> None:
    async with Pusher(bind=LOOPBACK) as pusher:
        pullers = [Puller(connect=pusher.endpoint) for _ in range(4)]
        async with contextlib.AsyncExitStack() as stack:
            for puller in pullers:
                await stack.enter_async_context(puller)
            await pusher.wait_for_peers(4, PATIENCE)
            await pusher.send_many(str(number) for number in range(400))
            await until(lambda: all(puller.statistics().received == 100 for puller in pullers))
            got = [int(message.body) for puller in pullers for message in await puller.recv_many()]
            assert sorted(got) == list(range(400))
            await pullers[0].close()
            await until(lambda: pusher.peers == 3)
        await until(lambda: pusher.peers == 0)


async def test_a_plain_ventilator_and_a_plain_worker_are_peers() -> None:
    def ventilate(endpoint: str) -> None:
        with plain(zmq.PUSH) as socket:
            socket.connect(endpoint)
            for number in range(5):
                socket.send_string(f"task-{number}")

    def work(endpoint: str) -> list[str]:
        with plain(zmq.PULL) as socket:
            socket.connect(endpoint)
            return [socket.recv_string() for _ in range(5)]

    async with Puller(bind=LOOPBACK) as puller:
        thread = in_thread(lambda: ventilate(puller.endpoint))
        assert [(await puller.recv(PATIENCE)).text() for _ in range(5)] == [f"task-{number}" for number in range(5)]
        await asyncio.to_thread(thread.join)
    async with Pusher(bind=LOOPBACK) as pusher:
        working = asyncio.create_task(asyncio.to_thread(work, pusher.endpoint))
        for number in range(5):
            await pusher.send(f"task-{number}", timeout=PATIENCE)
        assert await working == [f"task-{number}" for number in range(5)]


async def test_sending_waits_at_the_high_water_mark_and_loses_nothing() -> None:
    async with Pusher(bind=LOOPBACK, options=SMALL) as pusher:
        with pytest.raises(TimedOut, match="nothing was sent"):
            await pusher.send("nobody is there", timeout=0.01)
        async with Puller(connect=pusher.endpoint, prefetch=1) as puller:
            sent = refused = 0
            while refused < 5:  # on a busy machine, once may be too early
                try:
                    await pusher.send(f"{sent:0>1000}", timeout=0.1)
                except TimedOut:
                    refused += 1
                else:
                    sent, refused = sent + 1, 0
            assert sent < 100
            with pytest.raises(TimedOut, match="0 messages were sent"):
                await pusher.send_many([b"x" * 1000] * 10, timeout=0.01)
            rest = asyncio.create_task(pusher.send_many(f"{number:0>1000}" for number in range(sent, sent + 1000)))
            for number in range(sent + 1000):
                assert int((await puller.recv(PATIENCE)).body) == number
            await rest


async def test_many_are_sent_as_they_are_and_each_is_checked() -> None:
    async with Puller(bind=LOOPBACK) as puller, Pusher(connect=puller.endpoint) as pusher:
        await pusher.send_many(["one", ("a", b"b"), bytearray(b"three")])
        assert [(await puller.recv(PATIENCE)).frames for _ in range(3)] == [(b"one",), (b"a", b"b"), (b"three",)]
        with pytest.raises(TypeError, match="a message is one frame"):
            await pusher.send_many(["sent", 5])  # type: ignore[list-item]  # the mistake
        assert (await puller.recv(PATIENCE)).text() == "sent"
        with pytest.raises(ValueError, match="at least one frame"):
            await pusher.send_many([()])
    with pytest.raises(errors.Closed):
        await pusher.send("x")
    with pytest.raises(errors.Closed):
        await pusher.send_many(["x"])
    with pytest.raises(errors.Closed):
        await pusher.wait_for_peers()


async def test_a_frame_that_peers_would_not_take_is_refused_at_once() -> None:
    async with Puller(bind=LOOPBACK) as puller, Pusher(connect=puller.endpoint) as pusher:
        with pytest.raises(ValueError, match="max_message_bytes"):
            await pusher.send("small", bytes(16 * 1024 * 1024 + 1))
        await pusher.send(bytes(16 * 1024 * 1024))
        assert len((await puller.recv(PATIENCE)).body) == 16 * 1024 * 1024
        with pytest.raises(TypeError, match="send_many takes several messages"):
            await pusher.send_many("text")


@pytest.mark.parametrize("before", [(), ("",), ("", "")])
async def test_a_small_limit_holds_for_small_frames_too(before: tuple[str, ...]) -> None:
    options = SocketOptions(max_message_bytes=1000)
    async with (
        Puller(bind=LOOPBACK, options=options) as puller,
        Pusher(connect=puller.endpoint, options=options) as pusher,
    ):
        for number in range(len(before) + 1):
            frames = [*before]
            frames.insert(number, "x" * 1001)
            with pytest.raises(ValueError, match="max_message_bytes is 1000"):
                await pusher.send(*frames)
        await pusher.send(*before, "x" * 1000)
        assert (await puller.recv(PATIENCE)).text() == "x" * 1000


async def test_a_message_whose_peer_goes_between_its_frames_is_sent_whole_or_not_at_all() -> None:
    """libzmq drops what follows up to the message's end, the next message if that end does not come."""
    sent: list[list[bytes]] = [[]]
    dropping = False
    goes = True

    def backend(frame: bytes, flags: int, copy: bool = True) -> None:
        nonlocal dropping, goes
        more = bool(flags & zmq.SNDMORE)
        if dropping:
            dropping = more
            return
        if goes and sent[-1]:  # between two frames
            goes, dropping = False, more
            sent[-1].clear()
            raise zmq.Again
        sent[-1].append(bytes(frame))
        if not more:
            sent.append([])

    async with Pusher(bind=LOOPBACK) as pusher:
        socket = pusher._socket
        assert socket is not None
        socket._send = backend
        with pytest.raises(TimedOut, match="nothing was sent"):
            await pusher.send("one", "two", "three", "four", timeout=0.01)
        assert pusher.statistics().sent == 0
        await pusher.send("five", "six", "seven")
        assert sent == [[b"five", b"six", b"seven"], []]


@pytest.mark.parametrize("step", ["monitor", "connect"])
async def test_an_endpoint_that_cant_be_watched_leaves_no_reader_and_no_socket(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, int]] = []
    make = zmq.asyncio.Context.socket

    def noted(*arguments: Any) -> Any:
        socket = make(*arguments)
        made.append((socket, int(socket.get(zmq.FD))))
        return socket

    def fail(*_: object) -> None:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(zmq.asyncio.Context, "socket", noted)
    monkeypatch.setattr(zmq.asyncio.Socket, step, fail)
    with pytest.raises(errors.AiozpatError, match="can't watch a socket's connections"):
        await Pusher(bind=LOOPBACK).__aenter__()
    assert made
    for socket, fd in made:
        assert socket.closed
        assert not asyncio.get_running_loop().remove_reader(fd)


@pytest.mark.parametrize("step", ["socket", "connect"])
async def test_where_connecting_fails_for_want_of_files_it_works_later(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise zmq.ZMQError(errno.EMFILE)

    async with Router(bind=LOOPBACK) as router, Dealer() as dealer:
        with monkeypatch.context() as patch:
            patch.setattr(zmq.asyncio.Context if step == "socket" else zmq.asyncio.Socket, step, fail)
            with pytest.raises(errors.AiozpatError, match="can't watch a socket's connections"):
                dealer.connect(router.endpoint)
        assert dealer.endpoints == ()
        dealer.connect(router.endpoint)
        await dealer.send("here")
        assert (await router.recv(PATIENCE)).text() == "here"


async def test_a_bind_that_fails_costs_no_wake_up(port: int) -> None:
    async with (
        Puller(bind=LOOPBACK) as puller,
        Pusher(connect=puller.endpoint) as pusher,
        Puller(bind=LOOPBACK) as other,
    ):
        await pusher.wait_for_peers(timeout=PATIENCE)
        for number in range(50):
            receiving = asyncio.create_task(puller.recv(PATIENCE))
            await pusher.send(str(number))
            with pytest.raises(errors.AddressInUse):
                puller.bind(other.endpoint)
            assert (await receiving).text() == str(number)


async def test_receivers_on_one_endpoint_share_what_comes() -> None:
    total = 4000
    by: Counter[int] = Counter()
    async with Puller(bind=LOOPBACK) as puller, Pusher(connect=puller.endpoint) as pusher:

        async def receive(name: int) -> None:
            async for _ in puller:
                by[name] += 1

        receivers = [asyncio.create_task(receive(name)) for name in range(8)]
        await pusher.send_many([b"x"] * total)
        await until(lambda: by.total() == total)
        assert len(by) == 8
        assert min(by.values()) > total // 80
        await puller.close()
        await asyncio.gather(*receivers)


async def test_large_messages_leave_the_loop_its_turns() -> None:
    async with Puller(bind=LOOPBACK) as puller, Pusher(connect=puller.endpoint) as pusher:
        body = bytes(range(256)) * 4096  # 1 MiB
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        turning = asyncio.create_task(turn())
        sending = asyncio.create_task(pusher.send_many([body] * 50))
        for _ in range(50):
            assert (await puller.recv(PATIENCE)).body == body
        assert turns > 20
        await sending
        turning.cancel()


def test_a_prefetch_is_a_whole_number() -> None:
    for kind in (Puller, Pusher):
        for wrong in (0, -1, 1.5):
            with pytest.raises(ValueError, match="prefetch is a whole number from 1"):
                kind(bind=LOOPBACK, prefetch=wrong)  # type: ignore[arg-type]  # the mistake


async def test_waiting_for_peers_runs_out_of_time() -> None:
    async with Pusher(bind=LOOPBACK) as pusher, Puller(connect=pusher.endpoint):
        await pusher.wait_for_peers(1, PATIENCE)
        with pytest.raises(TimedOut, match="1 of 2 peers were connected"):
            await pusher.wait_for_peers(2, 0.01)


async def test_a_hundred_thousand_tasks_each_exactly_once(processes: Start) -> None:
    total = 100_000
    async with Pusher(bind=LOOPBACK) as ventilator, Puller(bind=LOOPBACK) as sink:
        for name in "abcd":
            processes("worker", ventilator.endpoint, sink.endpoint, name, "0", "0")
        await ventilator.wait_for_peers(4, PATIENCE)
        sending = asyncio.create_task(ventilator.send_many(b"%d" % number for number in range(total)))
        done: list[int] = []
        by: Counter[bytes] = Counter()
        while len(done) < total:
            for message in await sink.recv_many(timeout=PATIENCE):
                by[message.frames[0]] += 1
                done.append(int(message.body))
        await sending
        assert sorted(done) == list(range(total))
        assert len(by) == 4
        with pytest.raises(TimedOut):
            await sink.recv(timeout=0.05)


async def test_no_worker_idles_while_tasks_wait(processes: Start) -> None:
    """One worker is ten times as slow: the others take what it does not."""
    total, seconds = 2000, 0.002
    async with Pusher(bind=LOOPBACK, prefetch=1) as ventilator, Puller(bind=LOOPBACK) as sink:
        for name in "abcd":
            each = seconds * (10 if name == "d" else 1)
            processes("worker", ventilator.endpoint, sink.endpoint, name, str(each), "1")
        await ventilator.wait_for_peers(4, PATIENCE)
        tasks = [b"x" * 4000] * total  # a few of them fill what the kernel takes
        sending = asyncio.create_task(ventilator.send_many(tasks))
        by: Counter[str] = Counter()
        while not sending.done():  # tasks wait for a worker
            by[(await sink.recv(PATIENCE)).frames[0].decode()] += 1
        held = total - by.total()
        assert held < 100  # of all four, when none waited any more
        await sending
        for _ in range(held):
            by[(await sink.recv(PATIENCE)).frames[0].decode()] += 1
        fast = [by[name] for name in "abc"]
        assert max(fast) <= 2 * min(fast)
        assert by["d"] * 3 < min(fast)


async def test_ctrl_c_ends_all_of_a_busy_pipeline_soon(processes: Start) -> None:
    """They are ready to linger for a minute where their blocks are left in peace."""
    ends = processes("ends", LOOPBACK, LOOPBACK, flags=("-X", "dev", "-W", "error"))
    tasks, results = (await ends.line()).split()
    flags = ("-X", "dev", "-W", "error")
    workers = [processes("worker", tasks, results, name, "0", "0", flags=flags) for name in "abcd"]
    assert await ends.line() == "busy"
    start = time.monotonic()
    for process in (ends, *workers):
        process.send_signal(signal.SIGINT)
    for process in (ends, *workers):
        assert await process.wait() == (0, "", "")
    assert time.monotonic() - start < PATIENCE


async def test_two_ends_of_a_pair_send_and_receive_as_they_like() -> None:
    async with Pair(bind=LOOPBACK) as one, Pair(connect=one.endpoint) as two:
        await one.wait_for_peers(timeout=PATIENCE)
        await one.send("a", "b")
        await two.send_many(["1", "2", "3"])
        assert (await two.recv(PATIENCE)).frames == (b"a", b"b")
        assert [(await one.recv(PATIENCE)).text() for _ in range(3)] == ["1", "2", "3"]
        with plain(zmq.PAIR) as third:  # there is room for two
            third.linger = 0
            third.connect(one.endpoint)
            third.send(b"nobody hears this")
            await two.send("still here")
            assert (await one.recv(PATIENCE)).text() == "still here"
            assert not one.statistics().waiting


async def test_a_plain_pair_is_a_peer() -> None:
    def talk(endpoint: str) -> bytes:
        with plain(zmq.PAIR) as socket:
            socket.connect(endpoint)
            socket.send(b"hello")
            answer: bytes = socket.recv()
            return answer

    async with Pair(bind=LOOPBACK) as pair:
        talking = asyncio.create_task(asyncio.to_thread(talk, pair.endpoint))
        assert (await pair.recv(PATIENCE)).text() == "hello"
        await pair.send("goodbye")
        assert await talking == b"goodbye"


async def test_an_inproc_pair_needs_no_waiting() -> None:
    async with (
        aiozpat.Context() as context,
        Pair(bind="inproc://pair", context=context) as one,
        Pair(connect="inproc://pair", context=context) as two,
    ):
        await one.send("hello")
        assert (await two.recv(PATIENCE)).text() == "hello"
        with pytest.raises(errors.UsageError, match="inproc"):
            await one.wait_for_peers()


@pytest.mark.parametrize("kind", ["pull", "sub", "dealer", "router"])
async def test_who_was_given_up_for_too_large_a_message_is_connected_to_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.05)
    options = SocketOptions(max_message_bytes=1000)

    def given_up() -> int:
        return end.statistics().notices.get("connection given up", 0)

    sends = {"pull": zmq.PUSH, "sub": zmq.PUB}.get(kind, zmq.DEALER)
    with zmq.Context() as context, context.socket(sends) as sender:
        sender.linger, sender.sndhwm = 0, 1

        async def send_until(condition: Callable[[], bool], data: bytes) -> None:
            while not condition():
                with contextlib.suppress(zmq.Again):
                    sender.send(data, zmq.NOBLOCK)
                await asyncio.sleep(0.01)

        endpoint = f"tcp://127.0.0.1:{sender.bind_to_random_port('tcp://127.0.0.1')}"
        end: Puller | Subscriber[Any] | Dealer | Router
        if kind == "sub":
            end = Subscriber(connect=endpoint, topics=[""], options=options)
        else:
            end = {"pull": Puller, "dealer": Dealer, "router": Router}[kind](connect=endpoint, options=options)
        async with end, asyncio.timeout(PATIENCE):
            await send_until(lambda: given_up() == 1, b"x" * 2000)
            await send_until(lambda: given_up() >= 2, b"x" * 2000)
            await send_until(lambda: bool(end.statistics().received), b"small")
            assert (await end.recv(PATIENCE)).frames == (b"small",)


@pytest.mark.parametrize("kind", ["push", "pull"])
async def test_who_is_of_another_kind_is_said_to_be(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.02)
    peer: Dealer | Publisher = Dealer(bind=LOOPBACK) if kind == "push" else Publisher(bind=LOOPBACK)
    async with peer:
        end = Pusher(connect=peer.endpoint) if kind == "push" else Puller(connect=peer.endpoint)
        async with end:
            await until(lambda: end.statistics().notices.get("connection given up", 0) >= 3)
    [line] = caplog.messages  # for all of them, in ten seconds
    assert f"no handshake with {peer.endpoint}: its socket type does not go with {kind.upper()}" in line


async def test_who_sent_too_much_is_said_to_have(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.02)
    options = SocketOptions(max_message_bytes=1000)
    async with Pusher(bind=LOOPBACK) as pusher, Puller(connect=pusher.endpoint, options=options) as puller:
        await pusher.send(bytes(1001))
        await until(lambda: puller.statistics().notices.get("connection given up") == 1)
    [line] = caplog.messages
    assert f"{pusher.endpoint} broke ZeroMQ's rules, by a message over SocketOptions.max_message_bytes" in line


@contextlib.asynccontextmanager
async def puller_of_ten(pusher: Pusher) -> AsyncIterator[Puller]:
    """A puller that holds ten messages, and leaves five more, and what ends the connection, to libzmq."""
    options = SocketOptions(max_message_bytes=1000, receive_queue_messages=10)
    async with Puller(connect=pusher.endpoint, options=options) as puller:
        await pusher.send_many([b"%d" % number for number in range(15)])
        await pusher.send(bytes(1001))
        yield puller


async def test_what_has_come_from_who_is_given_up_is_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.02)
    monkeypatch.setattr(reconnecting, "_SURE", 0.01)
    looks: list[bool] = []
    has_input = Socket.has_input

    def look(socket: Socket) -> bool:
        looks.append(has_input(socket))
        return looks[-1]

    monkeypatch.setattr(Socket, "has_input", look)
    async with Pusher(bind=LOOPBACK) as pusher, puller_of_ten(pusher) as puller:
        await until(lambda: len(looks) >= 3 or "connection given up" in puller.statistics().notices)
        for number in range(15):
            assert (await puller.recv(PATIENCE)).body == b"%d" % number
        await pusher.send("on a new connection")
        assert (await puller.recv(PATIENCE)).text() == "on a new connection"
        assert puller.statistics().notices == {"connection given up": 1}


async def test_that_unread_messages_may_be_dropped_with_a_connection_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.02)
    monkeypatch.setattr(reconnecting, "_READ", 0.0)
    async with Pusher(bind=LOOPBACK) as pusher, puller_of_ten(pusher) as puller:
        await until(lambda: "connection given up" in puller.statistics().notices)
        assert puller.statistics().notices == {"unread may be dropped": 1, "connection given up": 1}
    assert f"of what had come from {pusher.endpoint}, which is given up, some may be dropped" in caplog.messages[0]


@pytest.mark.parametrize(
    ("host", "ipv6"),  # libzmq tells of the address, once it has one
    [("127.0.0.1", False), ("localhost", False), ("127.1", False), ("127.0.0.1", True)],
)
async def test_a_peer_that_begins_anew_was_not_given_up(
    host: str, ipv6: bool, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.3)
    async with Puller(connect=f"tcp://{host}:{port}", options=SocketOptions(ipv6=ipv6)) as puller:
        for number in range(3):
            async with Pusher(bind=f"tcp://127.0.0.1:{port}") as pusher:
                await pusher.send(str(number))
                assert (await puller.recv(PATIENCE)).text() == str(number)
            await until(lambda: puller.peers == 0)
        await until(lambda: not puller._missed)
        assert not puller.statistics().notices


@pytest.mark.parametrize("kind", [Puller, Dealer, Router])
async def test_who_is_connected_to_again_costs_no_other_its_connection(
    kind: type[Puller] | type[Dealer] | type[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.3)
    with zmq.Context() as context:
        senders = [context.socket(zmq.PUSH if kind is Puller else zmq.DEALER) for _ in range(3)]
        for sender in senders:
            sender.linger = 0
        endpoints = [f"tcp://127.0.0.1:{sender.bind_to_random_port('tcp://127.0.0.1')}" for sender in senders]
        try:
            async with kind(connect=endpoints[:2], options=SocketOptions(max_message_bytes=1000)) as end:
                for sender in senders[:2]:  # each is given up
                    await until(lambda sender=sender: bool(sender.poll(0, zmq.POLLOUT)))  # type: ignore[misc]  # its own
                    sender.send(bytes(2000))
                    await until(lambda: bool(end._missed))
                end.connect(endpoints[2])  # libzmq may put it where it had one of those
                await until(lambda: end.statistics().notices.get("connection given up") == 2)
                assert getattr(end, "peers", 3) <= 3
                for number, sender in enumerate(senders):
                    await until(lambda sender=sender: bool(sender.poll(0, zmq.POLLOUT)))  # type: ignore[misc]  # as above
                    sender.send(b"%d" % number)
                    assert (await end.recv(PATIENCE)).frames == (b"%d" % number,)
        finally:
            for sender in senders:
                sender.close()


def test_endpoints_lead_to_places_however_they_are_spelt() -> None:
    for spelt in ("tcp://127.0.0.1:5", "tcp://127.0.0.1:0005", "tcp://127.0.0.1:0;127.0.0.1:5"):
        assert place_of(spelt) == ("127.0.0.1", 5, True)
    assert place_of("tcp://[0:0:0:0:0:0:0:1]:5") == place_of("tcp://[::1]:05") == ("::1", 5, True)
    assert place_of("tcp://[::ffff:127.0.0.1]:5") == place_of("tcp://127.0.0.1:5")  # as a socket for both says it
    assert place_of("tcp://localhost:5") == ("localhost", 5, False)
    assert place_of("ipc:////a/./b") == place_of("ipc:///a/b")
    assert place_of("ipc://@a/../b") == ("@a/../b", 0, True)


async def test_an_endpoint_that_is_missed_twice_is_connected_to_once(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.01)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with Puller(connect=f"tcp://127.0.0.1:{port}") as puller:
        place = place_of(f"tcp://127.0.0.1:{port}")
        puller._miss(f"tcp://127.0.0.1:{port}", place)
        missed = puller._missed[f"tcp://127.0.0.1:{port}"]
        puller._miss(f"tcp://127.0.0.1:{port}", place)
        assert list(puller._missed.values()) == [missed]
        await until(lambda: not puller._missed)
        async with Pusher(bind=f"tcp://127.0.0.1:{port}") as pusher:
            await pusher.send("here")
            assert (await puller.recv(PATIENCE)).text() == "here"
    assert not failures
