"""The stress program's lanes find what they are there to find."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from aiozpat import Closed, Dealer, Message, Router
from tests.stress.lanes import letter
from tests.stress.lanes.asking import Answerer, DealerAsker, Post
from tests.stress.lanes.letter import Letter
from tests.stress.lanes.plan import LanePlan, LanesPlan, make_plan
from tests.stress.lanes.run import LanesRun
from tests.stress.lanes.source import Sink, Source
from tests.stress.messages import Accounts, Tally
from tests.stress.watch import Watch
from tests.support import LOOPBACK


def _lane(kind: str = "push") -> LanePlan:
    for seed in range(1000):
        for lane in make_plan(seed, 1.0, None, None).lanes:
            if lane.kind == kind and not lane.slow:
                return lane
    raise AssertionError("no such lane")


class Given:
    """An end that gives these messages, then is closed."""

    def __init__(self, messages: Sequence[list[bytes]]) -> None:
        self._messages = [Message(tuple(frames)) for frames in messages]

    async def recv(self, timeout: float | None = None) -> Message:
        if not self._messages:
            raise Closed("no more")
        return self._messages.pop(0)

    async def recv_many(self, limit: int = 1000, timeout: float | None = None) -> list[Message]:
        return [await self.recv()]

    async def __anext__(self) -> Message:
        return await self.recv()


def _frames(source: int, number: int, stamp: int = 0) -> list[bytes]:
    return letter.write(Letter(source, number, stamp), random.Random(number), 1000)


async def _found(*messages: list[bytes]) -> list[str]:
    """What a sink finds in them."""
    watch = Watch()
    await Sink(Given(messages), _lane(), watch, random.Random(1)).work()
    return [*watch.findings, *(slow.what for slow in watch.slow)]


async def test_there_is_nothing_to_find_where_all_is_well() -> None:
    assert await _found(_frames(1, 0), _frames(2, 0), _frames(1, 1), _frames(1, 5), _frames(2, 1)) == []


async def test_a_message_that_comes_twice_or_late_is_found() -> None:
    assert await _found(_frames(1, 0), _frames(1, 0)) == ["push: message 0 of 1 came behind 0"]
    assert await _found(_frames(1, 3), _frames(1, 2)) == ["push: message 2 of 1 came behind 3"]


async def test_a_message_that_is_not_whole_is_found() -> None:
    whole = letter.write(Letter(1, 0, 0), random.Random(7), 1000)
    assert len(whole) > 1
    assert await _found(whole[:-1])
    assert await _found(whole[1:])
    assert await _found([*whole, b"more"])
    assert await _found([*whole[:-1], whole[-1][:-1] + b"?"])


async def test_a_lone_message_that_takes_long_is_found() -> None:
    assert await _found(_frames(1, 0, letter.stamp())) == []
    assert await _found(_frames(1, 0, letter.stamp() - 10**9)) == ["a lone message by push"]


def _open(kind: str, sent: dict[int, Tally], taken: dict[str, dict[int, Tally]], overflows: int = 0) -> list[float]:
    plan = LanesPlan(seed=1, seconds=1.0, loop="uvloop", fault="none", lanes=[_lane(kind)])
    accounts = Accounts(sent={0: sent}, taken={0: taken}, overflows={0: overflows}, unanswered=0)
    return [patience for _, patience in LanesRun(plan)._open(accounts)]


def _tally(*numbers: int) -> Tally:
    tally = Tally()
    for number in numbers:
        tally.add(number)
    return tally


def test_what_is_lost_or_was_never_sent_is_waited_for() -> None:
    assert _open("push", {1: _tally(0, 1, 2)}, {"a": {1: _tally(0, 2)}, "b": {1: _tally(1)}}) == []
    assert _open("push", {1: _tally(0, 1, 2)}, {"a": {1: _tally(0, 2)}, "b": {}})
    assert _open("push", {1: _tally(0, 1, 2)}, {"a": {1: _tally(0, 1, 3)}})
    assert _open("publish", {1: _tally(0, 1)}, {"a": {1: _tally(0, 1)}, "b": {1: _tally(0, 1)}}) == []
    assert _open("publish", {1: _tally(0, 1)}, {"a": {1: _tally(0, 1)}, "b": {1: _tally(0)}})


def test_what_a_publisher_may_leave_out_it_has_to_count() -> None:
    (counted,) = _open("publish-drop", {1: _tally(0, 1)}, {"a": {1: _tally(0)}}, overflows=1)
    (silent,) = _open("publish-drop", {1: _tally(0, 1)}, {"a": {1: _tally(0)}})
    (more,) = _open("publish-drop", {1: _tally(0)}, {"a": {1: _tally(0, 1)}}, overflows=1)
    assert counted < silent == more


async def test_a_reply_that_is_anothers_is_found() -> None:
    watch, lane = Watch(), _lane("router")
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:

        async def swap(request: Message) -> list[bytes]:
            return [request.frames[0], *_frames(9, 9)]

        serving = asyncio.create_task(router.serve(swap))
        post = Post(dealer, watch)
        taking = asyncio.create_task(post.work())
        await DealerAsker(1, post, lane, watch, random.Random(1)).lone()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    await taking
    assert "is another's" in watch.findings[0]


async def test_replies_that_are_right_are_none() -> None:
    watch, lane = Watch(), _lane("router")
    async with Router(bind=LOOPBACK) as router, Dealer(connect=router.endpoint) as dealer:
        answering = asyncio.create_task(Answerer(router, lane, watch, random.Random(1)).work())
        post = Post(dealer, watch)
        taking = asyncio.create_task(post.work())
        asker = DealerAsker(1, post, lane, watch, random.Random(1))
        for _ in range(20):
            await asker.act()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
    await taking
    assert watch.findings == []


class Refusing:
    """An end that takes so many messages, and then nobody waits any more."""

    def __init__(self, room: int) -> None:
        self.taken: list[Sequence[bytes]] = []
        self._room = room

    async def send(self, frame: bytes, /, *frames: bytes, timeout: float | None = None) -> None:
        self._take((frame, *frames))

    async def send_many(self, messages: Sequence[Sequence[bytes]], timeout: float | None = None) -> None:
        for message in messages:
            self._take(message)

    def _take(self, message: Sequence[bytes]) -> None:
        if len(self.taken) == self._room:
            raise asyncio.CancelledError
        self.taken.append(message)


@pytest.mark.parametrize("room", [0, 1, 3])
async def test_what_was_sent_of_many_is_known_though_it_was_cancelled(room: int) -> None:
    end = Refusing(room)
    source = Source(5, lambda: end, _lane(), random.Random(3))  # type: ignore[arg-type, return-value]  # it will do
    with pytest.raises(asyncio.CancelledError):
        while True:
            await source._many()
    assert source.sent_by_number() == {5: _tally(*(letter.read(frames).number for frames in end.taken))}


async def test_lanes_between_two_processes_go_well() -> None:
    plan = make_plan(4, 0.5, "uvloop", "none")
    lanes = [msgspec.structs.replace(_lane(kind), most=100) for kind in ("push", "publish", "replier")]
    outcome = await LanesRun(msgspec.structs.replace(plan, lanes=lanes)).outcome()
    assert outcome.findings == []
    assert outcome.report is not None
    assert outcome.report.tally["messages"] > 0 < outcome.report.tally["replies"]
