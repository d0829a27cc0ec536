"""What sockets are asked about themselves: straight from libzmq, and by pyzmq where that can't be had."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
import zmq.backend

from aiozpat import Dealer, Puller, Router
from aiozpat.transport import Socket as Owned
from aiozpat.transport import asking
from tests.support import LOOPBACK, PATIENCE

_STRAIGHT = asking._getsockopt
_WAYS = ["straight", "by pyzmq"]


@pytest.fixture(params=_WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of asking; the second is all there is on Windows and with PyPy."""
    if request.param == "by pyzmq":
        monkeypatch.setattr(asking, "_getsockopt", None)
    elif _STRAIGHT is None:
        pytest.skip("libzmq can't be asked straight here")
    return str(request.param)


@pytest.fixture
def pair() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """A PUSH, and its PULL."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        push.linger = 0
        push.connect(f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
        yield push, pull


@pytest.mark.skipif(sys.platform == "win32" or sys.implementation.name != "cpython", reason="not to be had there")
def test_libzmq_is_found() -> None:
    assert _STRAIGHT is not None


def test_another_backend_is_not_asked_behind_its_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq.backend, "Socket", object)
    assert asking._straight() is None


def test_another_libzmq_of_the_process_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ctypes.PyDLL

    class Everywhere:
        zmq_getsockopt = library(None).getpid

    monkeypatch.setattr(ctypes, "PyDLL", lambda name: Everywhere if name is None else library(name))
    assert asking._straight() is None


def test_answers_are_those_of_pyzmq(way: str, pair: tuple[zmq.Socket[bytes], zmq.Socket[bytes]]) -> None:
    push, pull = pair
    get: Any = zmq.backend.Socket.get
    ask_more, more = asking.asking(pull, zmq.RCVMORE, fails=False)
    ask_events, events = asking.asking(pull, zmq.EVENTS)
    assert ask_events() == 0
    assert events[0] == get(pull, zmq.EVENTS) == 0
    push.send_multipart([b"1", b"2", b"3"])
    assert pull.poll(int(PATIENCE * 1000))
    assert ask_events() == 0
    assert events[0] == get(pull, zmq.EVENTS) == zmq.POLLIN
    seen = []
    for _ in range(3):
        pull.recv()
        ask_more()
        seen.append((more[0], get(pull, zmq.RCVMORE)))
    assert seen == [(1, 1), (1, 1), (0, 0)]


@pytest.mark.parametrize("count", [1, 2, 3, 40])
async def test_messages_keep_their_frames(way: str, count: int) -> None:
    sent = [[b"%d.%d" % (number, place) for place in range(count)] for number in range(300)]
    async with Puller(bind=LOOPBACK) as puller, Router(bind=LOOPBACK, framing="raw") as router:
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.connect(puller.endpoint)
            for frames in sent:
                push.send_multipart(frames)
            assert [list((await puller.recv(PATIENCE)).frames) for _ in sent] == sent
        async with Dealer(connect=router.endpoint) as dealer:
            for frames in sent:
                await dealer.send(*frames, timeout=PATIENCE)
                request = await router.recv(PATIENCE)
                assert list(request.frames) == frames
                await request.reply(*frames)
                assert list((await dealer.recv(PATIENCE)).frames) == frames


async def test_a_socket_that_is_closed_is_not_asked() -> None:
    def ask() -> int:
        raise AssertionError("what is freed was asked")

    async with Puller(bind=LOOPBACK) as puller:
        socket = puller._socket
        assert isinstance(socket, Owned)
    socket._ask_more = ask
    assert socket.receive_rest() == []


async def test_where_libzmq_has_no_answer_pyzmq_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Puller(bind=LOOPBACK) as puller:
        socket = puller._socket
        assert isinstance(socket, Owned)
        socket._ask_events = lambda: -1  # as where a signal comes in between
        socket._happens[0] = zmq.POLLOUT
        assert socket._events() == 0
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.connect(puller.endpoint)
            push.send(b"hello")
            assert (await puller.recv(PATIENCE)).body == b"hello"
