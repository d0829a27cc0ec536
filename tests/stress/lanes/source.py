"""One-way lanes: who sends, in every way there is, and who takes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from aiozpat import Message, errors
from tests.stress.lanes import letter
from tests.stress.lanes.letter import Letter
from tests.stress.lanes.plan import LanePlan
from tests.stress.messages import Tally
from tests.stress.watch import QUICK, Watch


class Sends(Protocol):
    """An end that sends; of a publisher's messages, the first frame is the topic."""

    async def send(self, frame: bytes, /, *frames: bytes, timeout: float | None = None) -> None:
        """Send one message."""

    async def send_many(self, messages: Iterator[Sequence[bytes]], timeout: float | None = None) -> None:
        """Send several."""


class Takes(Protocol):
    """An end that receives."""

    async def recv(self, timeout: float | None = None) -> Message:
        """The next message."""

    async def recv_many(self, limit: int = 1000, timeout: float | None = None) -> Sequence[Message]:
        """The next messages."""

    async def __anext__(self) -> Message:
        """The next message."""


class Source:
    """One worker that sends.

    Args:
        number: Its own, which no other source of the run has, and none of the thousand after it.
        end: Gives what it sends by.
        plan: Of the lane.
        random_of: Its own randomness.
    """

    def __init__(self, number: int, end: Callable[[], Sends], plan: LanePlan, random_of: random.Random) -> None:
        self._number = number
        self._sent = Tally()
        self._before: dict[int, Tally] = {}
        self._end = end
        self._plan = plan
        self._random = random_of
        self._next = 0
        self._acts = (self._one, self._timed, self._cancelled, self._many, self._many_timed)

    async def act(self) -> None:
        """Send something, in one of the ways there are."""
        await self._random.choice(self._acts)()

    async def lone(self) -> None:
        """Send one that is to arrive at once."""
        number, frames = self._new(letter.stamp())
        await self._end().send(*frames)
        self._sent.add(number)

    def renew(self) -> None:
        """Its end is another: what is sent there may overtake what was sent before."""
        self._before = self.sent_by_number()
        self._number, self._sent, self._next = self._number + 1, Tally(), 0

    def sent_by_number(self) -> dict[int, Tally]:
        """What it has sent, by the numbers that it had."""
        return {**self._before, self._number: self._sent}

    def _new(self, stamp: int = 0) -> tuple[int, Sequence[bytes]]:
        number, self._next = self._next, self._next + 1
        return number, letter.write(Letter(self._number, number, stamp), self._random, self._plan.most)

    async def _one(self, timeout: float | None = None) -> None:
        number, frames = self._new()
        await self._end().send(*frames, timeout=timeout)
        self._sent.add(number)  # in the step in which it was sent

    async def _timed(self) -> None:
        with contextlib.suppress(errors.TimedOut):
            await self._one(self._random.choice([0.0, self._random.uniform(0, 0.01)]))

    async def _cancelled(self) -> None:
        await cancelled(self._one(), self._random)

    async def _many(self, timeout: float | None = None) -> None:
        """All but the message taken last were sent, if it does not end well."""
        taken: list[int] = []

        def messages() -> Iterator[Sequence[bytes]]:
            for _ in range(self._random.choice([1, 5, 20, 300 if self._plan.most <= 5000 else 20])):
                number, frames = self._new()
                taken.append(number)
                yield frames

        try:
            await self._end().send_many(messages(), timeout=timeout)
        except (errors.TimedOut, asyncio.CancelledError):
            del taken[-1:]
            raise
        finally:
            for number in taken:
                self._sent.add(number)

    async def _many_timed(self) -> None:
        if self._random.random() < 0.5:
            await cancelled(self._many(), self._random)
            return
        with contextlib.suppress(errors.TimedOut):
            await self._many(self._random.uniform(0, 0.02))


class Sink:
    """One end that receives.

    Args:
        end: It.
        plan: Of the lane.
        watch: Where findings go.
        random_of: Its own randomness.
    """

    def __init__(self, end: Takes, plan: LanePlan, watch: Watch, random_of: random.Random) -> None:
        self.taken: dict[int, Tally] = {}
        self.calm = False  # whether takers make no pauses
        self._end = end
        self._plan = plan
        self._watch = watch
        self._random = random_of
        self._last: dict[int, int] = {}

    async def work(self) -> None:
        """One taker, until its end is closed."""
        acts = (self._one, self._timed, self._cancelled, self._many, self._some)
        while True:
            try:
                await self._random.choice(acts)()
            except errors.TimedOut:
                pass
            except (errors.Closed, StopAsyncIteration):
                return
            if self._plan.slow and not self.calm and self._random.random() < 0.1:
                await asyncio.sleep(self._random.uniform(0, 0.03))

    def _take(self, message: Message) -> None:
        try:
            source, number, stamp = letter.read(message.frames)
        except ValueError as error:
            self._watch.find(f"{self._plan.kind}: {error}")
            return
        last = self._last.get(source, -1)
        if number <= last:
            self._watch.find(f"{self._plan.kind}: message {number} of {source} came behind {last}")
        self._last[source] = number
        self.taken.setdefault(source, Tally()).add(number)
        self._watch.tally["messages"] += 1
        if stamp:
            self._watch.lasted(f"a lone message by {self._plan.kind}", stamp * 1e-9, QUICK)

    async def _one(self, timeout: float | None = None) -> None:
        self._take(await self._end.recv(timeout))

    async def _timed(self) -> None:
        await self._one(self._random.choice([0.0, self._random.uniform(0, 0.01)]))

    async def _cancelled(self) -> None:
        await cancelled(self._one(), self._random)

    async def _many(self) -> None:
        for message in await self._end.recv_many(self._random.choice([1, 3, 1000]), self._random.choice([None, 0.01])):
            self._take(message)

    async def _some(self) -> None:
        for _ in range(self._random.choice([1, 20, 300])):
            self._take(await anext(self._end))


async def cancelled(doing: Coroutine[Any, Any, None], random_of: random.Random) -> None:
    """Begin something and cancel it soon; what it raises otherwise is raised."""
    task = asyncio.create_task(doing)
    try:
        for _ in range(random_of.choice([0, 1, 2, 3])):
            await asyncio.sleep(0)
        if random_of.random() < 0.5:
            await asyncio.sleep(random_of.uniform(0, 0.01))
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()
