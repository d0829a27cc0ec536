"""The run of lanes between two processes: what is sent arrives, once, and at once where nothing is in its way."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

import msgspec

from tests.stress import messages
from tests.stress.child import Child, Failed
from tests.stress.lanes.plan import LanePlan, LanesPlan
from tests.stress.messages import Accounts, Tally
from tests.stress.run import START, TELL, Run, encoded

_ARRIVE = 15.0  # seconds for what was sent to arrive, since the last of it did
_STILL = 0.3  # seconds in which nothing arrives any more, where some is left out
_POLL = 0.05  # seconds
_clock = time.monotonic


class LanesRun(Run):
    """Lanes between a far process, which listens, and a near one.

    Args:
        plan: What to do.
    """

    def __init__(self, plan: LanesPlan) -> None:
        super().__init__(plan.seed)
        self._plan = plan
        self._sides: list[Child] = []

    async def _carry_out(self) -> None:
        module = "tests.stress.lanes.side"
        far = await self._start("far process", module, "far", encoded(self._plan))
        endpoints = (await far.said(messages.Bound, START)).endpoints
        self._plan = msgspec.structs.replace(self._plan, endpoints=endpoints)
        near = await self._start("near process", module, "near", encoded(self._plan))
        await near.said(messages.Did, START)
        self._sides = [far, near]
        await self._tell("begin")
        end = _clock() + self._plan.seconds
        while _clock() < end:
            await self._tell("go")
            await self._load(min(self._random.uniform(0.3, 3.0), end - _clock()))
            for word in ("rest", "lone"):
                await self._tell(word)
                await self._settle()
        for side in self._sides:
            await side.tell("close")
            self._take(await side.said(messages.Done, TELL))
        await self._end(*self._sides)

    async def _tell(self, word: str) -> None:
        """Tell both, and wait until they have done it."""
        for side in self._sides:
            await side.tell(word)
        for side in self._sides:
            said = await side.hear(TELL)
            if isinstance(said, messages.Quiet):
                raise Failed("; ".join(said.stuck))
            if not isinstance(said, messages.Did):
                raise Failed(f"the {side.name} said {said}, not {word}")

    async def _load(self, seconds: float) -> None:
        """Let them work, and stand still now and then."""
        end = _clock() + seconds
        while self._plan.fault == "stop" and self._random.random() < 0.5:
            await asyncio.sleep(max(0.0, min(self._random.uniform(0, seconds), end - _clock())))
            await self._stop(self._random.choice(self._sides), self._random.uniform(0.05, 0.7))
            self._faults += 1
        await asyncio.sleep(max(0.0, end - _clock()))

    async def _accounts(self) -> Accounts:
        both = []
        for side in self._sides:
            await side.tell("accounts")
            both.append(await side.said(Accounts, TELL))
        far, near = both
        lanes = range(len(self._plan.lanes))
        return Accounts(
            sent={lane: far.sent[lane] | near.sent[lane] for lane in lanes},
            taken={lane: far.taken[lane] | near.taken[lane] for lane in lanes},
            overflows={lane: far.overflows[lane] + near.overflows[lane] for lane in lanes},
            unanswered=far.unanswered + near.unanswered,
        )

    async def _settle(self) -> None:
        """Wait until all of it has arrived."""
        since, before = _clock(), None
        while True:
            accounts = await self._accounts()
            now = _clock()
            if accounts != before:
                since, before = now, accounts
            waited = now - since
            missing = [(text, patience) for text, patience in self._open(accounts)]
            if overdue := [text for text, patience in missing if waited >= patience == _ARRIVE]:
                raise Failed("; ".join(overdue))
            if all(waited >= patience for _, patience in missing):
                return
            await asyncio.sleep(_POLL)

    def _open(self, accounts: Accounts) -> Iterable[tuple[str, float]]:
        """What has not arrived, and for how long to wait for it."""
        if accounts.unanswered:
            yield f"{accounts.unanswered} requests are not answered", _ARRIVE
        for number, lane in enumerate(self._plan.lanes):
            sent = {source: tally for source, tally in accounts.sent[number].items() if tally.count}
            for whose, taken in _taken(lane, accounts.taken[number]).items():
                if taken != sent:
                    total = sum(tally.count for tally in sent.values())
                    got = sum(tally.count for tally in taken.values())
                    left_out = lane.kind == "publish-drop" and got < total and accounts.overflows[number] > 0
                    text = f"lane {number} ({lane.kind}): {total} messages sent, {got} taken by {whose}"
                    yield text, _STILL if left_out else _ARRIVE


def _taken(lane: LanePlan, taken: dict[str, dict[int, Tally]]) -> dict[str, dict[int, Tally]]:
    """What arrived, by who should have got all of it."""
    if lane.kind in ("publish", "publish-drop"):
        return taken
    counts: Counter[int] = Counter()
    totals: Counter[int] = Counter()
    for one in taken.values():
        for source, tally in one.items():
            counts[source] += tally.count
            totals[source] = (totals[source] + tally.total) & Tally.MASK
    return {"all": {source: Tally(counts[source], totals[source]) for source in counts}} if taken else {}
