"""`aiozpat demo`: a ROUTER server and clients of three kinds, each in its own process, and who overtakes whom."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from dataclasses import dataclass

from aiozpat.cli import comparison
from aiozpat.cli.children import Child
from aiozpat.running import run

SUMMARY = "see a server answer out of order, in processes of its own"
DESCRIPTION = (
    "Starts a server and three clients, each in its own process, over TCP on this machine: an aiozpat Client, a plain "
    "pyzmq REQ and a plain pyzmq DEALER. They send overlapping requests of different lengths; the demo prints who "
    "asked what and when it was answered, how many answers overtook an earlier request, and how fast calls are here "
    "compared with plain zmq.asyncio. The exit status is not 0 if a reply is missing or wrong, or if no "
    "answer overtook another."
)
KINDS = {"client": "aiozpat Client", "req": "pyzmq REQ", "dealer": "pyzmq DEALER"}
WORK = {  # milliseconds that each client's requests take, in the order in which they are sent
    "client": (400, 300, 200, 100),
    "req": (150, 50),
    "dealer": (350, 250, 50),
}
_PATIENCE = 10.0  # seconds for all replies


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("--no-throughput", action="store_true", help="leave out the comparison of speed")
    parser.set_defaults(run=lambda arguments: run(_demo(throughput=not arguments.no_throughput)))


@dataclass(slots=True)
class Event:
    """A request that was sent, or its answer."""

    at: float
    kind: str
    number: int
    milliseconds: int
    answered: bool
    right: bool = True


class Story:
    """What has happened, printed as it happens; its time begins with its first event."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._sent: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self.answered: list[Event] = []
        self.wrong = 0
        self.overtaken = 0

    def tell(self, event: Event) -> None:
        """Take one event, and print it."""
        self._start = self._start or event.at
        elapsed = (event.at - self._start) * 1000
        name = KINDS[event.kind]
        if not event.answered:
            self._sent[event.kind].append(event.number)
            print(f"{elapsed:6.0f} ms  {name:<15} asks #{event.number}: work {event.milliseconds} ms", flush=True)
            return
        if event.number not in self._sent[event.kind]:
            self.wrong += 1
            print(f"{elapsed:6.0f} ms  {name:<15}   <- #{event.number} WRONG ANSWER: nobody waits for it", flush=True)
            return
        earlier = [number for number in self._sent[event.kind] if number < event.number]
        self._sent[event.kind].remove(event.number)
        self.answered.append(event)
        self.wrong += not event.right
        self.overtaken += bool(earlier)
        note = f"   overtook {', '.join(f'#{number}' for number in earlier)}" if earlier else ""
        verdict = "answered" if event.right else "WRONG ANSWER"
        print(f"{elapsed:6.0f} ms  {name:<15}   <- #{event.number} {verdict}{note}", flush=True)


async def _demo(*, throughput: bool) -> int:
    total = sum(map(len, WORK.values()))
    print("A server in its own process, three clients in theirs, over TCP.", flush=True)
    async with Child("server") as server:
        plain, services = (await server.line()).split()
        print(f"It listens on {plain} for plain ZeroMQ and on {services} for calls, one task a request.\n", flush=True)
        story = Story()
        async with contextlib.AsyncExitStack() as stack:
            clients = {}
            for kind, work in WORK.items():
                endpoint = services if kind == "client" else plain
                clients[kind] = await stack.enter_async_context(Child(kind, endpoint, *map(str, work)))
            for child in clients.values():
                await child.line()
            async with asyncio.TaskGroup() as group:
                for kind, child in clients.items():
                    child.go()
                    group.create_task(_follow(kind, child, story))
    missing = total - len(story.answered)
    print(
        f"\n{len(story.answered)} of {total} requests answered, {story.overtaken} of them overtook an earlier one"
        f" of the same client; {story.wrong} wrong, {missing} missing.",
        flush=True,
    )
    if missing or story.wrong:
        print("The demo failed.", file=sys.stderr)
        return 1
    if not story.overtaken:
        print("The demo failed: no answer overtook another one.", file=sys.stderr)
        return 1
    if throughput:
        await comparison.compare()
    return 0


async def _follow(kind: str, child: Child, story: Story) -> None:
    """Tell what one client reports: `at number milliseconds asked|right|wrong` on each line."""
    try:
        async with asyncio.timeout(_PATIENCE):
            async for line in child.lines():
                at, number, milliseconds, what = line.split()
                event = Event(float(at), kind, int(number), int(milliseconds), what != "asked", what != "wrong")
                story.tell(event)
    except TimeoutError:
        print(f"{KINDS[kind]}: not answered within {_PATIENCE:.0f} s", file=sys.stderr)
