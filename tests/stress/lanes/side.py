"""One of the two processes: its ends of all lanes, and who works at them; does what it is told, and says so."""

from __future__ import annotations

import asyncio
import random
import sys
import traceback
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import msgspec

from tests.stress import messages
from tests.stress.census import check_census
from tests.stress.lanes.lane import Lane
from tests.stress.lanes.load import Load
from tests.stress.lanes.plan import LanesPlan, Side
from tests.stress.watch import Watch

_REST = 15.0  # seconds for everything that was begun to end
_CLOSE = 3.0  # seconds
_OF_LANES = ("Socket", "Inbox", "Line", "Serving", "Request", "Message")


class Process:
    """All lanes' ends on one side."""

    def __init__(self, side: Side, plan: LanesPlan) -> None:
        self._plan = plan
        self._side = side
        self._random = random.Random(f"{plan.seed} {side}")
        self._watch = Watch()
        self._load = Load()
        self._lanes = [Lane(number, lane, side, plan, self._watch) for number, lane in enumerate(plan.lanes)]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Everything, until it is told to close."""
        asyncio.get_running_loop().slow_callback_duration = 30.0  # seconds; a slow machine is no finding
        beat = asyncio.create_task(self._watch.beat())
        words = messages.Words()
        for lane in self._lanes:
            await lane.open()
        if self._side == "far":
            messages.say(messages.Bound([lane.endpoint for lane in self._lanes]))
        else:
            messages.say(messages.Did("open"))
        while (word := await words.next()) != "close":
            await self._obey(word)
        with self._watch.quick("to close", _CLOSE):
            await self._close()
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        await self._check_left()
        messages.say(messages.Done(self._watch.report()))

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for lane in self._lanes:
            await lane.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _obey(self, word: str) -> None:
        if word == "accounts":
            messages.say(self._accounts())
            return
        if word == "begin":
            await self._begin()
        elif word == "go":
            self._set_calm(False)
            self._load.go()
        elif word == "rest":
            self._set_calm(True)
            try:
                await asyncio.wait_for(self._load.rest(), _REST)
            except TimeoutError:
                messages.say(messages.Quiet(stuck=self._stuck()))
                return
            for lane in self._lanes:
                if self._random.random() < 0.5:
                    await lane.reopen()
        else:
            for lane in self._lanes:
                await lane.lone()
        messages.say(messages.Did(word))

    async def _begin(self) -> None:
        for lane in self._lanes:
            await lane.ready()
            for work in lane.takers():
                self._start(work)
            for source in lane.sources:
                self._start(self._load.work(source.act, random.Random(self._random.random())))

    def _start(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:  # whatever it is, nothing should come out of a worker
                self._watch.find(traceback.format_exc())

        self._tasks.add(asyncio.create_task(guarded()))

    def _set_calm(self, calm: bool) -> None:
        for lane in self._lanes:
            lane.set_calm(calm)

    def _accounts(self) -> messages.Accounts:
        return messages.Accounts(
            sent={lane.number: lane.sent() for lane in self._lanes},
            taken={lane.number: lane.taken() for lane in self._lanes},
            overflows={lane.number: lane.overflows() for lane in self._lanes},
            unanswered=sum(len(post.given_up) for lane in self._lanes for post in lane.posts),
        )

    def _stuck(self) -> list[str]:
        """Where those are that do not come to rest, and what has been found meanwhile."""
        waiting = Counter(_where(task.get_coro()) for task in self._tasks if not task.done())
        return [f"the {self._side} process does not rest: {waiting}", *self._watch.findings]

    async def _check_left(self) -> None:
        self._tasks.clear()
        for lane in self._lanes:
            lane.forget()
        await check_census(self._watch, f"the {self._side} process", _OF_LANES)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            self._watch.find(f"tasks left behind: {others}")


def _where(waits: Any) -> str:
    """The functions that a suspended coroutine is in, from the outermost on."""
    names = []
    while (code := getattr(waits, "cr_code", None)) is not None:
        names.append(code.co_name)
        waits = waits.cr_await
    return " > ".join(names)


if __name__ == "__main__":
    side: Side = "far" if sys.argv[1] == "far" else "near"
    given = msgspec.json.decode(sys.argv[2], type=LanesPlan)
    messages.run_on(given.loop, Process(side, given).run())
