"""Level 1 request-reply: against each other, and against plain pyzmq peers that make the calls everybody makes."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import gc
import logging
import random
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import zmq

import aiozpat
from aiozpat import (
    Dealer,
    Message,
    Pair,
    PeerUnreachable,
    Proxy,
    Publisher,
    Puller,
    Pusher,
    Replier,
    Request,
    Requester,
    Router,
    SocketOptions,
    Subscriber,
    TimedOut,
    errors,
)
from aiozpat.endpoints import reconnecting
from aiozpat.endpoints import serving as serving_module
from aiozpat.transport import Socket, place_of
from aiozpat.transport.context import open_contexts
from tests.support import LOOPBACK, PATIENCE, in_thread, until


async def sleeper(request: Request) -> str:
    """Sleep for as many seconds as the body says, and answer it."""
    await asyncio.sleep(float(request.text()))  # simulated work
    return request.text()


def ask_with_req(endpoint: str, *questions: bytes) -> list[bytes]:
    """What a REQ script gets, written as everybody writes it."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(endpoint)
        answers = []
        for question in questions:
            socket.send(question)
            answers.append(socket.recv())
        return answers


def ask_with_dealer(endpoint: str, *questions: bytes, delimiter: bool) -> list[list[bytes]]:
    """What a DEALER script gets: all questions out, then all answers in."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        for question in questions:
            socket.send_multipart([b"", question] if delimiter else [question])
        return [socket.recv_multipart() for _ in questions]


def last_first(arrived: list[bytes]) -> Callable[[Request], Awaitable[bytes]]:
    """A handler that answers "1" when "0" has come back, "2" when "1" has: whoever asks 2, 1, 0 is overtaken twice."""

    async def handler(request: Request) -> bytes:
        await until(lambda: len(arrived) == int(request.text()))
        return request.body

    return handler


async def test_answers_overtake_each_other_for_one_dealer() -> None:
    arrived: list[bytes] = []
    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(last_first(arrived)))
        async with Dealer(connect=router.endpoint) as dealer:
            for number in ("2", "1", "0"):
                await dealer.send(number)
            for _ in range(3):
                arrived.append((await dealer.recv(PATIENCE)).body)  # noqa: PERF401 - the handlers look at it meanwhile
    await serving
    assert arrived == [b"0", b"1", b"2"]


async def test_answers_overtake_each_other_for_three_req_peers() -> None:
    arrived: list[bytes] = []
    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(last_first(arrived)))

        async def ask(number: bytes) -> None:
            arrived.extend(await asyncio.to_thread(ask_with_req, router.endpoint, number))

        await asyncio.gather(ask(b"2"), ask(b"1"), ask(b"0"))
    await serving
    assert arrived == [b"0", b"1", b"2"]


@pytest.mark.parametrize("server", [Router, Replier])
async def test_each_plain_peer_is_answered_in_its_own_framing(server: type[Router] | type[Replier]) -> None:
    async def handler(request: Request) -> list[bytes]:
        return [b"meta", request.body]

    async with server(bind=LOOPBACK) as endpoint:
        serving = asyncio.create_task(endpoint.serve(handler))
        asked = asyncio.to_thread(ask_with_dealer, endpoint.endpoint, b"a", delimiter=False)
        assert await asked == [[b"meta", b"a"]]
        asked = asyncio.to_thread(ask_with_dealer, endpoint.endpoint, b"a", delimiter=True)
        assert await asked == [[b"", b"meta", b"a"]]
    await serving


@pytest.mark.parametrize("server", [Router, Replier])
async def test_a_failing_handler_leaves_no_req_peer_waiting(server: type[Router] | type[Replier]) -> None:
    async def handler(request: Request) -> bytes:
        if request.body == b"bad":
            raise ValueError("that went wrong")
        return request.body

    async with server(bind=LOOPBACK) as endpoint:
        serving = asyncio.create_task(endpoint.serve(handler))
        assert await asyncio.to_thread(ask_with_req, endpoint.endpoint, b"bad", b"good") == [b"", b"good"]
        assert endpoint.statistics().notices["handler failed"] == 1
    await serving


@pytest.mark.parametrize("server", [Router, Replier])
async def test_whatever_a_handler_or_on_error_raises_leaves_no_req_peer_waiting(
    server: type[Router] | type[Replier],
) -> None:
    seen: list[Exception] = []

    async def handler(request: Request) -> bytes:
        raise BaseExceptionGroup("of a nursery", [asyncio.CancelledError()])

    def on_error(request: Request, error: Exception) -> bytes:
        seen.append(error)
        if request.body == b"bad":
            raise asyncio.CancelledError
        return b"sorry"

    async with server(bind=LOOPBACK) as endpoint:
        serving = asyncio.create_task(endpoint.serve(handler, on_error=on_error))
        assert await asyncio.to_thread(ask_with_req, endpoint.endpoint, b"bad", b"good") == [b"", b"sorry"]
        assert endpoint.statistics().notices["handler failed"] == 2
    await serving
    assert [type(error.__cause__) for error in seen] == [BaseExceptionGroup] * 2


@pytest.mark.parametrize("server", [Router, Replier])
async def test_an_answer_that_is_too_large_leaves_no_req_peer_waiting(server: type[Router] | type[Replier]) -> None:
    async def handler(request: Request) -> bytes:
        return bytes(int(request.text()))

    async def asked(on_error: Callable[[Request, Exception], bytes] | None) -> list[bytes]:
        async with server(bind=LOOPBACK, options=aiozpat.SocketOptions(max_message_bytes=100_000)) as endpoint:
            serving = asyncio.create_task(endpoint.serve(handler, on_error=on_error))
            async with Requester(connect=endpoint.endpoint) as requester:
                answers = [(await requester.request(size, timeout=PATIENCE)).body for size in ("100001", "1")]
            assert endpoint.statistics().notices["handler failed"] == 1
        await serving
        return answers

    assert await asked(None) == [b"", bytes(1)]
    assert await asked(lambda request, error: str(error).encode()[:24]) == [b"a frame of 100001 bytes;", bytes(1)]
    assert await asked(lambda request, error: bytes(100_001)) == [b"", bytes(1)]


async def test_on_error_chooses_the_answer() -> None:
    async def handler(request: Request) -> bytes:
        raise ValueError("that went wrong")

    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(handler, on_error=lambda request, error: f"error: {error}"))
        assert await asyncio.to_thread(ask_with_req, router.endpoint, b"x") == [b"error: that went wrong"]
    await serving


async def test_a_router_knows_its_peers_and_sends_to_whom_it_likes() -> None:
    async with (
        Router(bind=LOOPBACK) as router,
        Dealer(connect=router.endpoint) as one,
        Dealer(connect=router.endpoint, delimiter=True) as two,
    ):
        await one.send("one")
        first = await router.recv(PATIENCE)
        await two.send("header", "two")
        second = await router.recv(PATIENCE)
        assert (first.frames, second.frames) == ((b"one",), (b"header", b"two"))
        assert second.header == (b"header",)
        await router.send(second.identity, "for two")
        await router.send(first.identity, "for one")
        await first.reply("again", "for one")
        assert (await two.recv(PATIENCE)).text() == "for two"
        assert (await one.recv(PATIENCE)).text() == "for one"
        assert (await one.recv(PATIENCE)).frames == (b"again", b"for one")
        with pytest.raises(PeerUnreachable):
            await router.send(b"nobody", b"x")


async def test_framing_can_be_fixed() -> None:
    async with Router(bind=LOOPBACK, framing="raw") as raw, Router(bind=LOOPBACK, framing="delimited") as strict:
        async with Dealer(connect=raw.endpoint, delimiter=True) as dealer:
            await dealer.send("x")
            assert (await raw.recv(PATIENCE)).frames == (b"", b"x")
        async with Dealer(connect=strict.endpoint) as dealer:
            await dealer.send("dropped: it has no delimiter")
            await dealer.send("proxy", b"", "x")
            request = await strict.recv(PATIENCE)
            assert (request.envelope, request.frames) == ((b"proxy", b""), (b"x",))
            await request.reply("y")
            assert (await dealer.recv(PATIENCE)).frames == (b"proxy", b"", b"y")
            assert strict.statistics().notices["no delimiter"] == 1
    with pytest.raises(ValueError, match="framing"):
        Router(framing="other")  # type: ignore[arg-type]  # that is the point


async def test_a_requester_stays_usable_and_never_takes_a_late_reply() -> None:
    release = asyncio.Event()

    async def handler(request: Request) -> bytes:
        if request.body == b"late":
            await release.wait()
        return request.body

    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(handler))
        async with Requester(connect=router.endpoint) as requester:
            for _ in range(3):
                with pytest.raises(TimedOut, match="no reply"):
                    await requester.request("late", timeout=0.05)
                release.set()
                assert (await requester.request("next", timeout=PATIENCE)).body == b"next"
                release.clear()
            task = asyncio.create_task(requester.request("late"))
            await until(lambda: requester.statistics().sent == 7)
            task.cancel()
            await asyncio.wait({task})
            release.set()
            replies = await asyncio.gather(*(requester.request(f"{number}") for number in range(20)))
            assert [reply.text() for reply in replies] == [f"{number}" for number in range(20)]
    await serving


async def test_a_reply_that_arrives_while_its_request_is_cancelled_is_nobody_elses() -> None:
    async def shout(request: Request) -> str:
        return request.text().upper()

    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(shout))
        async with Requester(connect=router.endpoint) as requester:
            for _ in range(20):
                before = requester.statistics().received
                first = asyncio.create_task(requester.request("one"))
                while requester.statistics().received == before:
                    await asyncio.sleep(0)
                first.cancel()
                await asyncio.wait({first})
                assert (await requester.request("two", timeout=PATIENCE)).text() == "TWO"
    await serving


async def test_a_bound_requester_keeps_its_port_after_a_timeout() -> None:
    async with Requester(bind=LOOPBACK) as requester:
        endpoint = requester.endpoint
        with pytest.raises(TimedOut):
            await requester.request("unanswered", timeout=0.05)
        async with Replier(connect=endpoint) as replier:
            serving = asyncio.create_task(replier.serve(sleeper))
            assert requester.endpoint == endpoint
            assert (await requester.request("0.0", timeout=PATIENCE)).text() == "0.0"
        await serving


async def test_a_requester_that_is_woken_without_having_asked_finds_nothing() -> None:
    async with Replier(bind=LOOPBACK) as replier, Requester(connect=replier.endpoint) as requester:
        serving = asyncio.create_task(replier.serve(sleeper))
        assert (await requester.request("0.0", timeout=PATIENCE)).text() == "0.0"
        requester._on_readable()  # on the FD's word, which need not be for a message
        assert requester.statistics().waiting == 0
    await serving


async def test_a_requester_goes_on_to_its_next_endpoint_after_a_timeout(port: int) -> None:
    async with Replier(bind=LOOPBACK) as replier:
        serving = asyncio.create_task(replier.serve(sleeper))
        async with Requester(connect=[f"tcp://127.0.0.1:{port}", replier.endpoint]) as requester:
            with pytest.raises(TimedOut):
                await requester.request("to nobody", timeout=0.05)
            assert (await requester.request("0.0", timeout=PATIENCE)).text() == "0.0"
            with pytest.raises(TimedOut):
                await requester.request("to nobody", timeout=0.05)
            assert (await requester.request("0.0", timeout=PATIENCE)).text() == "0.0"
    await serving


@pytest.mark.parametrize("endpoint", [LOOPBACK, "ipc://*", "inproc://asks"])
async def test_a_bound_requester_goes_on_after_a_request_given_up(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    arrived: list[object] = []
    receive = Socket.receive

    async def echo(request: Request) -> bytes:
        if request.text() == "late":
            asked.set()
            await answer.wait()
        return request.body

    def noting(socket: Socket) -> list[bytes] | None:
        frames = receive(socket)
        if frames is not None:
            arrived.append(frames)
        return frames

    monkeypatch.setattr(Socket, "receive", noting)
    async with Requester(bind=endpoint) as requester, Replier(connect=requester.endpoint) as replier:
        serving = asyncio.create_task(replier.serve(echo))
        asking = asyncio.create_task(requester.request("late"))
        await asked.wait()
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        answer.set()
        await until(lambda: len(arrived) == 1)
        for text in ("next", "last"):
            assert (await requester.request(text, timeout=PATIENCE)).text() == text
    await serving


async def test_a_requester_that_binds_later_numbers_its_requests_from_then_on() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def echo(request: Request) -> bytes:
        asked.set()
        await answer.wait()
        return request.body

    async with Replier(bind=LOOPBACK) as replier, Requester(connect=replier.endpoint) as requester:
        serving = asyncio.create_task(replier.serve(echo))
        asking = asyncio.create_task(requester.request("without a number", timeout=PATIENCE))
        await asked.wait()
        requester.bind(LOOPBACK)
        answer.set()
        assert (await asking).text() == "without a number"
    await serving
    async with Requester() as requester, Router(connect=requester.bind(LOOPBACK), framing="raw") as router:
        asking = asyncio.create_task(requester.request("with a number"))
        first = await router.recv(PATIENCE)
        assert (len(first.frames), first.header[1:]) == (3, (b"",))
        asking.cancel()
        await asyncio.wait({asking})


async def ask_late_and_next(requester: Requester, asked: asyncio.Event, answer: threading.Event) -> str:
    """Give up a request that its peer has taken; the text of the reply to the one after it."""
    asking = asyncio.create_task(requester.request("late"))
    await asked.wait()
    asking.cancel()
    await asyncio.wait({asking})
    asking = asyncio.create_task(requester.request("next", timeout=PATIENCE))
    await until(lambda: requester.statistics().sent == 2)  # which the peer takes after its late answer only
    answer.set()
    return (await asking).text()


async def test_a_rep_peers_late_reply_to_a_bound_requester_is_not_the_next_ones() -> None:
    loop = asyncio.get_running_loop()
    asked, answer = asyncio.Event(), threading.Event()

    def serve(endpoint: str) -> None:
        with zmq.Context() as context, context.socket(zmq.REP) as socket:
            socket.linger, socket.rcvtimeo = 0, int(PATIENCE * 1000)
            socket.connect(endpoint)
            late = socket.recv()
            loop.call_soon_threadsafe(asked.set)
            answer.wait(PATIENCE)
            socket.send(late)
            socket.send(socket.recv())
            socket.linger = int(PATIENCE * 1000)

    async with Requester(bind=LOOPBACK) as requester:
        serving = asyncio.create_task(asyncio.to_thread(serve, requester.endpoint))
        assert await ask_late_and_next(requester, asked, answer) == "next"
        await serving


@pytest.mark.parametrize("server", [Replier, partial(Router, framing="delimited")], ids=["Replier", "Router"])
async def test_our_own_late_reply_to_a_bound_requester_is_not_the_next_ones(
    server: Callable[..., Replier | Router],
) -> None:
    asked, answer = asyncio.Event(), threading.Event()

    async def echo(request: Request) -> bytes:
        if request.text() == "late":
            asked.set()
            await asyncio.to_thread(answer.wait, PATIENCE)
        return request.body

    async with Requester(bind=LOOPBACK) as requester, server(connect=requester.endpoint) as peer:
        serving = asyncio.create_task(peer.serve(echo))
        assert await ask_late_and_next(requester, asked, answer) == "next"
    await serving


async def test_a_handler_that_cancels_itself_leaves_no_req_peer_waiting() -> None:
    async def handler(request: Request) -> str:
        raise asyncio.CancelledError

    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(handler))
        async with Requester(connect=router.endpoint) as requester:
            assert (await requester.request("x", timeout=PATIENCE)).body == b""
        assert router.statistics().notices["handler failed"] == 1
    await serving


async def test_a_peer_that_is_gone_costs_no_wake_up() -> None:
    """A send that fails touches the socket too: what has arrived by then must be read all the same."""
    async with Router(bind=LOOPBACK) as router:
        for number in range(50):
            async with Dealer(connect=router.endpoint) as dealer:
                await dealer.send(f"{number}")
                receiving = asyncio.create_task(router.recv(PATIENCE))
                while not receiving.done():
                    with pytest.raises(PeerUnreachable):
                        await router.send(b"nobody", b"x")
                    await asyncio.sleep(0)
                assert (await receiving).text() == f"{number}"


async def test_an_ipc_address_in_use_is_not_taken_away(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/socket"
    (tmp_path / "file").write_text("precious")
    async with Router(bind=endpoint) as router, Dealer(connect=endpoint) as dealer:
        with pytest.raises(errors.AddressInUse):
            await Router(bind=endpoint).__aenter__()
        with pytest.raises(errors.InvalidEndpoint, match="no socket"):
            await Router(bind=f"ipc://{tmp_path}/file").__aenter__()
        await dealer.send("still there")
        assert (await router.recv(PATIENCE)).text() == "still there"
    async with Router(bind=endpoint):
        assert (tmp_path / "file").read_text() == "precious"


async def test_an_ipc_address_whose_backlog_is_full_is_in_use(tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        for _ in range(4):  # more than may wait
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(path)
        with pytest.raises(errors.AddressInUse):
            await Router(bind=f"ipc://{path}").__aenter__()


async def test_an_ipc_path_that_is_too_long_is_no_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path in (folder / "socket", folder / "none", tmp_path / ("x" * 300)):
            with pytest.raises(errors.InvalidEndpoint, match="can't bind"):
                await Router(bind=f"ipc://{path}").__aenter__()
            with pytest.raises(errors.InvalidEndpoint, match="can't connect"):
                await Dealer(connect=f"ipc://{path}").__aenter__()


async def test_a_message_of_many_frames_arrives_whole() -> None:
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        await dealer.send(*[b"x"] * 5000)
        assert len((await router.recv(PATIENCE)).frames) == 5000


async def test_a_requester_asks_a_plain_rep_server() -> None:
    def serve(ready: Callable[[str], None]) -> None:
        with zmq.Context() as context, context.socket(zmq.REP) as socket:
            socket.bind(LOOPBACK)
            ready(socket.get_string(zmq.LAST_ENDPOINT))
            for _ in range(2):
                socket.send(b"World to " + socket.recv())

    endpoint = await _server_in_thread(serve)
    async with Requester(connect=endpoint) as requester:
        assert (await requester.request("Hello", timeout=PATIENCE)).body == b"World to Hello"
    async with Dealer(connect=endpoint, delimiter=True) as dealer:
        await dealer.send("Hello")
        assert (await dealer.recv(PATIENCE)).body == b"World to Hello"


async def test_a_requester_and_a_dealer_ask_a_plain_router_that_expects_three_frames() -> None:
    def serve(ready: Callable[[str], None]) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(LOOPBACK)
            ready(socket.get_string(zmq.LAST_ENDPOINT))
            for _ in range(2):
                identity, _, content = socket.recv_multipart()
                socket.send_multipart([identity, b"", b"ACK " + content])

    endpoint = await _server_in_thread(serve)
    async with Requester(connect=endpoint) as requester, Dealer(connect=endpoint, delimiter=True) as dealer:
        assert (await requester.request("a", timeout=PATIENCE)).body == b"ACK a"
        await dealer.send("b")
        assert (await dealer.recv(PATIENCE)).body == b"ACK b"


async def test_without_a_delimiter_such_a_router_breaks_and_ours_holds() -> None:
    """The contradiction of a client that may leave out the empty frame and a server that unpacks three frames."""
    seen: list[int] = []

    def serve(ready: Callable[[str], None]) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(LOOPBACK)
            ready(socket.get_string(zmq.LAST_ENDPOINT))
            seen.append(len(socket.recv_multipart()))

    endpoint = await _server_in_thread(serve)
    async with Dealer(connect=endpoint) as dealer:
        await dealer.send("Hello ROUTER")
        await until(lambda: seen == [2])  # `identity, _, content = ...` raises ValueError here

    async def handler(request: Request) -> str:
        return "ACK"

    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(handler))
        answers = await asyncio.to_thread(ask_with_dealer, router.endpoint, b"Hello ROUTER", delimiter=False)
        assert answers == [[b"ACK"]]
    await serving


async def test_a_blocking_sleep_serializes_what_a_coroutine_does_not() -> None:
    """The contradiction of a loop that sleeps between `recv` and `send`, and is called out of order."""
    order: list[bytes] = []

    def serve(ready: Callable[[str], None]) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(LOOPBACK)
            ready(socket.get_string(zmq.LAST_ENDPOINT))
            for _ in range(2):
                identity, _, seconds = socket.recv_multipart()
                time.sleep(float(seconds))  # simulated work, in the way of everybody else
                socket.send_multipart([identity, b"", seconds])

    endpoint = await _server_in_thread(serve)
    async with Dealer(connect=endpoint, delimiter=True) as dealer:
        for seconds in ("0.2", "0.0"):
            await dealer.send(seconds)
        order = [(await dealer.recv(PATIENCE)).body for _ in range(2)]
    assert order == [b"0.2", b"0.0"]

    async with Router(bind=LOOPBACK) as router:
        serving = asyncio.create_task(router.serve(sleeper))
        async with Dealer(connect=router.endpoint, delimiter=True) as dealer:
            for seconds in ("0.2", "0.0"):
                await dealer.send(seconds)
            assert [(await dealer.recv(PATIENCE)).body for _ in range(2)] == [b"0.0", b"0.2"]
    await serving


async def test_an_abandoned_request_does_not_wedge_a_replier() -> None:
    async with Replier(bind=LOOPBACK) as replier:
        in_thread(lambda: None).join()
        async with Requester(connect=replier.endpoint) as first, Requester(connect=replier.endpoint) as second:
            with pytest.raises(TimedOut):
                await first.request("abandoned", timeout=0.05)
            asking = asyncio.create_task(second.request("answered", timeout=PATIENCE))
            async for request in replier:
                if request.body == b"answered":
                    await request.reply("yes")
                    with pytest.raises(errors.UsageError, match="answered already"):
                        await request.reply("twice")
                    break
            assert (await asking).text() == "yes"


async def test_max_concurrency_holds_and_cancelling_serve_cancels_its_handlers() -> None:
    running = most = cancelled = 0

    async def handler(request: Request) -> None:
        nonlocal running, most, cancelled
        running += 1
        most = max(most, running)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        finally:
            running -= 1

    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        serving = asyncio.create_task(router.serve(handler, max_concurrency=3))
        for number in range(10):
            await dealer.send(f"{number}")
        await until(lambda: running == 3 and router.statistics().received == 10)
        with pytest.raises(errors.UsageError, match="served already"):
            await router.serve(handler)
        serving.cancel()
        await asyncio.wait({serving})
        assert (most, cancelled, running) == (3, 3, 0)
        assert router.statistics().waiting == 7


async def test_a_peer_that_does_not_read_holds_up_nobody_else() -> None:
    options = aiozpat.SocketOptions(send_queue_messages=2, send_buffer_bytes=4096)
    with zmq.Context() as context, context.socket(zmq.DEALER) as deaf:
        deaf.rcvhwm = 1
        deaf.linger = 0
        async with Router(bind=LOOPBACK, options=options) as router, Dealer(connect=router.endpoint) as other:
            deaf.connect(router.endpoint)
            deaf.send(b"here I am")
            identity = (await router.recv(PATIENCE)).identity
            with pytest.raises(TimedOut, match="nothing was sent"):
                while True:
                    await router.send(identity, bytes(1_000_000), timeout=0.1)
            await other.send("hello")
            await (await router.recv(PATIENCE)).reply("hello")
            assert (await other.recv(PATIENCE)).text() == "hello"
            waiting = asyncio.create_task(router.send(identity, "when there is room"))
            while await asyncio.to_thread(deaf.recv) != b"when there is room":
                pass
            await waiting


async def test_room_that_a_peer_makes_just_before_the_loop_looks_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiozpat.transport.socket._RETRY", 10 * PATIENCE)  # no help from there
    loop = asyncio.get_running_loop()
    options = aiozpat.SocketOptions(send_queue_messages=1, send_buffer_bytes=4096)
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger, peer.rcvhwm, peer.rcvbuf, peer.rcvtimeo = 0, 1, 4096, int(PATIENCE * 1000)
        async with Router(bind=LOOPBACK, options=options) as router:
            peer.connect(router.endpoint)
            peer.send(b"here I am")
            identity = (await router.recv(PATIENCE)).identity
            for _ in range(3):  # until all that the kernel takes is full
                with pytest.raises(TimedOut):
                    while True:
                        await router.send(identity, bytes(20_000), timeout=0.2)

            def make_room() -> None:  # the loop's other work, behind the refused send and before the look it asks for
                for _ in range(router.statistics().sent):
                    peer.recv()

            working = loop.call_soon(make_room)
            await router.send(identity, "there is room", timeout=PATIENCE)
            working.cancel()  # should the kernel have taken more, and the message have gone at once
            while peer.recv() != b"there is room":
                pass


async def test_the_inbox_is_bounded_and_senders_feel_it() -> None:
    options = aiozpat.SocketOptions(send_queue_messages=10, receive_queue_messages=10)
    async with Dealer(bind=LOOPBACK, options=options) as sink:  # noqa: SIM117 - the second needs its port
        async with Dealer(connect=sink.endpoint, options=options, linger=0) as source:
            with pytest.raises(TimedOut):
                while True:
                    await source.send(bytes(100_000), timeout=0.2)
            assert sink.statistics().waiting <= 1000
            total = source.statistics().sent
            got = 0
            while got < total:
                got += len(await sink.recv_many(limit=500, timeout=PATIENCE))
            assert got == total


async def test_what_is_sent_just_before_closing_arrives() -> None:
    async with Dealer(bind=LOOPBACK) as sink:
        async with Dealer(connect=sink.endpoint) as source:
            for _ in range(200):
                await source.send(bytes(100_000))
        for _ in range(200):
            assert len((await sink.recv(PATIENCE)).body) == 100_000


@pytest.mark.parametrize("where", ["tcp", "tcp6", "ipc", "abstract", "inproc"])
async def test_an_address_is_free_when_who_was_bound_there_has_closed(where: str, port: int, tmp_path: Path) -> None:
    endpoint = {
        "tcp": f"tcp://*:{port}",
        "tcp6": f"tcp://[::1]:{port}",
        "ipc": f"ipc://{tmp_path}/socket",
        "abstract": f"ipc://@aiozpat-test-{port}",
        "inproc": "inproc://here",
    }[where]
    async with aiozpat.Context() as context, Dealer(bind=LOOPBACK, context=context):  # which keeps the context
        for _ in range(50):
            async with Router(bind=endpoint, context=context):
                pass


async def test_an_address_that_somebody_else_takes_at_once_holds_up_nobody_for_long(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiozpat.transport.socket._FREED", 0.01)
    monkeypatch.setattr("aiozpat.transport.socket.is_free", lambda endpoint: False)
    async with asyncio.timeout(PATIENCE), Router(bind=f"tcp://127.0.0.1:{port}"):
        pass


async def test_what_lingers_is_delivered_while_the_address_is_free() -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as puller:
        puller.linger = 0
        puller.rcvhwm = 1
        async with Pusher(bind=LOOPBACK, linger=PATIENCE, prefetch=10_000) as pusher, Dealer(bind=LOOPBACK):
            puller.connect(pusher.endpoint)
            await pusher.send_many([bytes(1000)] * 10_000)
            await pusher.close()
            async with Pusher(bind=pusher.endpoint):
                for _ in range(10_000):
                    assert await asyncio.to_thread(puller.poll, int(PATIENCE * 1000))
                    puller.recv()


@pytest.mark.parametrize("linger", [1e12, sys.float_info.max])
async def test_a_linger_of_years_is_one_too(linger: float) -> None:
    async with Dealer(bind=LOOPBACK, linger=linger):
        pass


async def test_closing_ends_iteration_and_wakes_who_waits() -> None:
    async with Dealer(bind=LOOPBACK) as dealer:
        receiving = asyncio.create_task(dealer.recv())
        sending = asyncio.create_task(dealer.send("nobody there"))

        async def iterate() -> int:
            return len([message async for message in dealer])

        iterating = asyncio.create_task(iterate())
        await asyncio.sleep(0)
        await dealer.close()
        for waiting in (receiving, sending):
            with pytest.raises(errors.Closed):
                await waiting
        assert await iterating == 0
        with pytest.raises(errors.Closed, match="is closed"):
            await dealer.send("x")


async def test_misuse_is_told_what_to_do(port: int) -> None:
    with pytest.raises(errors.InvalidEndpoint, match="does not begin with"):
        Router(bind="5555")
    with pytest.raises(errors.InvalidEndpoint, match="brackets"):
        Router(bind="tcp://::1:5555")
    with pytest.raises(errors.InvalidEndpoint, match="number up to 65535"):
        Dealer(connect="tcp://127.0.0.1:99999")
    with pytest.raises(errors.InvalidEndpoint, match="not an address of this machine"):
        await Router(bind=f"tcp://192.0.2.1:{port}").__aenter__()
    with pytest.raises(ValueError, match="linger is a finite number"):
        Dealer(linger=-1)
    with pytest.raises(TypeError, match="linger is a finite number"):
        Dealer(linger="1")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="up to 9223372036854775807; got 9223372036854775808"):
        aiozpat.SocketOptions(max_message_bytes=2**63)
    with pytest.raises(ValueError, match="whole number above 0"):
        aiozpat.SocketOptions(max_message_bytes=0)
    router = Router(bind=LOOPBACK)
    with pytest.raises(errors.UsageError, match="inside `async with`"):
        await router.recv()
    async with router:
        with pytest.raises(errors.AddressInUse, match="in use"):
            await Router(bind=router.endpoint).__aenter__()
        with pytest.raises(errors.UsageError, match="async def"):
            await router.serve(lambda request: None)  # type: ignore[arg-type,return-value]  # that is the point
        with pytest.raises(ValueError, match="max_concurrency is a whole number from 1"):
            await router.serve(sleeper, max_concurrency=0)
        with pytest.raises(TypeError, match="an identity is bytes"):
            await router.send("text", "x")  # type: ignore[arg-type]  # that is the point
        with pytest.raises(TypeError, match="a frame is bytes"):
            await router.send(b"x", 5)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(ValueError, match="at least one frame"):
            await router.send(b"x")
        with pytest.raises(TimedOut):
            await router.recv(timeout=0.01)

        async def elsewhere() -> None:
            await router.recv()

        with pytest.raises(errors.UsageError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())
    with pytest.raises(errors.UsageError, match="entered before"):
        await router.__aenter__()


async def test_who_has_no_loop_is_told_where_to_do_it() -> None:
    async with Dealer(bind=LOOPBACK) as dealer, Subscriber(bind=LOOPBACK, topics=["a"]) as subscriber:
        uses: list[tuple[Callable[[str], object], str]] = [
            (dealer.bind, LOOPBACK),
            (dealer.connect, dealer.endpoint),
            (subscriber.subscribe, "b"),
            (subscriber.unsubscribe, "a"),
        ]
        for use, argument in uses:
            with pytest.raises(errors.UsageError, match="none runs in this thread; use it there"):
                await asyncio.to_thread(use, argument)
        assert len(dealer.endpoints) == 1
        assert subscriber.topics == {b"a"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_message_bytes": None},
        {"reconnect_seconds": None},
        {"backlog_connections": None},
        {"keepalive_probes": True},
        {"send_queue_messages": True},
        {"connect_timeout_seconds": True},
        {"connect_timeout_seconds": "5"},
        {"ipv6": None},
        {"ipv6": 1},
    ],
)
def test_options_are_of_their_kind(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"SocketOptions.{next(iter(wrong))} is"):
        aiozpat.SocketOptions(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"keepalive_probes": 128}, {"keepalive_idle_seconds": 32_768}, {"keepalive_interval_seconds": 32_768}]
)
def test_options_that_the_system_would_refuse_without_a_word_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"SocketOptions.{next(iter(wrong))} is a whole number above 0, up to"):
        aiozpat.SocketOptions(**wrong)


async def test_the_smallest_limit_for_messages_lets_connections_come_about() -> None:
    """libzmq's limit holds for the handshake too, and a peer's identity is a part of that."""
    with pytest.raises(ValueError, match="max_message_bytes is at least 600, which the handshake"):
        aiozpat.SocketOptions(max_message_bytes=599)
    options = aiozpat.SocketOptions(max_message_bytes=600)
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.identity = b"i" * 255
        async with Router(bind=LOOPBACK, options=options) as router:
            plain.connect(router.endpoint)
            plain.send(b"x" * 600)
            assert (await router.recv(PATIENCE)).body == b"x" * 600


async def test_bind_and_connect_may_be_mixed_and_repeated() -> None:
    async with Router(bind=[LOOPBACK, LOOPBACK]) as router:
        router.bind(LOOPBACK)
        assert len(set(router.endpoints)) == 3
        async with Dealer() as dealer:
            for endpoint in router.endpoints:
                dealer.connect(endpoint)
            for number in range(6):
                await dealer.send(f"{number}")
            assert {(await router.recv(PATIENCE)).text() for _ in range(6)} == {f"{number}" for number in range(6)}


async def test_a_context_is_shared_for_inproc() -> None:
    async with (
        aiozpat.Context() as context,
        Router(bind="inproc://here", context=context) as router,
        Dealer(connect="inproc://here", context=context) as dealer,
    ):
        await dealer.send("hello")
        assert (await router.recv(PATIENCE)).text() == "hello"


async def test_a_context_that_cant_be_made_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (0, -1, 1.5, 2**31):
        with pytest.raises(ValueError, match="io_threads is a whole number from 1"):
            aiozpat.Context(io_threads=threads)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="io_threads is a whole number from 1"):
        aiozpat.Context(io_threads=True)

    def none_left(io_threads: int) -> object:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr("aiozpat.transport.context._ZmqContext", none_left)
    with pytest.raises(errors.AiozpatError, match="can't make a ZeroMQ context: Too many open files"):
        await Dealer(bind=LOOPBACK).__aenter__()
    with pytest.raises(errors.AiozpatError, match="can't make a ZeroMQ context: Too many open files"):
        await Proxy("pipeline", frontend_bind=LOOPBACK, backend_bind=LOOPBACK).__aenter__()


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("inproc://a\0b", "NUL"),
        ("ipc:///tmp/a\0b", "NUL"),
        ("inproc://\udc80", "surrogate"),
        ("ipc:///tmp/\udc80", "surrogate"),
        ("inproc://" + "n" * 246, "245 bytes"),
        ("inproc://" + "é" * 123, "245 bytes"),
    ],
)
def test_what_no_address_has_is_said(endpoint: str, says: str) -> None:
    with pytest.raises(errors.InvalidEndpoint, match=says):
        Router(bind=endpoint)
    with pytest.raises(errors.InvalidEndpoint, match=says):
        Dealer(connect=endpoint)


@pytest.mark.parametrize("host", ["[::g]", "[]", "[1::2::3]", "256.1.1.1", "[1.2.3.999]", "1.2.3.4.5", "1..2"])
def test_what_is_neither_an_address_nor_a_name_is_refused(host: str) -> None:
    says = rf"{re.escape(host)} is neither an address nor the name of a host"
    with pytest.raises(errors.InvalidEndpoint, match=says):
        Router(bind=f"tcp://{host}:*")
    with pytest.raises(errors.InvalidEndpoint, match=says):
        Dealer(connect=f"tcp://{host}:5")


@pytest.mark.parametrize("host", ["127.1", "127.0.0.01", "2130706433", "[127.0.0.1]"])
async def test_an_address_may_be_spelt_in_every_way_that_libzmq_takes(host: str) -> None:
    async with Router(bind=LOOPBACK) as router, Dealer() as dealer:
        dealer.connect(router.endpoint.replace("127.0.0.1", host))
        await dealer.send("hello")
        assert (await router.recv(PATIENCE)).text() == "hello"


@pytest.mark.parametrize(
    "host", ["[localhost]", "[fe80::1%eth0]", "[::1%1]", "[::ffff:1.2.3.4]", "3com.example", "0x7f000001"]
)
def test_an_address_or_a_name_of_any_kind_is_no_mistake(host: str) -> None:
    assert Dealer(connect=f"tcp://{host}:5").endpoints == ()


async def test_the_longest_inproc_name_is_an_address() -> None:
    endpoint = "inproc://" + "n" * 245
    async with Router(bind=endpoint) as router, Dealer(connect=endpoint) as dealer:
        assert router.endpoint == endpoint
        await dealer.send("hello")
        assert (await router.recv(PATIENCE)).text() == "hello"


def test_wildcards_are_for_who_binds() -> None:
    for endpoint in (LOOPBACK, "tcp://*:5555", "ipc://*"):
        with pytest.raises(errors.InvalidEndpoint, match="is an address to bind"):
            Dealer(connect=endpoint)


def test_a_message_is_immutable_and_says_what_it_is() -> None:
    message = Message((b"meta", b"body"))
    assert (message.header, message.body, message.text(), len(message)) == ((b"meta",), b"body", "body", 2)
    assert message == Message((b"meta", b"body"))
    assert len({message, Message((b"meta", b"body"))}) == 1
    assert "meta" in repr(message)
    with pytest.raises(AttributeError, match="immutable"):
        message.frames = ()  # type: ignore[misc]  # mypy says so too


@pytest.mark.parametrize("values", [array.array("B", b"ab"), numpy.frombuffer(b"ab", numpy.uint8)])
async def test_an_array_is_sent_as_a_view_of_it(values: Any) -> None:
    hint = r"; the bytes of an array are a frame as memoryview\(array\)$"
    async with Pair(bind=LOOPBACK) as one, Pair(connect=one.endpoint) as two:
        with pytest.raises(TypeError, match=r"a frame is bytes, .*; got (nd)?array" + hint):
            await one.send(values)
        with pytest.raises(TypeError, match=r"a message is one frame .*; got (nd)?array" + hint):
            await one.send_many([values])
        with pytest.raises(TypeError, match=r"a frame is bytes, bytearray, memoryview or str; got int$"):
            await one.send(5)  # type: ignore[arg-type]  # that is the point
        await one.send(memoryview(values))
        assert (await two.recv(PATIENCE)).body == b"ab"


async def test_an_endpoint_left_open_is_warned_about() -> None:
    dealer = Dealer(bind=LOOPBACK)
    await dealer.__aenter__()
    with pytest.warns(ResourceWarning, match="was left open"):
        dealer.__del__()
    await dealer.close()


def test_a_loop_that_ends_with_an_endpoint_open_takes_its_context_along() -> None:
    async def leave_open() -> None:
        await Dealer(bind=LOOPBACK).__aenter__()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that it was left open
        asyncio.run(leave_open())
        gc.collect()
    assert open_contexts() == 0


async def _server_in_thread(serve: Callable[[Callable[[str], None]], None]) -> str:
    """Run a blocking server in a thread, and give the endpoint that it reports."""
    loop = asyncio.get_running_loop()
    endpoint: asyncio.Future[str] = loop.create_future()

    def report(where: str) -> None:
        loop.call_soon_threadsafe(endpoint.set_result, where)

    in_thread(lambda: serve(report))
    return await endpoint


async def test_serve_drops_no_answer_to_a_peer_that_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "REPLIES_WAITING", 3)
    requests = 300
    options = SocketOptions(send_queue_messages=1, receive_queue_messages=1, send_buffer_bytes=4096)
    async with (
        Router(bind=LOOPBACK, options=options) as router,
        Dealer(connect=router.endpoint, options=options) as peer,
    ):
        running = asyncio.create_task(router.serve(bytes_of, max_concurrency=5))
        sending = asyncio.create_task(peer.send_many([[str(number)] for number in range(requests)]))
        got: set[bytes] = set()
        while len(got) < requests:
            got.add((await peer.recv(PATIENCE)).frames[0])
            await asyncio.sleep(0.001)  # slower than it is answered
        await sending
        assert "reply dropped" not in router.statistics().notices
    await running


async def bytes_of(request: Request) -> list[bytes]:
    return [request.frames[0], bytes(5000)]


async def test_serve_waits_once_for_a_peer_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "REPLIES_WAITING", 1)
    monkeypatch.setattr(serving_module, "REPLY_SECONDS", 1.0)
    options = SocketOptions(send_queue_messages=1, receive_queue_messages=1, send_buffer_bytes=4096)
    async with Router(bind=LOOPBACK, options=options) as router, Dealer(connect=router.endpoint) as other:
        running = asyncio.create_task(router.serve(bytes_of, max_concurrency=2))
        context = zmq.Context()
        silent: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        silent.rcvhwm, silent.rcvbuf, silent.linger, silent.rcvtimeo = 1, 4096, 0, int(PATIENCE * 1000)
        silent.connect(router.endpoint)
        try:
            for _ in range(100):
                silent.send(b"silent")
            await until(lambda: router.statistics().notices.get("reply dropped", 0) > 50)
            await other.send("other")
            assert (await other.recv(PATIENCE)).frames[0] == b"other"
            answer = b""
            while answer != b"again":  # what was on its way comes first
                if await asyncio.to_thread(silent.poll, 100):
                    answer = silent.recv_multipart()[0]
                else:
                    silent.send(b"again")
        finally:
            silent.close()
            context.term()
    await running


@pytest.mark.parametrize(
    ("kind", "feeds", "count", "most"),
    [(Router, Dealer, 20, 2), (Replier, Dealer, 20, 2), (Dealer, Dealer, 20, 2), (Puller, Pusher, 40, 8)],
)
async def test_the_loop_goes_on_between_large_messages(
    kind: type[Router | Replier | Dealer | Puller], feeds: type[Dealer | Pusher], count: int, most: int
) -> None:
    async with kind(bind="inproc://large") as end, feeds(connect="inproc://large") as feeder:
        for _ in range(count):
            await feeder.send(bytes(256 * 1024))  # over inproc, and without a turn of the loop: it is there
        assert end.statistics().received == 0
        steps: list[int] = []
        while sum(steps) < count:
            before = end.statistics().received
            await asyncio.sleep(0)
            steps.append(end.statistics().received - before)
    assert max(steps) <= most


@pytest.mark.parametrize("kind", [Router, Replier])
async def test_what_closing_leaves_undone_is_counted_and_logged(
    kind: type[Router | Replier], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiozpat.endpoints")
    begun = asyncio.Event()

    async def hold(request: Request) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    async with kind(bind=LOOPBACK) as end, Dealer(connect=end.endpoint, delimiter=True) as dealer:
        for _ in range(4):
            await dealer.send("ask")
        serving = asyncio.create_task(end.serve(hold, max_concurrency=1))
        await begun.wait()
        await until(lambda: end.statistics().received == 4)
        waiting = end.statistics().waiting
        await end.close()
        await serving
    notices = end.statistics().notices
    assert notices["handler cancelled"] == 1
    assert notices["left unread"] == waiting > 0
    [record] = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == f"{end!r} is closed: left unread, {waiting} messages are dropped"


async def test_a_bound_requester_gets_its_reply_behind_any_number_of_late_ones() -> None:
    chance = random.Random(1)
    options = SocketOptions(receive_queue_messages=1)
    async with (
        Requester(bind=LOOPBACK, options=options) as requester,
        Replier(connect=requester.endpoint, options=options) as replier,
    ):
        running = asyncio.create_task(replier.serve(echo_of))
        for number in range(300):
            asking = asyncio.create_task(requester.request("given up"))
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait({asking})
            if number % 3 == 0:
                assert (await requester.request(str(number), timeout=PATIENCE)).text() == str(number)
    await running


async def echo_of(request: Request) -> bytes:
    return request.body


async def test_the_same_question_of_two_peers_is_two_requests() -> None:
    async with (
        Router(bind=LOOPBACK) as router,
        Requester(connect=router.endpoint) as one,
        Requester(connect=router.endpoint) as two,
    ):
        asking = [asyncio.create_task(peer.request("ping", timeout=PATIENCE)) for peer in (one, two)]
        waiting = {await router.recv(PATIENCE), await router.recv(PATIENCE)}
        assert len(waiting) == 2
        for request in waiting:
            assert request in waiting
            await request.reply("pong")
        assert [(await answer).text() for answer in asking] == ["pong", "pong"]


@pytest.mark.parametrize("more", [0, 1, 2])
async def test_an_endpoint_that_a_requester_connects_to_later_has_its_turn_after_the_others(
    port: int, more: int
) -> None:
    async with Replier(bind=LOOPBACK) as replier:
        serving = asyncio.create_task(replier.serve(_same))
        dead = f"tcp://127.0.0.1:{port}"
        async with Requester(connect=[replier.endpoint] * (1 + more)) as requester:
            assert (await requester.request("first", timeout=PATIENCE)).text() == "first"
            requester.connect(dead)
            answers: list[str] = []
            for number in range(6):
                try:
                    answers.append((await requester.request(str(number), timeout=0.3)).text())
                except TimedOut:
                    answers.append("-")
            assert answers == ["0", "-", "2", "-", "4", "-"]
    await serving


async def _same(request: Request) -> tuple[bytes, ...]:
    return request.frames


@pytest.mark.parametrize("kind", ["publisher", "pusher"])
def test_waiting_on_another_loop_of_the_same_thread_is_refused(kind: str) -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    sender: Any = Publisher(bind=LOOPBACK) if kind == "publisher" else Pusher(bind=LOOPBACK)

    async def send_until_it_waits() -> None:
        for _ in range(1000):
            await sender.send("topic")

    try:
        first.run_until_complete(sender.__aenter__())
        with pytest.raises(errors.UsageError, match="another event loop"):
            second.run_until_complete(send_until_it_waits())
        first.run_until_complete(sender.close())
    finally:
        first.close()
        second.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="only the thread is looked at there, until something waits")
def test_use_on_another_loop_of_the_same_thread_is_refused_at_once() -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    pusher, puller = Pusher(bind=LOOPBACK), Puller()

    async def begin() -> None:
        await pusher.__aenter__()
        await puller.__aenter__()
        puller.connect(pusher.endpoint)
        await pusher.send_many(["one", "two", "three"])
        await until(lambda: puller.statistics().waiting == 3)
        assert (await puller.recv()).text() == "one"

    async def end() -> None:
        assert [message.text() for message in await puller.recv_many()] == ["two", "three"]
        await pusher.close()
        await puller.close()

    try:
        first.run_until_complete(begin())
        for use in (puller.recv, puller.__anext__, lambda: pusher.send("four")):
            with pytest.raises(errors.UsageError, match="another event loop"):
                second.run_until_complete(use())
        assert pusher.statistics().sent == 3
        first.run_until_complete(end())
    finally:
        first.close()
        second.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
@pytest.mark.parametrize("left", [0, 2, 3, 4, 7, 8, 12, 17])
def test_where_no_files_are_left_there_is_an_error_and_the_process_lives(left: int) -> None:
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _SHORT_OF_FILES, str(left)], capture_output=True, text=True, timeout=15, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "raise the limit of this process (`ulimit -n`)" in ended.stdout


_SHORT_OF_FILES = """
import asyncio, os, resource, sys
import aiozpat

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    files = []
    try:
        while True:
            files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(int(sys.argv[1])):
            os.close(files.pop())
    try:
        async with aiozpat.Pusher(bind="tcp://127.0.0.1:*"):
            pass
    except aiozpat.AiozpatError as error:
        print(error)

