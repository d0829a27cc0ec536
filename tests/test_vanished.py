"""Hosts that vanish without a word: TCP is told after how long to give them up."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

import pytest

import aiozpat
from aiozpat import Client, Limits, Publisher, Puller, Pusher, Server, Service, Subscriber
from tests.support import LOOPBACK, PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told, and asked")


def patience_of(endpoint: str) -> list[float]:
    """Seconds, of both ends of the connections to an endpoint of this process."""
    port = int(endpoint.rpartition(":")[2])
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):  # no socket, or one without a peer
            duplicate = os.dup(int(name))
            stack.callback(os.close, duplicate)
            copy = socket.socket(fileno=duplicate)
            stack.callback(copy.detach)  # before that: the number is closed once
            if copy.family == socket.AF_INET and port in (copy.getpeername()[1], copy.getsockname()[1]):
                found.append(copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000)
    return found


@pytest.mark.parametrize(
    ("heartbeat", "limits", "ours", "theirs"),
    [
        (2.0, Limits(), 30.0, 30.0),
        (2.0, Limits(slow_peer_seconds=60.0), 30.0, 120.0),
        (10.0, Limits(), 60.0, 60.0),
        (3600.0, Limits(slow_peer_seconds=float("inf")), 21_600.0, 86_400.0),
    ],
)
async def test_a_session_is_judged_before_its_connection(
    heartbeat: float, limits: Limits, ours: float, theirs: float
) -> None:
    service = Service("s")

    @service.method
    async def none() -> None: ...

    async with (
        Server(service, bind=LOOPBACK, heartbeat=heartbeat, limits=limits) as server,
        Client(server.endpoint, heartbeat=heartbeat) as client,
    ):
        await client.ready(PATIENCE)
        assert sorted(patience_of(server.endpoint)) == sorted([ours, theirs])


async def test_at_level_1_the_system_decides_unless_it_is_told() -> None:
    options = aiozpat.SocketOptions(unacknowledged_seconds=7.5)
    async with (
        Puller(bind=LOOPBACK) as puller,
        Pusher(connect=puller.endpoint) as pusher,
        Publisher(bind=LOOPBACK, options=options) as publisher,
        Subscriber(connect=publisher.endpoint, topics=[""], options=options) as subscriber,
    ):
        await pusher.wait_for_peers(1, PATIENCE)
        await subscriber.ready(PATIENCE)
        assert patience_of(puller.endpoint) == [0, 0]
        assert patience_of(publisher.endpoint) == [7.5, 7.5]
    with pytest.raises(ValueError, match="unacknowledged_seconds is a number above 0"):
        aiozpat.SocketOptions(unacknowledged_seconds=0)
