"""What correct clients never send: a typed answer where one can be given, a count, and the server serves on."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

import aiozpat
from aiozpat import Client, Limits, Server, errors
from aiozpat.rpc import listener as listening
from aiozpat.transport import Socket
from tests.raw import (
    ACK,
    BYE,
    CANCEL,
    ERROR,
    GOAWAY,
    HELLO,
    PING,
    PONG,
    REFUSED,
    REPLY,
    REQUEST,
    RESET,
    RawPeer,
    RawServer,
    header,
    hello,
)
from tests.support import LOOPBACK, PATIENCE, Calc, Process, until


def request(
    number: int, method: str = "calc.add", params: Any = (1, 2), timeout: int = 10_000, buffers: int = 0
) -> Any:
    """A request record."""
    return [REQUEST, number, buffers, method, timeout, params]


async def test_a_client_written_by_hand_is_served(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        answer = await peer.open()
        assert answer[:4] == [HELLO, b"s" * 16, [1], "msgpack"]
        assert set(answer[5]) == {"window", "buffer", "stream"}
        await peer.send(header(request(1), request(2, params={"a": 5}), request(0)))
        assert await peer.record(REPLY) == [REPLY, 1, 0, 3]
        assert await peer.record(REPLY) == [REPLY, 2, 0, 5]
        await peer.send(header([PING, 77]))
        assert await peer.record(PONG) == [PONG, 77]
        await peer.send(header([BYE, ""]))
        assert (await peer.record(BYE))[0] == BYE
        await until(lambda: server.statistics().sessions == 0)


async def test_more_metadata_than_allowed_is_the_calls_own_error(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header([*request(1), {"a": "x" * 20_000}], request(2)))
        assert (await peer.record(ERROR))[:4] == [ERROR, 1, 0, 3]
        assert await peer.record(REPLY) == [REPLY, 2, 0, 3]


async def test_a_call_that_outlives_its_deadline_is_answered_once(calc: Calc) -> None:
    release = threading.Event()

    @calc.service.method
    def stuck() -> None:
        release.wait(PATIENCE)

    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(request(1, "calc.stuck", [], timeout=50)))
        assert (await peer.record(ERROR))[:4] == [ERROR, 1, 0, errors.StatusCode.DEADLINE_EXCEEDED]
        assert server.statistics().running == 1
        await peer.send(header(request(2, "calc.hold", [2], timeout=50)))  # its deadline is looked for among all
        assert (await peer.record(ERROR, REPLY))[:4] == [ERROR, 2, 0, errors.StatusCode.DEADLINE_EXCEEDED]
        release.set()
        await until(lambda: server.statistics().running == 0)
        await peer.send(header(request(3)))
        assert await peer.record(ERROR, REPLY) == [REPLY, 3, 0, 3]


async def test_a_nested_deadline_that_was_the_callers_is_told_as_that(calc: Calc) -> None:
    @calc.service.method
    async def relay() -> None:
        while aiozpat.current_call().time_left > 0:
            time.sleep(0.001)  # noqa: ASYNC251 - nobody else may find out first
        error = errors.DeadlineExceeded("the nested call had no more time")
        error.from_call = True
        raise error

    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(request(1, "calc.relay", [], timeout=20)))
        assert (await peer.record(ERROR))[:4] == [ERROR, 1, 0, errors.StatusCode.DEADLINE_EXCEEDED]


async def test_calls_may_travel_with_the_hello(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.send(header(hello(), request(1)))
        assert await peer.record(REPLY) == [REPLY, 1, 0, 3]


@pytest.mark.parametrize(("method", "together"), [("calc.echo", True), ("calc.hold", False)])
async def test_an_acknowledgement_leaves_with_an_answer_that_is_there_at_once(
    calc: Calc, method: str, together: bool
) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open(limits={"window": 65_536})
        param = b"x" * 20_000 if together else 1  # over a quarter of the window, or with the notification
        filler = [] if together else [request(0, "calc.echo", [b"x" * 20_000])]
        await peer.send(header(*filler, request(1, method, [param])))
        first = await peer.records()
        assert [record[0] for record in first] == ([ACK, REPLY] if together else [ACK])
        assert first[0][1] > 20_000
        calc.gate.set()


async def test_a_pong_does_not_wait_for_handlers(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header([PING, 5], request(1)))
        eager = sys.version_info >= (3, 12)  # then the handler has ended before anything else can run
        assert [record[0] for record in await peer.records()] == ([PONG, REPLY] if eager else [PONG])


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"versions": [2, 3]}, errors.StatusCode.UNIMPLEMENTED, "no version in common"),
        ({"versions": []}, errors.StatusCode.UNIMPLEMENTED, "no version in common"),
        ({"codec": "xml"}, errors.StatusCode.UNIMPLEMENTED, "codec 'xml'"),
        ({"session": 5}, errors.StatusCode.INVALID_ARGUMENT, "decode"),
        ({"limits": [1]}, errors.StatusCode.INVALID_ARGUMENT, "decode"),
    ],
)
async def test_a_hello_that_cant_be_accepted_is_told_why(
    calc: Calc, changes: dict[str, Any], code: int, says: str
) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        reset = await peer.open(**changes)
        assert reset[0] == RESET
        assert reset[1] == code
        assert says in reset[2]
        assert reset[3] == [1]
        await _serves_on(server)


async def test_a_hello_of_another_version_is_understood(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.send(header(hello(versions=[1, 9]), version=9))
        assert (await peer.record(HELLO))[2] == [1]
        await peer.send(header(request(1), version=9))
        reset = await peer.record(RESET)
        assert reset[1] == errors.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "frames",
    [
        (header(request(1)),),  # no hello before it
        (header([CANCEL, 1]),),
        (header([PING, 1]),),
        (b"\xc1\x01",),
        (b"\xc1\x01\x91",),
        (b"\xc1\x01" + b"\x91" * 200_000,),
        (b"\xc1\x01\xdd\xff\xff\xff\xff",),
        (header([99, 1]),),
        (header(5),),
        (header([REQUEST, "one", 0, "calc.add", 5, []]),),
        (b"\xc1\x01" + b"\x90" * 0 + b"\xdd\x00\x01\x00\x00" + b"\x92\x01\x01" * 65_536,),
    ],
)
async def test_damaged_and_unopened_sessions_are_reset(calc: Calc, frames: tuple[bytes, ...]) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        for opened in (False, True):
            async with RawPeer(server.endpoint) as peer:
                if opened:
                    await peer.open()
                await peer.send(*frames)
                if not opened or frames[0] not in (header([CANCEL, 1]), header([PING, 1]), header(request(1))):
                    kind = RESET if len(frames[0]) > 2 else None
                    if kind is not None:
                        assert (await peer.record(RESET))[2]
        await until(lambda: server.statistics().running == 0)
        await _serves_on(server)


@pytest.mark.parametrize(
    "frames", [(b"hello",), (b"",), (b"", b"hello"), (b"\xc1",), (b"GET / HTTP/1.1",), (b"x" * 100_000, b"y")]
)
async def test_what_is_not_azp_gets_no_answer_and_is_counted(calc: Calc, frames: tuple[bytes, ...]) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.send(*frames)
        await until(lambda: server.statistics().notices.get("not azp") == 1)
        assert not await peer.socket.poll(0)
        await _serves_on(server)


@pytest.mark.parametrize(
    ("record", "buffers"),
    [
        (request(1, buffers=2), (b"only one",)),
        (request(1, buffers=-1), ()),
        (request(1, buffers=1), ()),
        (request(1), (b"unannounced",)),
        ([REPLY, 1, 0, 5], ()),
        ([HELLO, b"s" * 16, [1], "msgpack", "again", {}], ()),
    ],
)
async def test_a_session_that_breaks_the_rules_is_reset(calc: Calc, record: Any, buffers: tuple[bytes, ...]) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(record), *buffers)
        reset = await peer.record(RESET)
        assert reset[1] == errors.StatusCode.INVALID_ARGUMENT
        assert server.statistics().sessions == 0
        await _serves_on(server)


async def test_a_call_id_in_use_is_refused_as_a_breach(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header(request(1, "calc.hold", [1])))
        await until(lambda: calc.started == [1])
        await peer.send(header(request(1, "calc.hold", [2])))
        assert (await peer.record(RESET))[1] == errors.StatusCode.INVALID_ARGUMENT
        await until(lambda: calc.cancelled == [1])


async def test_nothing_that_comes_behind_a_bye_runs(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.send(header(hello(), [BYE, ""], request(1, "calc.hold", [1])))
        await peer.record(BYE)
        await peer.send(header(request(2, "calc.hold", [2])))
        assert (await peer.record(RESET))[1] == errors.StatusCode.UNAVAILABLE
        assert calc.started == []
        assert server.statistics().running == 0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server waits longer for its clients than a busy machine keeps a test waiting."""
    monkeypatch.setattr("aiozpat.rpc.server._GOODBYE", 15.0)