asyncio.run(main())
"""


async def test_an_ipc_address_chosen_by_the_system_holds_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "TEMPDIR", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    async with Puller(bind="ipc://*") as puller:
        assert puller.endpoint.startswith(f"ipc://{tmp_path}/")
        (elsewhere := tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(elsewhere)
        async with Pusher(connect=puller.endpoint) as pusher:
            await pusher.send("here", timeout=PATIENCE)
            assert (await puller.recv(PATIENCE)).text() == "here"


async def test_options_of_the_wrong_kind_are_refused_at_once() -> None:
    async def answer(request: Request, error: Exception) -> bytes:
        return b""

    with pytest.raises(TypeError, match="delimiter is True or False"):
        Dealer(bind=LOOPBACK, delimiter="no")  # type: ignore[arg-type]  # the mistake
    async with Router(bind=LOOPBACK) as router:
        for wrong in (answer, "nope"):
            with pytest.raises(errors.UsageError, match="on_error is a plain function"):
                await router.serve(_same, on_error=wrong)  # type: ignore[arg-type]  # the mistake


async def test_what_is_received_counts_messages_and_not_answers_to_ready() -> None:
    async with Publisher(bind=LOOPBACK) as publisher, Subscriber(connect=publisher.endpoint, topics="") as subscriber:
        assert await subscriber.ready(PATIENCE)
        await publisher.send("topic")
        await subscriber.recv(PATIENCE)
        assert subscriber.statistics().received == 1


async def test_a_reply_that_fails_behind_one_that_was_sent_leaves_the_request_answered() -> None:
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        await dealer.send("ask")
        request = await router.recv(PATIENCE)
        await request.reply("one")
        with pytest.raises(ValueError, match="a frame of"):
            await request.reply(bytes(17 * 1024 * 1024))
        assert request.answered


async def test_handlers_that_others_cancel_are_answered_for_and_said_to_be_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers: list[asyncio.Task[Any]] = []

    async def wait(request: Request) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        await asyncio.sleep(PATIENCE)
        return b""

    async with Replier(bind=LOOPBACK) as replier, Requester(connect=replier.endpoint) as requester:
        serving = asyncio.create_task(replier.serve(wait))
        asking = asyncio.create_task(requester.request("?", timeout=PATIENCE))
        await until(lambda: bool(handlers))
        handlers[0].cancel()
        assert (await asking).body == b""
        assert "the handler was cancelled" in caplog.text
        assert dict(replier.statistics().notices) == {"handler failed": 1}
    await serving


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
async def test_a_handler_of_an_eager_task_that_closes_its_endpoint_ends() -> None:
    loop = asyncio.get_running_loop()
    seen: list[str] = []

    async def close(request: Request) -> bytes:
        try:
            await replier.close()
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return b""

    def eager(loop: asyncio.AbstractEventLoop, work: Any, context: Any = None, **_: Any) -> asyncio.Task[Any]:
        return asyncio.Task(work, loop=loop, context=context, eager_start=True)  # type: ignore[call-arg]  # 3.12

    loop.set_task_factory(eager)
    try:
        async with Replier(bind=LOOPBACK) as replier, Dealer(connect=replier.endpoint, delimiter=True) as dealer:
            serving = asyncio.create_task(replier.serve(close))
            await dealer.send("?")
            await asyncio.wait_for(serving, PATIENCE)
    finally:
        loop.set_task_factory(None)
    assert seen == ["cancelled"]


async def test_a_server_without_a_socket_leaves_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(self: Socket) -> None:
        raise NotImplementedError

    monkeypatch.setattr(Socket, "_add_reader", cannot)
    with pytest.raises(NotImplementedError):
        await aiozpat.Server(aiozpat.Service("s"), bind=LOOPBACK).__aenter__()
    assert open_contexts() == 0


async def test_an_endpoint_that_is_connected_to_later_leaves_the_turns_of_the_others_as_they_are(port: int) -> None:
    def names(name: str) -> object:
        async def handler(request: Request) -> str:
            return name

        return handler

    async with Replier(bind=LOOPBACK) as one, Replier(bind=LOOPBACK) as two:
        serving = [asyncio.create_task(end.serve(names(name))) for end, name in ((one, "one"), (two, "two"))]  # type: ignore[arg-type]
        async with Requester(connect=[one.endpoint, two.endpoint]) as requester:
            assert (await requester.request("x", timeout=PATIENCE)).text() == "one"
            requester.connect(f"tcp://127.0.0.1:{port}")
            assert (await requester.request("x", timeout=PATIENCE)).text() == "two"
            for _ in range(2):
                with pytest.raises(TimedOut):
                    await requester.request("to nobody", timeout=0.1)
                assert (await requester.request("x", timeout=PATIENCE)).text() == "one"
                assert (await requester.request("x", timeout=PATIENCE)).text() == "two"
    await asyncio.gather(*serving)


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6 is off here")
async def test_an_ipv6_address_leaves_those_that_follow_as_they_are() -> None:
    try:
        async with Puller(bind=["tcp://[::1]:*", "tcp://*:*"]) as puller:
            six, any_address = puller.endpoints
    except errors.InvalidEndpoint:
        pytest.skip("IPv6 is off here")
    assert six.startswith("tcp://[::1]:")
    assert any_address.startswith("tcp://0.0.0.0:")


async def test_a_source_address_stands_before_a_semicolon(port: int) -> None:
    async with (
        Puller(bind=LOOPBACK) as puller,
        Pusher(connect=f"tcp://127.0.0.1:0;{puller.endpoint.removeprefix('tcp://')}") as pusher,
    ):
        await pusher.send("here")
        assert (await puller.recv(PATIENCE)).text() == "here"
    for wrong, says in (
        (f"tcp://127.0.0.1;127.0.0.1:{port}", "needs a host and a port"),
        ("tcp://127.0.0.1:0;127.0.0.1:0", "is an address to bind"),
        (f"tcp://a;127.0.0.1:0;127.0.0.1:{port}", "stands an address of this machine"),
        (f"tcp://*:0;127.0.0.1:{port}", "stands an address of this machine"),
        (f"tcp://127.0.0.1:0;[::1]:{port}", "in brackets, or neither"),
        (f"tcp://[::1]:0;127.0.0.1:{port}", "in brackets, or neither"),
    ):
        with pytest.raises(errors.InvalidEndpoint, match=says):
            Pusher(connect=wrong)
    with pytest.raises(errors.InvalidEndpoint, match="is for connecting"):
        Pusher(bind="tcp://127.0.0.1:0;127.0.0.1:5555")


@pytest.mark.parametrize(("wrong", "error"), [("5", TypeError), (1.5, ValueError), (0, ValueError), (True, TypeError)])
async def test_how_many_is_a_whole_number(wrong: Any, error: type[Exception]) -> None:
    async with Puller(bind=LOOPBACK) as puller, Pusher(bind=LOOPBACK) as pusher, Publisher(bind=LOOPBACK) as publisher:
        with pytest.raises(error, match="limit is a whole number"):
            await puller.recv_many(wrong)
        if wrong != 0:
            with pytest.raises(error, match="count is a whole number"):
                await pusher.wait_for_peers(wrong)
            with pytest.raises(error, match="count is a whole number"):
                await publisher.wait_for_subscribers("a", wrong)


async def test_an_address_in_use_has_the_systems_number_for_that() -> None:
    async with Puller(bind=LOOPBACK) as puller:
        with pytest.raises(OSError, match="is in use") as raised:
            await Puller(bind=puller.endpoint).__aenter__()
    assert raised.value.errno == errno.EADDRINUSE


async def test_a_requester_outlives_a_peer_of_another_kind(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.05)
    endpoint = f"tcp://127.0.0.1:{port}"
    async with Requester(connect=endpoint) as requester:

        def given_up() -> int:
            return requester.statistics().notices.get("connection given up", 0)

        async with Puller(bind=endpoint):
            await until(lambda: given_up() >= 2)
        async with Router(bind=endpoint) as router:
            serving = asyncio.create_task(router.serve(echo_of))
            await until(lambda: endpoint in requester._greeted)  # what goes out before may go to who was there
            assert (await requester.request("hello", timeout=PATIENCE)).text() == "hello"
        await serving


async def test_a_requester_outlives_a_message_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_GIVEN_UP", 0.05)
    options = SocketOptions(max_message_bytes=1000)

    async def sized(request: Request) -> bytes:
        return bytes(int(request.text()))

    async with Router(bind=LOOPBACK) as router, Requester(connect=router.endpoint, options=options) as requester:
        serving = asyncio.create_task(router.serve(sized))
        asking = asyncio.create_task(requester.request("1001"))
        await until(lambda: requester.statistics().notices.get("connection given up") == 1)
        asking.cancel()
        await asyncio.wait({asking})
        for size in (1, 1000):
            assert len((await requester.request(str(size), timeout=PATIENCE)).body) == size
    await serving


async def test_who_breaks_reqs_framing_is_counted_though_requests_are_given_up_sooner(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconnecting, "_SURE", 0.0)
    async with Router(bind=LOOPBACK, framing="raw") as router, Requester(connect=router.endpoint) as requester:
        for number in (1, 2):
            asking = asyncio.create_task(requester.request("hello"))
            request = await router.recv(PATIENCE)
            await router.send(request.identity, "without the empty frame before it")
            await until(lambda: bool(requester._missed))
            asking.cancel()
            await asyncio.wait({asking})
            assert requester.statistics().notices == {"connection given up": number}
    [line] = caplog.messages
    assert f"{router.endpoint} broke ZeroMQ's rules, by a reply without the empty frame before it, or one over" in line


async def test_a_requester_on_inproc_outlives_its_replier() -> None:
    async with Requester(connect="inproc://replaced") as requester:
        for _ in range(2):
            async with Replier(bind="inproc://replaced") as replier:
                serving = asyncio.create_task(replier.serve(echo_of))
                with contextlib.suppress(TimedOut):  # the first request since then is in vain
                    await requester.request("hello", timeout=0.05)
                assert (await requester.request("hello", timeout=PATIENCE)).text() == "hello"
            await serving


async def test_a_socket_that_a_requester_gave_up_takes_its_missed_endpoints_along(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []
    monkeypatch.setattr(Socket, "connect_again", lambda _, endpoint: again.append(endpoint))
    endpoint = f"tcp://127.0.0.1:{port}"
    async with Requester(connect=endpoint) as requester:
        async with Router(bind=endpoint) as router:
            asking = asyncio.create_task(requester.request("hello"))
            await router.recv(PATIENCE)
            requester._miss(endpoint, place_of(endpoint))
            timer = requester._missed[endpoint].timer
            asking.cancel()
            await asyncio.wait({asking})
            assert timer.cancelled()
            assert not requester._missed
            assert not requester._greeted
        async with Router(bind=endpoint) as router:
            serving = asyncio.create_task(router.serve(echo_of))
            assert (await requester.request("next", timeout=PATIENCE)).text() == "next"
            await until(lambda: endpoint in requester._greeted)  # the new socket is watched too
        await serving
    assert not again


async def test_a_request_that_ran_out_of_time_says_what_it_waited_for() -> None:
    async with Router(bind=LOOPBACK) as router, Requester(connect=router.endpoint) as requester:
        first = asyncio.create_task(requester.request("hello"))
        await router.recv(PATIENCE)
        with pytest.raises(TimedOut, match=r"the requests before it were not done within 0.01 s; it was not sent"):
            await requester.request("its turn", timeout=0.01)
        first.cancel()
        await asyncio.wait({first})
        with pytest.raises(TimedOut, match=rf"^no reply from {re.escape(router.endpoint)} within 0.01 s$"):
            await requester.request("no reply", timeout=0.01)
    async with Requester(bind=LOOPBACK) as requester:
        with pytest.raises(TimedOut, match=rf"^no connection to {re.escape(requester.endpoint)} within"):
            await requester.request("nobody", timeout=0.01)


async def test_who_is_nowhere_is_told_so_when_time_is_up() -> None:
    says = "^bound and connected nowhere: "
    async with Requester() as requester, Pusher() as pusher, Pair() as pair, Publisher() as publisher:
        with pytest.raises(TimedOut, match=says + "no connection to a peer within 0.01 s; nothing was sent"):
            await requester.request("x", timeout=0.01)
        with pytest.raises(TimedOut, match=says + "no peer"):
            await pusher.send("x", timeout=0.01)
        with pytest.raises(TimedOut, match=says + "no room"):
            await pusher.send_many(["x"], timeout=0.01)
        with pytest.raises(TimedOut, match=says + "0 of 1 peers"):
            await pair.wait_for_peers(timeout=0.01)
        with pytest.raises(TimedOut, match=says + "0 of 1 subscribers to 'x'"):
            await publisher.wait_for_subscribers("x", timeout=0.01)
        pair.bind(LOOPBACK)
        with pytest.raises(TimedOut, match=r"^no message within"):
            await pair.recv(timeout=0.01)
    async with Router() as router, Puller() as puller, Subscriber(topics=[""]) as subscriber:
        for receiver in (router, puller, subscriber):
            with pytest.raises(TimedOut, match=says + "no message within 0.01 s"):
                await receiver.recv(timeout=0.01)
        with pytest.raises(TimedOut, match=says + "0 of 1 publishers"):
            await subscriber.ready(timeout=0.01)
