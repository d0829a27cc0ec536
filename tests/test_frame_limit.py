"""Messages of more frames than are kept: dropped whole and counted, never handed out in part."""

from __future__ import annotations

from typing import Any

import pytest
import zmq
import zmq.asyncio

from aiozpat import Dealer, Pair, Puller, Router, Subscriber
from aiozpat.endpoints import base, receiver
from tests.support import LOOPBACK, PATIENCE, until

_MOST = 5


@pytest.fixture(autouse=True)
def a_small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_FRAMES", _MOST)
    monkeypatch.setattr(receiver, "MAX_FRAMES", _MOST)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Puller(bind=LOOPBACK), zmq.PUSH),
        (lambda: Dealer(bind=LOOPBACK), zmq.DEALER),
        (lambda: Pair(bind=LOOPBACK), zmq.PAIR),
        (lambda: Router(bind=LOOPBACK, framing="raw"), zmq.DEALER),
        (lambda: Subscriber(bind=LOOPBACK, topics=[""]), zmq.XPUB),
    ],
    ids=["Puller", "Dealer", "Pair", "Router", "Subscriber"],
)
async def test_a_message_is_whole_or_counted(make: Any, kind: int) -> None:
    sent = [[b"%d" % place for place in range(count)] for count in (1, 4, 5, 6, 7, 9, 6, 2, 5)]
    async with make() as endpoint:
        with zmq.asyncio.Context() as context, context.socket(kind) as peer:
            peer.linger = 0
            peer.connect(endpoint.endpoint)
            if kind == zmq.XPUB:
                assert await peer.recv() == b"\1"  # it has subscribed
            for frames in sent:
                await peer.send_multipart(frames)
            kept = [frames for frames in sent if len(frames) <= _MOST]
            assert [list((await endpoint.recv(PATIENCE)).frames) for _ in kept] == kept
            await until(lambda: endpoint.statistics().notices.get("message dropped") == len(sent) - len(kept))
