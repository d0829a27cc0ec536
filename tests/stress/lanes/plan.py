"""What one seed stands for at level 1: lanes of some patterns between two processes, with these queues and loads."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from tests.stress.plan import FAULTS, LOOPS, Fault, Loop

Kind = Literal["push", "publish", "publish-drop", "pair", "router", "replier"]
Side = Literal["far", "near"]
KINDS: tuple[Kind, ...] = ("push", "publish", "publish-drop", "pair", "router", "replier")
ASKING: tuple[Kind, ...] = ("router", "replier")


class LanePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One lane. The far process binds its ends, the near one connects.

    Args:
        kind: Its pattern.
        source: Where messages, or requests, come from; in a pair it is both.
        ends: How many ends there are in the near process.
        workers: Tasks that send, or ask, at each source.
        takers: Tasks that receive at each sink.
        send_queue: High-water mark for sending, messages.
        receive_queue: The same for receiving.
        most: Bytes of the largest frame.
        slow: Whether takers pause now and then, handlers take their time.
        reopens: Whether near sources are closed and opened again meanwhile.
        local: Over ipc://, not TCP.
    """

    kind: Kind
    source: Side
    ends: int
    workers: int
    takers: int
    send_queue: int
    receive_queue: int
    most: int
    slow: bool
    reopens: bool
    local: bool


class LanesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Args:
        seed: Where all randomness comes from.
        seconds: How long loads are put on.
        loop: Of both processes.
        fault: "none", or "stop": SIGSTOP for a moment to either process.
        lanes: What goes on.
        endpoints: Of the lanes, once the far process has bound them.
    """

    seed: int
    seconds: float
    loop: Loop
    fault: Fault
    lanes: list[LanePlan]
    endpoints: list[str] = []


def make_plan(seed: int, seconds: float, loop: Loop | None, fault: Fault | None) -> LanesPlan:
    """The plan of a seed; arguments as for the calls' plan. No process is killed: what that loses, ZeroMQ says."""
    random_of = random.Random(f"{seed} lanes")
    drawn_loop, drawn_fault = random_of.choice(LOOPS), random_of.choice(FAULTS)
    chosen = drawn_fault if fault is None else fault
    return LanesPlan(
        seed=seed,
        seconds=seconds,
        loop=drawn_loop if loop is None else loop,
        fault="stop" if chosen == "kill" else chosen,
        lanes=[_lane(random_of, random_of.choice(KINDS)) for _ in range(random_of.choice([1, 2, 4, 6]))],
    )


def _lane(random_of: random.Random, kind: Kind) -> LanePlan:
    source: Side = random_of.choice(["far", "near"])
    return LanePlan(
        kind=kind,
        source=source,
        ends=1 if kind == "pair" else random_of.choice([1, 1, 2, 5]),
        workers=random_of.choice([1, 2, 5, 20]),
        takers=random_of.choice([1, 1, 2, 4]),
        send_queue=random_of.choice([1, 2, 10, 1000]),
        receive_queue=random_of.choice([1, 2, 10, 1000]),
        most=random_of.choice([100, 5000, 300_000]),
        slow=random_of.random() < 0.4,
        reopens=kind in ("push", "publish") and source == "near" and random_of.random() < 0.5,
        local=random_of.random() < 0.3,
    )
