"""What one seed stands for: a server with these limits, clients with these settings, these loads and faults."""

from __future__ import annotations

import random
from typing import Any, Literal

import msgspec

import aiozpat

Loop = Literal["uvloop", "asyncio", "debug"]
Fault = Literal["none", "stop", "kill"]
LOOPS: tuple[Loop, ...] = ("uvloop", "asyncio", "debug")
FAULTS: tuple[Fault, ...] = ("none", "stop", "kill")

_TIGHT: tuple[dict[str, int], ...] = (
    {"max_concurrency": 20, "max_queued": 30, "max_calls_per_peer": 40},
    {"max_concurrency": 3, "max_queued": 2000},
    {"max_calls_per_peer": 10},
    {"max_concurrency": 100, "max_queued": 0},
    {"max_concurrency": 1, "max_queued": 5000},
)
_ACTS = {
    "lone_calls": 4.0,
    "burst": 3.0,
    "short_deadlines": 2.0,
    "notes": 1.0,
    "down": 3.0,
    "up": 3.0,
    "talk": 3.0,
    "cancelled": 2.0,
    "crowd": 1.0,
    "half_read": 1.0,
}


class ClientPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one client, and how many things it does at once."""

    settings: dict[str, int]
    attempts: int
    hedge: float | None
    workers: int

    def options(self) -> dict[str, Any]:
        """For `aiozpat.Client`."""
        retry = aiozpat.Retry(attempts=self.attempts, hedge=self.hedge) if self.attempts > 1 else None
        return {**self.settings, "retry": retry}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Args:
        seed: Where all randomness comes from.
        seconds: How long loads are put on.
        loop: Of both processes; "debug" is asyncio's own in debug mode.
        fault: What happens to the processes: nothing, SIGSTOP for a moment to either, SIGKILL to the server.
        heartbeat: Seconds, of both sides.
        limits: Of the server.
        clients: All in one process.
        acts: What they do, and how often in relation to the rest.
        endpoint: Where the server listens.
    """

    seed: int
    seconds: float
    loop: Loop
    fault: Fault
    heartbeat: float
    limits: dict[str, int]
    clients: list[ClientPlan]
    acts: dict[str, float]
    endpoint: str = "tcp://127.0.0.1:*"

    @property
    def refuses(self) -> bool:
        """Whether its limits may turn calls away that the defaults would take."""
        narrow = ("max_concurrency", "max_calls_per_peer", "backlog_bytes")
        return any(limit in self.limits for limit in narrow) or any(
            "backlog_bytes" in one.settings for one in self.clients
        )

    @property
    def slow(self) -> bool:
        """Whether calls may have to wait for long: for a place, for a thread, for a server that is gone."""
        return self.refuses or self.loses or "max_threads" in self.limits

    @property
    def loses(self) -> bool:
        """Whether its faults may cost connections."""
        return self.fault == "kill" or (self.fault == "stop" and self.heartbeat < 1.0)


def make_plan(seed: int, seconds: float, loop: Loop | None, fault: Fault | None) -> Plan:
    """The plan of a seed.

    Args:
        seed: Any number.
        seconds: How long loads are put on.
        loop: The loop, None for the seed to decide.
        fault: The fault, likewise.
    """

    def random_for(part: str) -> random.Random:
        """So that what is given for one part changes no other."""
        return random.Random(f"{seed} {part}")

    chosen = random_for("fault").choice(FAULTS) if fault is None else fault
    limits = _limits(random_for("limits"))
    return Plan(
        seed=seed,
        seconds=seconds,
        loop=random_for("loop").choice(LOOPS) if loop is None else loop,
        fault=chosen,
        heartbeat=_heartbeat(random_for("heartbeat"), chosen),
        limits=limits,
        clients=_clients(random_for("clients"), chosen),
        acts=_acts(random_for("acts"), limits),
    )


def _limits(random_of: random.Random) -> dict[str, int]:
    limits: dict[str, int] = {}
    if random_of.random() < 0.4:
        limits |= random_of.choice(_TIGHT)
    if random_of.random() < 0.5:
        limits["stream_window"] = random_of.choice([1, 2, 7, 32, 1000])
    if random_of.random() < 0.4:
        limits["window_bytes"] = random_of.choice([1, 65_536, 200_000])
    if random_of.random() < 0.3:
        limits["max_threads"] = random_of.choice([1, 3])
    if random_of.random() < 0.2:
        limits["backlog_bytes"] = random_of.choice([100_000, 1_000_000])
    return limits


def _heartbeat(random_of: random.Random, fault: Fault) -> float:
    """Long ones bring nothing to light that was forgotten; short ones see a stopped process, and a killed one."""
    if fault == "kill":
        return random_of.choice([0.5, 2.0])
    if fault == "stop" and random_of.random() < 0.3:
        return 0.3
    return random_of.choice([2.0, 2.0, 60.0, 60.0])


def _clients(random_of: random.Random, fault: Fault) -> list[ClientPlan]:
    return [_client(random_of, fault) for _ in range(random_of.choice([1, 1, 2, 3, 6]))]


def _client(random_of: random.Random, fault: Fault) -> ClientPlan:
    settings: dict[str, int] = {}
    if random_of.random() < 0.5:
        settings["window_bytes"] = random_of.choice([1, 65_536, 65_536, 300_000])
    if random_of.random() < 0.1:
        settings["backlog_bytes"] = random_of.choice([65_536, 1_000_000])
    attempts, retries, hedges = random_of.choice([3, 8]), random_of.random() < 0.15, random_of.random() < 0.3
    retries = retries or fault == "kill"
    return ClientPlan(
        settings=settings,
        attempts=attempts if retries else 1,
        hedge=0.02 if retries and hedges else None,
        workers=random_of.choice([1, 1, 2, 4]),
    )


def _acts(random_of: random.Random, limits: dict[str, int]) -> dict[str, float]:
    """All acts, or three of them by far the most."""
    acts = dict(_ACTS)
    if limits.get("max_concurrency", 1000) < 30:
        acts["half_read"] = 0.0  # its streams would hold the places that its calls wait for
    if random_of.random() < 0.3:
        chosen = random_of.sample([act for act, weight in acts.items() if weight], 3)
        acts = {act: weight if act in chosen else weight * 0.01 for act, weight in acts.items()}
    return acts
