"""One side of a lane: its ends, and who sends, takes, asks and answers there."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

from aiozpat import Dealer, Pair, Publisher, Puller, Pusher, Replier, Requester, Router, SocketOptions, Subscriber
from tests.stress.lanes.asking import Answerer, DealerAsker, Post, RequesterAsker
from tests.stress.lanes.letter import MARK
from tests.stress.lanes.plan import LanePlan, LanesPlan, Side
from tests.stress.lanes.source import Sends, Sink, Source
from tests.stress.messages import Tally
from tests.stress.watch import Watch

_LINGER = 30.0  # seconds; what was sent before an end is closed has to arrive
_READY = 10.0  # seconds for subscriptions to arrive
End = Pusher | Puller | Publisher | Subscriber[Any] | Pair | Dealer | Requester | Router | Replier


class Lane:
    """One side of a lane.

    Args:
        number: Of the lane.
        plan: Of the lane.
        side: Which.
        run: The plan of it all.
        watch: Where findings go.
    """

    def __init__(self, number: int, plan: LanePlan, side: Side, run: LanesPlan, watch: Watch) -> None:
        self.number = number
        self.plan = plan
        self.sources: list[Source | DealerAsker | RequesterAsker] = []
        self.sinks: list[Sink] = []
        self.answerers: list[Answerer] = []
        self.posts: list[Post] = []
        self._far = side == "far"
        self._sends = side == plan.source
        self._run = run
        self._watch = watch
        self._random = random.Random(f"{run.seed} {side} {number}")
        self._ends: list[End] = []
        self._folder = tempfile.TemporaryDirectory() if self._far and plan.local else None

    @property
    def endpoint(self) -> str:
        """Where the far end listens."""
        return self._ends[0].endpoint

    async def open(self) -> None:
        """Open all ends, and see who is to work at them."""
        for number in range(1 if self._far else self.plan.ends):
            self._ends.append(await self._make().__aenter__())
            self._staff(number)

    def _make(self) -> End:
        where = self._where()
        kind = self.plan.kind
        options = SocketOptions(
            send_queue_messages=self.plan.send_queue, receive_queue_messages=self.plan.receive_queue
        )
        if kind == "pair":
            return Pair(**where, options=options, linger=_LINGER)
        if not self._sends and kind in ("publish", "publish-drop"):
            topics = self._random.choice([MARK, MARK[:2], b""])
            return Subscriber(**where, options=options, topics=topics)
        if not self._sends:
            if kind == "push":
                return Puller(**where, options=options)
            return (Router if kind == "router" else Replier)(**where, options=options)
        if kind == "push":
            return Pusher(**where, options=options, linger=_LINGER)
        if kind == "router":
            return Dealer(**where, options=options)
        if kind == "replier":
            return Requester(**where, options=options)
        return Publisher(**where, options=options, linger=_LINGER, overflow="wait" if kind == "publish" else "drop")

    def _where(self) -> dict[str, Any]:
        if not self._far:
            return {"connect": self._run.endpoints[self.number]}
        if self._folder is not None:
            return {"bind": f"ipc://{Path(self._folder.name) / 'lane'}"}
        return {"bind": "tcp://127.0.0.1:*"}

    def _staff(self, number: int) -> None:
        end = self._ends[number]
        first = ((self.number * 2 + self._far) * 10 + number) * 100
        numbers = [(first + worker) * 1000 for worker in range(self.plan.workers)]
        if isinstance(end, (Pusher, Publisher, Pair)):
            self.sources += [Source(one, lambda: self._sender(number), self.plan, self._own()) for one in numbers]
        if isinstance(end, (Puller, Subscriber, Pair)):
            self.sinks.append(Sink(end, self.plan, self._watch, self._own()))
        elif isinstance(end, Dealer):
            post = Post(end, self._watch)
            self.posts.append(post)
            self.sources += [DealerAsker(one, post, self.plan, self._watch, self._own()) for one in numbers]
        elif isinstance(end, Requester):
            self.sources += [RequesterAsker(one, end, self.plan, self._watch, self._own()) for one in numbers]
        elif isinstance(end, (Router, Replier)):
            self.answerers.append(Answerer(end, self.plan, self._watch, self._own()))

    def _sender(self, number: int) -> Sends:
        """The end of that number, which may have been opened again."""
        end = self._ends[number]
        assert isinstance(end, (Pusher, Publisher, Pair))
        return end

    def _own(self) -> random.Random:
        return random.Random(self._random.random())

    async def ready(self) -> None:
        """Wait until whoever is to get what is published here gets it."""
        for end in self._ends:
            if isinstance(end, Publisher):
                await end.wait_for_subscribers(MARK, self.plan.ends if self._far else 1, _READY)

    def takers(self) -> Iterator[Awaitable[None]]:
        """What is to run as long as the lane is open."""
        for sink in self.sinks:
            for _ in range(self.plan.takers):
                yield sink.work()
        for answerer in self.answerers:
            yield answerer.work()
        for post in self.posts:
            yield post.work()

    def set_calm(self, calm: bool) -> None:
        """Whether who takes and answers does so at once."""
        for sink in self.sinks:
            sink.calm = calm
        for answerer in self.answerers:
            answerer.calm = calm

    async def lone(self) -> None:
        """Send, or ask, a few things one after the other."""
        for source in self._random.sample(self.sources, min(3, len(self.sources))):
            await source.lone()

    async def reopen(self) -> None:
        """Close each end that sends, and go on with another; the far ones are those that the others find."""
        if self._far or not self.plan.reopens:
            return
        for number, end in enumerate(self._ends):
            await end.close()
            self._ends[number] = await self._make().__aenter__()
        for source in self.sources:
            if isinstance(source, Source):
                source.renew()
        await self.ready()

    def sent(self) -> dict[int, Tally]:
        """By source."""
        sent: dict[int, Tally] = {}
        for source in self.sources:
            if isinstance(source, Source):
                sent |= source.sent_by_number()
        return sent

    def taken(self) -> dict[str, dict[int, Tally]]:
        """By end, and source."""
        side = "far" if self._far else "near"
        return {f"{side} {number}": sink.taken for number, sink in enumerate(self.sinks)}

    def overflows(self) -> int:
        """How often a publisher counted that a queue was full."""
        return sum(end.statistics().notices.get("overflow", 0) for end in self._ends)

    async def close(self) -> None:
        """Close all ends."""
        for end in self._ends:
            await end.close()
        if self._folder is not None:
            self._folder.cleanup()

    def forget(self) -> None:
        """Let go of all of it."""
        for things in (self.sources, self.sinks, self.answerers, self.posts, self._ends):
            things.clear()
