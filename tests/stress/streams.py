"""Acts with streams: down, up and both at once; read to their end or left early, slowly, not at all, cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiozpat import Conversation
from tests.stress.caller import IDLE, Caller
from tests.stress.calls import lone_calls
from tests.stress.data import is_payload, payload

_LIMIT = 60.0  # seconds for a stream
_UP = 30.0  # seconds for a call that takes one
_MOST = 20_000_000  # bytes of one stream
_WINDOWS = (1, 2, 16, 256, 256, 4096)
_SIZES: tuple[list[int], ...] = (
    [16],
    [16, 40, 100],
    [65_536, 20],
    [70_000],
    [200, 5000, 65_536, 300_000, 17],
    [4096, 4080],
    [1_048_576],
)


def _items(caller: Caller, sizes: Sequence[int], most: float) -> int:
    """How many items: from one to about `2 ** most`, and not too many bytes of them."""
    return max(1, min(int(2 ** caller.random.uniform(0, most)), _MOST * len(sizes) // sum(sizes)))


async def down(caller: Caller) -> None:
    """A stream from the server; read whole or in part, as fast as can be or slowly."""
    random_of, number = caller.random, caller.number()
    sizes = random_of.choice(_SIZES)
    count = _items(caller, sizes, 11)
    leave = random_of.randrange(count + 1) if random_of.random() < 0.4 else None
    pause, slow = random_of.choice([0, 0, 1, 10]), random_of.choice([0, 0, 0, 5, 50])
    window = random_of.choice(_WINDOWS)
    what = f"down {count} of {sizes}, window {window}, leave at {leave}, pauses {pause}, {slow}"
    caller.watch.tally["streams"] += 1
    seen = 0
    with caller.judged(what, _LIMIT, None):
        async with caller.client.stream(
            "stress.count", number, count, sizes, pause, window=window, idle_timeout=IDLE
        ) as items:
            if random_of.random() < 0.1:
                await asyncio.sleep(random_of.uniform(0, 0.05))
            while seen != leave:
                item = await anext(items, None)
                if item is None:
                    break
                caller.check(f"item {seen}: {what}", is_payload(item, number, seen, sizes[seen % len(sizes)]))
                seen += 1
                if slow and seen % slow == 0:
                    await asyncio.sleep(0.001)
        caller.check(f"only {seen} items: {what}", seen == (count if leave is None else leave))
    caller.watch.tally["items"] += seen


async def up(caller: Caller) -> None:
    """A stream to the server, which reads it whole or in part."""
    random_of, number = caller.random, caller.number()
    sizes = random_of.choice(_SIZES)
    count = _items(caller, sizes, 11)
    stop = random_of.choice([0, 0, random_of.randrange(1, count + 1)])
    pause, slow = random_of.choice([0, 0, 1, 20]), random_of.choice([0, 0, 3])
    what = f"up {count} of {sizes}, stop at {stop}, pauses {pause}, {slow}"

    async def items() -> AsyncIterator[bytes]:
        for index in range(count):
            yield payload(number, index, sizes[index % len(sizes)])
            if slow and index % slow == 0:
                await asyncio.sleep(0)

    caller.watch.tally["streams"] += 1
    with caller.judged(what, _UP, _UP):
        got = await caller.client.call("stress.collect", number, stop, sizes, pause, items(), timeout=_UP)
        caller.check(f"{got} items: {what}", got == (stop or count))
        caller.watch.tally["items"] += count


async def talk(caller: Caller) -> None:
    """Both at once: one for one, or each as fast as it can."""
    random_of = caller.random
    sizes = random_of.choice(_SIZES)
    count = _items(caller, sizes, 9)
    copies = random_of.choice([1, 1, 2, 5])
    leave = random_of.choice([None, None, random_of.randrange(count)])
    window, in_turn = random_of.choice(_WINDOWS), random_of.random() < 0.4
    what = f"talk {count} of {sizes}, {copies} copies, window {window}, leave at {leave}, in turn {in_turn}"
    caller.watch.tally["streams"] += 1
    with caller.judged(what, _LIMIT, None):
        async with caller.client.open("stress.talk", copies, window=window, idle_timeout=IDLE) as talking:
            if in_turn:
                await _in_turn(caller, talking, _Talk(what, sizes, count, copies, leave))
            else:
                await _at_once(caller, talking, _Talk(what, sizes, count, copies, leave))


@dataclass(frozen=True)
class _Talk:
    """What is to be said: items of these sizes, each of which comes back in copies, up to the one to leave at."""

    what: str
    sizes: Sequence[int]
    count: int
    copies: int
    leave: int | None

    def size(self, index: int) -> int:
        return self.sizes[index % len(self.sizes)]


async def _in_turn(caller: Caller, talking: Conversation[Any, Any], talk: _Talk) -> None:
    number = caller.number()
    for index in range(talk.count):
        if index == talk.leave:
            return
        size = talk.size(index)
        await talking.send(payload(number, index, size))
        for _ in range(talk.copies):
            caller.check(f"item {index}: {talk.what}", is_payload(await anext(talking), number, index, size))
            caller.watch.tally["items"] += 1
    await talking.end()
    caller.check(f"more than was to come: {talk.what}", await anext(talking, None) is None)


async def _at_once(caller: Caller, talking: Conversation[Any, Any], talk: _Talk) -> None:
    number, seen = caller.number(), 0

    async def send() -> None:
        for index in range(talk.count):
            await talking.send(payload(number, index, talk.size(index)))
        await talking.end()

    sending = asyncio.create_task(send())
    try:
        async for item in talking:
            index = seen // talk.copies
            caller.check(f"item {seen}: {talk.what}", is_payload(item, number, index, talk.size(index)))
            seen += 1
            if index == talk.leave:
                return
        caller.check(f"only {seen} items: {talk.what}", seen == talk.count * talk.copies)
        await sending
    finally:
        caller.watch.tally["items"] += seen
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def cancelled(caller: Caller) -> None:
    """A few of all, cancelled at any time."""
    random_of = caller.random
    tasks = [
        asyncio.create_task(random_of.choice([down, up, talk, lone_calls])(caller.twin()))
        for _ in range(random_of.randrange(1, 6))
    ]
    await asyncio.sleep(random_of.choice([0, 0, random_of.uniform(0, 0.1)]))
    for task in tasks:
        task.cancel()
    with caller.watch.operation("what was cancelled", 10):
        await asyncio.gather(*tasks, return_exceptions=True)


async def crowd(caller: Caller) -> None:
    """Many of all at once."""
    acts = [caller.random.choice([down, down, up, talk, lone_calls]) for _ in range(caller.random.randrange(2, 25))]
    await asyncio.gather(*(act(caller.twin()) for act in acts))


async def half_read(caller: Caller) -> None:
    """Streams that nobody reads for a while hold up nobody else."""
    sizes = [caller.random.choice([16, 5000, 70_000])]
    numbers = caller.number(), caller.number()
    with caller.judged("half read", _LIMIT, None):
        async with contextlib.AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(
                    caller.client.stream("stress.count", number, 5000, sizes, 0, window=256, idle_timeout=IDLE)
                )
                for number in numbers
            ]
            await lone_calls(caller)
            for number, items in zip(numbers, streams, strict=True):
                caller.check("half read", is_payload(await anext(items), number, 0, sizes[0]))
            await lone_calls(caller)
