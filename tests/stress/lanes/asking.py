"""Lanes of requests and replies: who asks, in the ways there are, and who answers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import count

from aiozpat import Dealer, Message, Replier, Requester, Router, errors
from tests.stress.lanes import letter
from tests.stress.lanes.letter import Letter
from tests.stress.lanes.plan import LanePlan
from tests.stress.lanes.source import cancelled
from tests.stress.watch import QUICK, Watch

_LONG = 30.0  # seconds for any answer
_EARLY = 0.005  # seconds; timers come so much too early
_clock = time.monotonic


class Asker:
    """What both kinds of askers share.

    Args:
        number: Its own, which no other asker of the run has.
        plan: Of the lane.
        watch: Where findings go.
        random_of: Its own randomness.
    """

    def __init__(self, number: int, plan: LanePlan, watch: Watch, random_of: random.Random) -> None:
        self._number = number
        self._plan = plan
        self._watch = watch
        self._random = random_of
        self._numbers = count()

    async def act(self) -> None:
        """Ask something, in one of the ways there are."""
        await self._random.choice((self._one, self._one, self._cancelled, self._timed))()

    async def lone(self) -> None:
        """Ask something that is to be answered at once."""
        with self._watch.quick(f"a lone request by {self._plan.kind}", QUICK):
            await self._ask(_LONG, self._new())

    def _new(self) -> tuple[int, list[bytes]]:
        number = next(self._numbers)
        frames = letter.write(Letter(self._number, number, 0), self._random, self._plan.most)
        return number, frames

    async def _one(self) -> None:
        await self._ask(_LONG, self._new())

    async def _cancelled(self) -> None:
        await cancelled(self._one(), self._random)

    async def _timed(self) -> None:
        timeout = self._random.uniform(0, 0.02)
        begin = _clock()
        try:
            await self._ask(timeout, self._new())
        except (errors.TimedOut, TimeoutError):
            if _clock() - begin < timeout - _EARLY:
                self._watch.find(f"{self._plan.kind}: timed out after {_clock() - begin:.3f} s of {timeout:.3f}")

    async def _ask(self, timeout: float, what: tuple[int, list[bytes]]) -> None:
        number, frames = what
        name = f"request {number} of {self._number}"
        try:
            with self._watch.operation(f"a {name}", timeout):
                reply = await self._exchange(number, frames, timeout)
        except (errors.TimedOut, TimeoutError):
            if timeout == _LONG:
                self._watch.find(f"no reply to {name} in {timeout} s")
            raise
        if list(reply) != frames:
            self._watch.find(f"the reply to {name} is another's: {reply!r:.200}")
        self._watch.tally["replies"] += 1

    async def _exchange(self, number: int, frames: Sequence[bytes], timeout: float) -> Sequence[bytes]:
        """Send a request, and wait for its reply."""
        raise NotImplementedError


class RequesterAsker(Asker):
    """Asks by a `Requester`, which others use at the same time."""

    def __init__(self, number: int, end: Requester, plan: LanePlan, watch: Watch, random_of: random.Random) -> None:
        super().__init__(number, plan, watch, random_of)
        self._end = end

    async def _exchange(self, number: int, frames: Sequence[bytes], timeout: float) -> Sequence[bytes]:
        return (await self._end.request(*frames, timeout=timeout)).frames


class Post:
    """The replies that come to one `Dealer`, handed to who waits for them.

    Args:
        end: It.
        watch: Where findings go.
    """

    def __init__(self, end: Dealer, watch: Watch) -> None:
        self.end = end
        self.waiting: dict[bytes, asyncio.Future[Message]] = {}
        self.given_up: set[bytes] = set()  # what was sent, but is waited for no more
        self._watch = watch

    async def work(self) -> None:
        """Take what comes, until it is closed."""
        async for message in self.end:
            key = message.frames[0]
            future = self.waiting.pop(key, None)
            if future is not None:
                if not future.done():  # cancelled a moment ago
                    future.set_result(message)
            elif key in self.given_up:
                self.given_up.remove(key)
            else:
                self._watch.find(f"a reply to nothing that was asked, or the second one: {message!r:.200}")


class DealerAsker(Asker):
    """Asks by a `Dealer`, with a frame that says which reply is whose."""

    def __init__(self, number: int, post: Post, plan: LanePlan, watch: Watch, random_of: random.Random) -> None:
        super().__init__(number, plan, watch, random_of)
        self._post = post

    async def _exchange(self, number: int, frames: Sequence[bytes], timeout: float) -> Sequence[bytes]:
        key = b"%d %d" % (self._number, number)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._post.waiting[key] = future
        sent = False
        try:
            async with asyncio.timeout(timeout):
                await self._post.end.send(key, *frames)
                sent = True
                return (await future).frames[1:]
        finally:
            if self._post.waiting.pop(key, None) is not None and sent:
                self._post.given_up.add(key)


class Answerer:
    """Gives back what it is asked, some of it late.

    Args:
        end: What it serves.
        plan: Of the lane.
        watch: Where findings go.
        random_of: Its own randomness.
    """

    def __init__(self, end: Router | Replier, plan: LanePlan, watch: Watch, random_of: random.Random) -> None:
        self._end = end
        self._plan = plan
        self._watch = watch
        self._random = random_of
        self.calm = False  # whether it answers at once

    async def work(self) -> None:
        """Serve until it is closed."""
        await self._end.serve(self._answer, max_concurrency=self._random.choice([1, 3, 100]))

    async def _answer(self, request: Message) -> list[bytes]:
        frames = list(request.frames)
        try:
            letter.read(frames[1:] if self._plan.kind == "router" else frames)
        except ValueError as error:
            self._watch.find(f"{self._plan.kind}: {error}")
        if self._plan.slow and not self.calm:
            await asyncio.sleep(self._random.choice([0, 0, self._random.uniform(0, 0.02)]))
        return frames
