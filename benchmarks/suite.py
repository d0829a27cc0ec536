"""How a suite is carried out: rounds, progress, results."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from benchmarks import processes, report
from benchmarks.plans import C, Plan

Results = dict[str, Any]


def carry_out(arguments: argparse.Namespace, measure: Callable[[], Results], text: Callable[[Results], str]) -> int:
    """Measure, print the tables and write the JSON.

    Args:
        arguments: Of the command line.
        measure: Gives the results as they go into the JSON.
        text: Gives the tables for them.

    Returns:
        The exit code: 1 if a process failed.
    """
    if arguments.pin and not _can_pin():
        print("--pin needs CPUs 0 and 1, and a system that lets a process choose", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)  # so that a stopped run stops its processes too
    try:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)  # fails now rather than after ten minutes
        results = measure()
        report.write(arguments.json, results)
    except (processes.Failed, OSError) as error:
        print(f"{arguments.suite}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text(results))
    print(f"every figure: {arguments.json}", file=sys.stderr)
    return 0


def _can_pin() -> bool:
    return sys.platform == "linux" and {0, 1} <= os.sched_getaffinity(0)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


class Progress:
    """A line for each measurement, on stderr so that stdout is the table alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()

    def tell(self, what: str) -> None:
        """Say what was measured."""
        self._done += 1
        seconds = time.monotonic() - self._start
        print(f"[{self._done}/{self._total}, {seconds:.0f} s] {what}", file=sys.stderr, flush=True)


def measure_rounds(plan: Plan[C], rounds: int, one: Callable[[C], report.Figures]) -> list[report.Round[C]]:
    """All rounds; every other one goes backwards, so that nobody always comes first."""
    orders = [plan.cases if number % 2 == 0 else plan.cases[::-1] for number in range(rounds)]
    return [{case: one(case) for case in order} for order in orders]
