"""Serving at level 1: which replies wait for their peers, which hold the places of handlers, what is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import pytest

from aiozpat import Dealer, PeerUnreachable, Request, Router, TimedOut
from aiozpat.endpoints import router as router_module
from aiozpat.endpoints import serving as serving_module
from aiozpat.observability.notices import Notices
from tests.support import LOOPBACK, PATIENCE


def notices() -> Notices:
    return Notices(logging.getLogger("test"))


async def answering(request: Request) -> bytes:
    return b"answer"


class Leaving:
    """A request whose peer takes one reply while others wait, and then leaves."""

    identity = b"peer"

    def __init__(self) -> None:
        self.replies = 0

    def waiting_for(self, identity: bytes) -> int:
        return 1

    async def reply(self, *frames: bytes, timeout: float | None = None) -> None:
        self.replies += 1
        if self.replies > 1:
            raise PeerUnreachable("gone")


class Silent(Leaving):
    """A request whose peer takes no reply."""

    def __init__(self, identity: bytes) -> None:
        self.identity = identity

    async def reply(self, *frames: bytes, timeout: float | None = None) -> None:
        raise TimedOut("no room")


async def test_of_peers_that_take_nothing_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "_MOST_STUCK", 3)
    peer: Any = Leaving()
    run = serving_module.Serving(peer, answering, 1, None, notices())
    for number in range(5):
        request: Any = Silent(b"%d" % number)
        await run._reply(request, [b"one"])
    assert list(run._stuck) == [b"2", b"3", b"4"]


async def test_serve_remembers_nothing_of_peers_that_have_left() -> None:
    peer: Any = Leaving()
    run = serving_module.Serving(peer, answering, 1, None, notices())
    await run._reply(peer, [b"one"])
    assert run._taken_at
    await run._reply(peer, [b"two"])
    assert not run._taken_at


class Reading(Leaving):
    """A request whose peer has no room for its reply at first, and takes others meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.run: serving_module.Serving | None = None

    async def reply(self, *frames: bytes, timeout: float | None = None) -> None:
        self.replies += 1
        if self.replies < 4:
            assert self.run is not None
            self.run._taken_at[self.identity] = time.monotonic()
            raise TimedOut("no room")


async def test_a_reply_waits_as_long_as_its_peer_takes_others() -> None:
    counted = notices()
    peer: Any = Reading()
    peer.run = serving_module.Serving(peer, answering, 1, None, counted)
    await peer.run._reply(peer, [b"one"])
    assert peer.replies == 4
    assert not counted.counts()


class Crowded(Leaving):
    """A request, and the endpoint that it came to, where replies wait for its peer."""

    answered = False
    expects_reply = False

    def __init__(self, waiting: int) -> None:
        super().__init__()
        self.waiting = waiting
        self.replying = asyncio.Event()
        self.read = asyncio.Event()

    def waiting_for(self, identity: bytes) -> int:
        return self.waiting

    def check_sizes(self, parts: object) -> None:
        pass

    async def reply(self, *frames: bytes, timeout: float | None = None) -> None:
        self.replying.set()
        await self.read.wait()


@pytest.mark.parametrize(("waiting", "holds_a_place"), [(0, False), (99, False), (100, True)])
async def test_past_a_hundred_replies_for_one_peer_each_holds_a_handlers_place(
    waiting: int, holds_a_place: bool
) -> None:
    peer: Any = Crowded(waiting)
    run = serving_module.Serving(peer, answering, 1, None, notices())
    await run._slots.acquire()
    serving = asyncio.create_task(run._serve(peer, serving_module._Place(run._slots)))
    await peer.replying.wait()
    assert run._slots.locked() is holds_a_place
    peer.read.set()
    await serving
    assert not run._slots.locked()


async def test_of_peers_that_send_a_delimiter_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "_REMEMBERED", 2)
    async with contextlib.AsyncExitStack() as stack:
        router = await stack.enter_async_context(Router(bind=LOOPBACK))
        dealers = [
            await stack.enter_async_context(Dealer(connect=router.endpoint, delimiter=True, linger=0)) for _ in range(3)
        ]
        identities = []
        for number in (0, 1, 0, 2):  # so that the second one was silent for longest
            await dealers[number].send("here")
            identities.append((await asyncio.wait_for(router.recv(), PATIENCE)).identity)
        assert list(router._delimited) == [identities[0], identities[3]]
