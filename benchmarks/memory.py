"""What aiozpat keeps in memory: resident bytes of the server and of the client, before and after."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.processes import Process, blaming, server

ROUNDS = 3  # at most; memory has no pairs that must be close in time, and hardly varies
_BOUND = 300.0  # seconds for a step of a scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something to hold or to do, and how to look at it.

    Args:
        name: What it is called in the results.
        title: The same for the table.
        holder: The scenario's name in `benchmarks.holders`.
        count: How many are held or made.
        settle: Seconds of rest before each look.
        each: Whether the growth is divided by `count`.
        warm_up: Calls before the first look.
    """

    name: str
    title: str
    holder: str
    count: int
    settle: float
    each: bool = True
    warm_up: int = 20_000

    def options(self) -> list[str]:
        """Its command line for `benchmarks.holders`."""
        option = {"clients": "--clients", "calls-in-flight": "--in-flight", "calls": "--calls"}[self.holder]
        return [option, str(self.count), "--warm-up", str(self.warm_up), "--settle", str(self.settle)]


def scenarios(*, quick: bool) -> list[Scenario]:
    """What is measured; in the quick form less of it."""
    clients, in_flight, calls = (100, 2_000, 20_000) if quick else (500, 10_000, 200_000)
    warm_up = calls // 4
    return [
        Scenario(
            name="idle client",
            title=f"bytes for each of {clients:,} idle clients",
            holder="clients",
            count=clients,
            # Past the first heartbeats, which idle clients send every 2 s.
            settle=0.3 if quick else 3.0,
            warm_up=5_000 if quick else 20_000,
        ),
        Scenario(
            name="call in flight",
            title=f"bytes for each of {in_flight:,} calls in flight",
            holder="calls-in-flight",
            count=in_flight,
            settle=0.3 if quick else 1.0,
            warm_up=5_000 if quick else 20_000,
        ),
        Scenario(
            name="calls in a row",
            title=f"bytes of growth over {calls:,} calls, after {warm_up:,}",
            holder="calls",
            count=calls,
            settle=0.3 if quick else 1.0,
            warm_up=warm_up,
            each=False,
        ),
    ]


def measure(scenario: Scenario, server_options: list[str], client_options: list[str]) -> dict[str, float]:
    """The growth of both processes between the scenario's two looks, in bytes; for each one held where it says so.

    Raises:
        Failed: One of the processes did.
    """
    with (
        server("aiozpat", *server_options) as (serving, endpoint),
        Process(
            "benchmarks.holders", scenario.holder, "--endpoint", endpoint, *scenario.options(), *client_options
        ) as holder,
        blaming(serving),
    ):
        holder.expect("before", _BOUND)
        before = serving.resident(), holder.resident()
        holder.go_on()
        holder.expect("after", _BOUND)
        after = serving.resident(), holder.resident()
        holder.go_on()
        holder.end(_BOUND)
    divisor = scenario.count if scenario.each else 1
    return {
        "server_before": before[0],
        "server_after": after[0],
        "client_before": before[1],
        "client_after": after[1],
        "server": (after[0] - before[0]) / divisor,
        "client": (after[1] - before[1]) / divisor,
    }
