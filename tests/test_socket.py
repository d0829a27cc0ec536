"""The owner of a ZeroMQ socket, where its users can't be made to show what it does."""

from __future__ import annotations

import asyncio
import select

import pytest
import zmq

from aiozpat import SocketOptions
from aiozpat.transport import Context, Socket, SocketKind
from tests.support import PATIENCE, until


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
