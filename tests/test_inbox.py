"""What endpoints receive into: nothing is lost, doubled or stuck, whoever takes it and whoever gives up."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest

from aiozpat.endpoints.inbox import Inbox
from aiozpat.errors import Closed, TimedOut
from tests.support import PATIENCE, until


class _Source:
    """Gives numbers in batches of up to `room`, as a socket's reader does, unless it is paused."""

    def __init__(self, limit: int, total: int, dice: random.Random) -> None:
        self.inbox: Inbox[int] = Inbox(limit, self._pause, self._resume, str)
        self._numbers = deque(range(total))
        self._dice = dice
        self._open = asyncio.Event()
        self._open.set()

    def _pause(self) -> None:
        self._open.clear()

    def _resume(self) -> None:
        self._open.set()

    async def run(self) -> None:
        while self._numbers:
            await self._open.wait()
            count = min(len(self._numbers), self.inbox.room, self._dice.choice((0, 1, 2, 7, 200)))
            self.inbox.extend([self._numbers.popleft() for _ in range(count)])
            await asyncio.sleep(0)


def _pop(inbox: Inbox[int]) -> int | None:
    """The oldest number, if no more than taking it is needed, as endpoints take theirs."""
    if not inbox.free:
        return None
    inbox.free -= 1
    return inbox.messages.popleft()


async def _receive(inbox: Inbox[int], how: str, taken: list[int], dice: random.Random) -> None:
    """Take for ever, as an endpoint does it."""
    while True:
        if how == "many":
            taken += await inbox.take_many(dice.choice((1, 3, 1000)), None)
        else:
            number = _pop(inbox)
            taken.append(await inbox.take(None) if number is None else number)
        if dice.random() < 0.1:
            await asyncio.sleep(0)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 10, 100, 1000])
@pytest.mark.parametrize("ways", [["one"], ["many"], ["one", "many"], ["one", "one", "one", "many"]], ids="-".join)
async def test_each_message_is_taken_once(limit: int, ways: list[str]) -> None:
    total = 3000
    dice = random.Random(f"{limit}{ways}")
    source = _Source(limit, total, dice)
    taken: list[int] = []
    tasks = [asyncio.create_task(_receive(source.inbox, how, taken, dice)) for how in ways]
    feeding = asyncio.create_task(source.run())
    while not feeding.done():
        await asyncio.sleep(0)
        if dice.random() < 0.05:  # somebody gives up, and somebody else comes
            place = dice.randrange(len(tasks))
            tasks[place].cancel()
            await asyncio.wait({tasks[place]})
            tasks[place] = asyncio.create_task(_receive(source.inbox, ways[place], taken, dice))
    await until(lambda: len(taken) >= total or any(task.done() for task in tasks))
    assert sorted(taken) == list(range(total))
    assert taken == sorted(taken) or len(ways) > 1
    source.inbox.close("over")
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Closed}


async def test_what_is_there_can_be_taken_without_waiting_up_to_a_turn() -> None:
    inbox: Inbox[int] = Inbox(1000, lambda: None, lambda: None, str)
    inbox.extend(range(1000))
    assert _pop(inbox) is None  # nobody has seen to the loop's other tasks yet
    assert await inbox.take(None) == 0
    taken = 0
    while _pop(inbox) is not None:
        taken += 1
    assert 64 <= taken < 256


async def test_nothing_is_taken_out_of_turn_while_somebody_waits() -> None:
    inbox: Inbox[int] = Inbox(1000, lambda: None, lambda: None, str)
    inbox.extend((1, 2))
    assert await inbox.take(None) == 1
    assert _pop(inbox) == 2
    waiting = asyncio.create_task(inbox.take(None))
    await until(lambda: bool(inbox._waiters))
    inbox.extend((3, 4))
    assert _pop(inbox) is None
    assert await waiting == 3
    assert _pop(inbox) == 4


async def test_who_was_woken_is_not_forestalled() -> None:
    inbox: Inbox[int] = Inbox(1000, lambda: None, lambda: None, str)

    async def take_and_try_once_more() -> tuple[int, int | None]:
        return await inbox.take(None), _pop(inbox)

    first = asyncio.create_task(take_and_try_once_more())
    await until(lambda: len(inbox._waiters) == 1)
    second = asyncio.create_task(inbox.take(None))
    await until(lambda: len(inbox._waiters) == 2)
    inbox.extend((1, 2))
    assert await first == (1, None)
    assert await second == 2


async def test_what_others_have_taken_meanwhile_is_not_there() -> None:
    inbox: Inbox[int] = Inbox(1000, lambda: None, lambda: None, str)
    inbox.extend((1, 2))
    assert sorted(await asyncio.gather(inbox.take(None), inbox.take(None))) == [1, 2]
    assert _pop(inbox) is None


async def test_what_is_forgotten_is_not_taken() -> None:
    inbox: Inbox[int] = Inbox(1000, lambda: None, lambda: None, str)
    inbox.extend((1, 2, 3))
    assert await inbox.take(None) == 1
    inbox.close("over")
    assert _pop(inbox) is None
    with pytest.raises(Closed):
        await inbox.take(None)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
async def test_what_somebody_was_woken_for_who_gave_up_goes_to_the_next_that_waits(timeout: float | None) -> None:
    inbox: Inbox[int] = Inbox(1000, lambda: None, lambda: None, str)
    first = asyncio.create_task(inbox.take(timeout))
    await until(lambda: len(inbox._waiters) == 1)
    second = asyncio.create_task(inbox.take(timeout))
    await until(lambda: len(inbox._waiters) == 2)
    inbox.put(1)
    first.cancel()
    assert await asyncio.wait_for(second, PATIENCE) == 1
    assert first.cancelled()
    with pytest.raises(TimedOut):
        await inbox.take(0)
