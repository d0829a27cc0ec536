"""The owner of a ZeroMQ socket, where its users can't be made to show what it does."""

from __future__ import annotations

import asyncio
import select

import pytest
import zmq

from aiozpat import Puller, Pusher, SocketOptions
from aiozpat.transport import Context, MonitorEvent, MonitorEventKind, Socket, SocketKind
from tests.support import LOOPBACK, PATIENCE, until


@pytest.mark.skipif(not hasattr(select, "poll"), reason="the FD is looked at with poll")
async def test_to_take_what_has_arrived_loses_no_word_of_room() -> None:
    told = asyncio.Event()
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger, peer.rcvhwm, peer.rcvbuf = 0, 1, 4096
        port = peer.bind_to_random_port("tcp://127.0.0.1")
        socket = Socket(
            Context.current(),
            SocketKind.DEALER,
            SocketOptions(send_queue_messages=1, send_buffer_bytes=4096),
            on_readable=lambda: None,
            on_writable=told.set,
            max_frames=1,
        )
        socket.connect(f"tcp://127.0.0.1:{port}")
        sent = refused = 0
        while refused < 50:  # by then it has been full for a while
            if socket.send(b"x" * 60_000):
                sent, refused = sent + 1, 0
            else:
                refused += 1
                await asyncio.sleep(0.002)
        told.clear()
        # The loop stands still from here: the peer reads, so the FD tells of room, and nobody hears it.
        for _ in range(sent):
            assert peer.poll(int(PATIENCE * 1000))
            peer.recv()
        poll = select.poll()
        poll.register(socket._fd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        assert socket.drain()
        assert not told.is_set()
        await until(told.is_set)
        await socket.close(0)


async def test_events_go_on_behind_one_whose_callback_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[MonitorEventKind] = []

    def failing_once(pusher: Pusher, event: MonitorEvent) -> None:
        kinds.append(event.kind)
        if len(kinds) == 1:
            raise ValueError("the first one")

    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    monkeypatch.setattr(Pusher, "_on_event", failing_once)
    async with Pusher(bind=LOOPBACK) as pusher, Puller(connect=pusher.endpoint):
        await until(lambda: MonitorEventKind.HANDSHAKE_SUCCEEDED in kinds)
    assert [str(failure) for failure in failures] == ["the first one"]


@pytest.mark.skipif(not hasattr(select, "poll"), reason="the FD is looked at with poll")
async def test_to_settle_loses_no_word_of_room_at_a_routers_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiozpat.transport.socket._RETRY", 10 * PATIENCE)  # no help from there
    told = asyncio.Event()
    came: list[list[bytes]] = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger, peer.rcvhwm, peer.rcvbuf = 0, 1, 4096

        def receive() -> None:
            if (frames := socket.receive()) is not None:
                came.append(frames)

        socket = Socket(
            Context.current(),
            SocketKind.ROUTER,
            SocketOptions(send_queue_messages=1, send_buffer_bytes=4096),
            on_readable=receive,
            on_writable=told.set,
            max_frames=1,
        )
        peer.connect(socket.bind(LOOPBACK))
        peer.send(b"here")
        await until(lambda: bool(came))
        sent = refused = 0
        while refused < 50:  # by then it has been full for a while
            if socket.send_to(came[0][0], b"x" * 60_000):
                sent, refused = sent + 1, 0
            else:
                refused += 1
                await asyncio.sleep(0.002)
        told.clear()
        # The loop stands still from here: the peer reads, so the FD tells of room, and nobody hears it.
        for _ in range(sent):
            assert peer.poll(int(PATIENCE * 1000))
            peer.recv()
        poll = select.poll()
        poll.register(socket._fd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        assert not socket.scheduled
        socket.settle()
        assert not told.is_set()
        await until(told.is_set)
        await socket.close(0)


async def test_messages_come_on_behind_one_whose_callback_failed() -> None:
    came: list[list[bytes]] = []
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def receive() -> None:
        if not failures:
            raise ValueError("the first one")
        if (frames := socket.receive()) is not None:
            came.append(frames)

    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        socket = Socket(Context.current(), SocketKind.DEALER, SocketOptions(), on_readable=receive, max_frames=1)
        peer.connect(socket.bind(LOOPBACK))
        peer.send(b"here")
        await until(lambda: came == [[b"here"]])
        await socket.close(0)
    assert [str(failure) for failure in failures] == ["the first one"]