@pytest.mark.usefixtures("patient")
async def test_a_peer_that_answers_the_servers_bye_is_not_waited_for(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        closing = asyncio.create_task(server.close())
        _, token = await peer.record(PING)
        await peer.send(header([PONG, token]))
        await peer.record(BYE)
        await peer.send(header([BYE, ""]))
        await closing
        assert "no goodbye" not in server.statistics().notices


@pytest.mark.usefixtures("patient")
async def test_a_call_that_is_on_its_way_when_the_server_drains_is_refused_not_lost(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        closing = asyncio.create_task(server.close())
        await peer.record(GOAWAY)
        _, token = await peer.record(PING, BYE)
        await peer.send(header(request(1)))  # as if it had crossed the goaway
        await peer.send(header([PONG, token]))
        assert (await peer.record(REFUSED, BYE))[:4] == [REFUSED, 1, 0, errors.StatusCode.UNAVAILABLE]
        await peer.record(BYE)
        await peer.send(header([BYE, ""]))
        await closing
        assert "no goodbye" not in server.statistics().notices


async def test_a_cancel_ahead_of_its_request_in_one_message_removes_it(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        await peer.send(header([CANCEL, 1], request(1, "calc.hold", [1]), request(2)))
        assert await peer.record(REPLY) == [REPLY, 2, 0, 3]
        assert calc.started == []


async def test_wrong_params_get_an_error_each_and_the_session_lives_on(calc: Calc) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        for number, params in enumerate([5, None, "x", [], [1, 2, 3], {"z": 1}, [{}], [[1]], deep], start=1):
            await peer.send(header(request(number, params=params)))
            assert (await peer.record(ERROR))[1:4] == [number, 0, errors.StatusCode.INVALID_ARGUMENT]
        await peer.send(header(request(100)))
        assert await peer.record(REPLY) == [REPLY, 100, 0, 3]


async def test_a_bomb_of_empty_maps_is_rejected_while_decoding(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        bomb = b"\x91\x96\x0a\x01\x00\xa8calc.add\xcd\x27\x10\xdd\x00\x0f\x00\x00" + b"\x80" * 0xF0000
        await peer.send(b"\xc1\x01" + bomb)
        assert (await peer.record(ERROR))[3] == errors.StatusCode.INVALID_ARGUMENT
        await _serves_on(server)


async def test_random_frames_harm_nobody(calc: Calc) -> None:
    random_of = random.Random(4)
    async with Server(calc.service, bind=LOOPBACK) as server, Client(server.endpoint) as client:
        await client.ready()
        for _ in range(30):
            async with RawPeer(server.endpoint) as peer:
                if random_of.random() < 0.5:
                    await peer.open()
                for _ in range(20):
                    whole = bytearray(header(request(random_of.randrange(3)), [CANCEL, 1], [ACK, 5]))
                    for _ in range(random_of.randrange(4)):
                        whole[random_of.randrange(len(whole))] = random_of.randrange(256)
                    noise = random_of.randbytes(random_of.randrange(60))
                    await peer.send(random_of.choice([bytes(whole), noise, b"\xc1\x01" + noise]))
            assert await client.call("calc.add", 1, 2) == 3


async def test_other_socket_types_are_no_danger(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server:
        async with RawPeer(server.endpoint, zmq.REQ) as peer:
            await peer.send(b"hello")
            await until(lambda: server.statistics().notices.get("not azp") == 1)
        await _serves_on(server)


async def test_a_server_that_speaks_no_common_version_is_unimplemented(port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(f"tcp://127.0.0.1:{port}")

        async def turn_away() -> None:
            while True:
                if await asyncio.to_thread(router.poll, 100):
                    identity, _ = router.recv_multipart()
                    router.send_multipart([identity, header([RESET, 12, "only version 9 here", [9]], version=9)])

        turning = asyncio.create_task(turn_away())
        async with Client(f"tcp://127.0.0.1:{port}") as client:
            with pytest.raises(errors.Unimplemented, match="only version 9"):
                await client.call("calc.add", 1)
        turning.cancel()
        await asyncio.wait({turning})


async def test_a_session_that_is_reset_costs_its_calls_no_more_than_a_broken_one() -> None:
    async def call_of(method: str) -> None:
        while (await server.record(REQUEST))[3] != method:
            pass

    async with RawServer() as server, Client(server.endpoint, retry=aiozpat.Retry(backoff=0.001)) as client:
        once = asyncio.create_task(client.call("s.once"))
        await call_of("s.once")
        same = asyncio.create_task(client.call("s.same", idempotent=True))
        await call_of("s.same")
        await server.send([RESET, errors.StatusCode.INVALID_ARGUMENT, "some other call's mistake", [1]])
        with pytest.raises(errors.Unavailable, match="some other call's mistake; it may have run"):
            await once
        await call_of("s.same")
        await server.send(*([REPLY, number, 0, number] for number in range(1, 10)))
        assert await same > 0


@pytest.mark.parametrize(
    ("announced", "brought", "says"),
    [
        (1, 0, "more buffers than"),
        (1, 2, "1 buffers that none"),
        (2, 1, "more buffers than"),
        (0, 1, "not an AZP message"),
    ],
)
async def test_a_reply_with_other_buffers_than_it_says_ends_the_session(
    announced: int, brought: int, says: str
) -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        calls = [asyncio.create_task(client.call("s.echo", wait_for_ready=True)) for _ in range(2)]
        first, second = [(await server.record(REQUEST))[1] for _ in calls]
        await server.send([REPLY, first, announced, 5], buffers=(b"a buffer",) * brought)
        await server.send([REPLY, second, 0, 6])  # too late: nobody may take a frame for another
        with pytest.raises(errors.Unavailable, match=f"does not speak AZP/1.*{says}"):
            await calls[1]
        await asyncio.wait(calls)
        await until(lambda: server.sessions == 2)
        assert client.statistics().notices["protocol error"] == 1


@pytest.mark.parametrize("tag", [ERROR, REFUSED])
async def test_an_error_with_buffers_ends_the_session(tag: int) -> None:
    async with RawServer() as server, Client(server.endpoint) as client:
        calls = [asyncio.create_task(client.call("s.echo")) for _ in range(2)]
        first, second = [(await server.record(REQUEST))[1] for _ in calls]
        forged = header([REPLY, second, 0, "forged"])
        await server.send([tag, first, 1, 13, "sorry", {}], buffers=(forged,))
        for call in calls:
            with pytest.raises(errors.Unavailable, match=r"does not speak AZP/1.*no buffers"):
                await call


async def test_what_comes_behind_a_bye_is_no_breach() -> None:
    async with RawServer() as server, Client(server.endpoint, retry=aiozpat.Retry(backoff=0.001)) as client:
        call = asyncio.create_task(client.call("s.echo"))
        number = (await server.record(REQUEST))[1]
        await server.send([BYE, "good night"], [REPLY, number, 1, 5], buffers=(b"x" * 70_000,))
        with pytest.raises(errors.Unavailable, match="good night"):
            await call
        await until(lambda: server.sessions == 2)
        assert "protocol error" not in client.statistics().notices


async def test_a_server_that_talks_nonsense_makes_the_client_start_over(port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(f"tcp://127.0.0.1:{port}")
        hellos = 0

        async def babble() -> None:
            nonlocal hellos
            while True:
                if await asyncio.to_thread(router.poll, 100):
                    identity, _ = router.recv_multipart()
                    hellos += 1
                    router.send_multipart([identity, b"nonsense"])

        babbling = asyncio.create_task(babble())
        async with Client(f"tcp://127.0.0.1:{port}") as client:
            await until(lambda: hellos >= 2)
            assert client.statistics().notices["protocol error"] >= 1
        babbling.cancel()
        await asyncio.wait({babbling})


async def test_a_client_that_reads_nothing_is_dropped_and_the_others_dont_notice(
    processes: Callable[..., Process], tmp_path: Path
) -> None:
    service = aiozpat.Service("app")

    @service.method
    async def blob(size: int) -> bytes:
        return bytes(size)

    limits = Limits(window_bytes=4_000_000, backlog_bytes=4_000_000, slow_peer_seconds=0.5)
    async with (
        Server(service, bind=LOOPBACK, limits=limits, heartbeat=0.2) as server,
        Client(server.endpoint) as other,
        RawPeer(server.endpoint) as peer,
    ):
        await peer.open(limits={"window": 4_000_000})
        for number in range(1, 401):
            await peer.send(header(request(number, "app.blob", [1_000_000])))

        async def alive() -> None:
            while True:  # it never reads, yet it does not look dead
                await peer.send(header([PING, 1]))
                await asyncio.sleep(0.05)  # the pace of its heartbeats

        living = asyncio.create_task(alive())
        while "slow peer dropped" not in server.statistics().notices:
            assert len(await other.call("app.blob", 1000, result_type=bytes)) == 1000
            assert server.statistics().waiting_bytes <= 2 * limits.backlog_bytes
        living.cancel()
        await asyncio.wait({living})
        assert server.statistics().notices["reply dropped"] > 300
        assert len(await other.call("app.blob", 1000, result_type=bytes)) == 1000


async def _serves_on(server: Server) -> None:
    async with Client(server.endpoint) as client:
        assert await client.call("calc.add", 1, 2) == 3


async def test_a_client_that_reads_none_of_its_errors_is_dropped_before_they_fill_the_memory(calc: Calc) -> None:
    limits = Limits(backlog_bytes=65_536, window_bytes=65_536)
    async with (
        Server(calc.service, bind=LOOPBACK, limits=limits, heartbeat=60) as server,
        RawPeer(server.endpoint) as peer,
        asyncio.timeout(PATIENCE),
    ):
        await peer.open()
        number = 0
        while not server.statistics().notices.get("slow peer dropped"):
            numbers = range(number, number + 500)
            await peer.send(header(*(request(one, f"calc.{'x' * 100}") for one in numbers)))
            number += 500
            assert server.statistics().waiting_bytes < 8 * 2**20
        assert server.statistics().waiting_bytes == 0


async def test_a_client_that_was_late_for_control_records_alone_is_not_stuck(calc: Calc) -> None:
    async with Server(calc.service, bind=LOOPBACK) as server, RawPeer(server.endpoint) as peer:
        await peer.open()
        listener = server._listener
        assert listener is not None
        (session,) = listener.sessions.values()
        listener._block(session)  # as if its pipe had been full of pongs
        listener._on_writable()
        await peer.send(header([PING, 1]))
        await peer.record(PONG)
        assert session.stuck_since is None


async def test_in_a_flood_who_is_silent_is_given_up_too(calc: Calc, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server(calc.service, bind=LOOPBACK, heartbeat=0.05) as server, RawPeer(server.endpoint) as silent:
        await silent.open()
        monkeypatch.setattr(Socket, "drain", lambda socket: False)  # there is always more
        await until(lambda: server.statistics().notices.get("client lost") == 1)


async def test_in_a_flood_of_many_nobody_is_judged_before_all_was_read(
    calc: Calc, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        Server(calc.service, bind=LOOPBACK, heartbeat=3600) as server,
        RawPeer(server.endpoint) as one,
        RawPeer(server.endpoint) as other,
    ):
        for peer in (one, other):
            await peer.open()
        listener = server._listener
        assert listener is not None
        for session in listener.sessions.values():
            session.liveness.heard = -1e9  # their words wait behind those of others
        drain = Socket.drain
        monkeypatch.setattr(listening, "DRAIN", 2)  # two sessions are many, then
        monkeypatch.setattr(Socket, "drain", lambda socket: False)
        listener._tick()
        assert server.statistics().sessions == 2
        monkeypatch.setattr(Socket, "drain", drain)
        listener._tick()
        assert server.statistics().sessions == 0
