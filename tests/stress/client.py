"""The clients' process: puts the plan's loads on, and sees in between how quick calls are when all is quiet."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec

from aiozpat import Client
from tests.stress import calls, messages, streams
from tests.stress.caller import Caller
from tests.stress.census import OF_CALLS, OF_SESSIONS, check_census
from tests.stress.plan import Plan
from tests.stress.watch import Watch

_QUIET = 70.0  # seconds until everything that was begun has ended
_SETTLE = 0.15  # seconds for what is on its way when the last call has ended
_LAST_WORDS = 1.0  # the same, before it is counted what is left: cancelled handlers end, acknowledgements arrive
_CLOSE = 3.0  # seconds
_clock = time.monotonic

ACTS: dict[str, Callable[[Caller], Awaitable[None]]] = {
    act.__name__: act
    for act in (
        calls.lone_calls,
        calls.burst,
        calls.short_deadlines,
        calls.notes,
        streams.down,
        streams.up,
        streams.talk,
        streams.cancelled,
        streams.crowd,
        streams.half_read,
    )
}


class Stuck(Exception):
    """Something that was begun does not end."""


class Load:
    """Workers that act at random, and stop for a while when they are told to."""

    def __init__(self, plan: Plan, watch: Watch) -> None:
        self._acts = [ACTS[act] for act in plan.acts]
        self._weights = list(plan.acts.values())
        self._watch = watch
        self._until = _clock() + plan.seconds
        self._go = asyncio.Event()
        self._go.set()
        self._busy = 0

    @property
    def over(self) -> bool:
        """Whether its time is over."""
        return _clock() >= self._until

    async def work(self, caller: Caller) -> None:
        """One worker."""
        while True:
            await self._go.wait()
            if self.over:
                return
            self._busy += 1
            try:
                await caller.random.choices(self._acts, self._weights)[0](caller)
            finally:
                self._busy -= 1
            if caller.random.random() < 0.6:
                await asyncio.sleep(caller.random.uniform(0, 0.05))

    async def quiet(self, callers: list[Caller]) -> None:
        """Let the workers stop, and see whether lone calls are quick then; go on.

        Raises:
            Stuck: They do not stop.
        """
        random_of = callers[0].random
        await asyncio.sleep(random_of.uniform(0.5, min(3.0, max(0.5, self._until - _clock()))))
        self._go.clear()
        await self.rest()
        messages.say(messages.Calm(calm=True))
        await asyncio.sleep(_SETTLE)
        end = _clock() + random_of.uniform(0.3, 1.5)
        while _clock() < end:
            await calls.quick(random_of.choice(callers))
            if random_of.random() < 0.6:
                await asyncio.sleep(random_of.choice([0, 0, random_of.uniform(0, 0.002), random_of.uniform(0, 0.05)]))
        messages.say(messages.Calm(calm=False))
        self._go.set()

    async def rest(self) -> None:
        """Wait until no worker does anything.

        Raises:
            Stuck: That does not come about.
        """
        late = _clock() + _QUIET
        while self._busy:
            if _clock() > late:
                raise Stuck
            await asyncio.sleep(0.01)


async def main(plan: Plan) -> None:
    """All of it."""
    asyncio.get_running_loop().slow_callback_duration = 30.0  # seconds; a slow machine is no finding
    watch = Watch()
    beat = asyncio.create_task(watch.beat())
    began = await _with_clients(plan, watch)
    if _clock() - began > _CLOSE:
        watch.find(f"to close took {_clock() - began:.1f} s")
    beat.cancel()
    await asyncio.gather(beat, return_exceptions=True)
    await check_census(watch, "closed clients", OF_CALLS + OF_SESSIONS)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        watch.find(f"tasks left behind: {others}")
    messages.say(messages.Done(watch.report()))


async def _with_clients(plan: Plan, watch: Watch) -> float:
    """Everything that needs them open; gives when they began to close."""
    words = messages.Words()
    async with contextlib.AsyncExitStack() as stack:
        callers = []
        for number, one in enumerate(plan.clients):
            client = await stack.enter_async_context(Client(plan.endpoint, heartbeat=plan.heartbeat, **one.options()))
            callers.append(Caller(f"client {number}", client, plan, watch, random.Random(f"{plan.seed} {number}")))
            await client.ready(10.0)
        try:
            await _put_on(plan, watch, callers)
        except* Stuck:
            watch.find(f"there was no end of it within {_QUIET:g} s")
            messages.say(messages.Quiet(stuck=watch.findings))
        else:
            await asyncio.sleep(_LAST_WORDS)
            for caller in callers:
                await _check_notes(caller)
                _check_left(caller)
            await check_census(watch, "clients without calls", OF_CALLS)
            if not watch.tally["well"]:
                watch.find("nothing went well")
            messages.say(messages.Quiet())
        await words.next()
        return _clock()


async def _put_on(plan: Plan, watch: Watch, callers: list[Caller]) -> None:
    load = Load(plan, watch)
    async with asyncio.TaskGroup() as workers:
        for caller, one in zip(callers, plan.clients, strict=True):
            for _ in range(one.workers):
                workers.create_task(load.work(caller.twin()))
        while not load.over:
            await load.quiet(callers)
        await load.rest()


async def _check_notes(caller: Caller) -> None:
    """Every notification has run once, unless something may have taken it away."""
    tally, name = caller.watch.tally, caller.name
    with caller.judged("notes taken", 10, 10):
        got = list(await caller.client.call("stress.noted", name, timeout=10, idempotent=True))
        sent = [tally[f"notes {name}"], tally[f"sum of notes {name}"]]
        if caller.plan.fault == "none" and not caller.plan.refuses:
            caller.check(f"notes, as [count, sum]: {sent} sent, {got} taken", got == sent)


def _check_left(caller: Caller) -> None:
    statistics = caller.client.statistics()
    caller.check(f"{statistics.in_flight} calls in flight at the end", statistics.in_flight == 0)
    caller.check(f"{statistics.waiting_bytes} bytes waiting at the end", statistics.waiting_bytes == 0)
    caller.check(f"{statistics.sessions} sessions", statistics.sessions == 1 or caller.plan.loses)


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=Plan)
    messages.run_on(given.loop, main(given))
