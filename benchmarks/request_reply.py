"""Request-reply: calls a second, latency and memory, against pyzmq's own ways of doing it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from benchmarks import cases, memory, processes, report

T = TypeVar("T")

_SIZE = 64  # bytes of payload
_IN_FLIGHT = [1, 16, 256, 1000]
_QUICK_IN_FLIGHT = [1, 256]
_ROUNDS, _QUICK_ROUNDS = 7, 1
_SECONDS, _QUICK_SECONDS = 1.0, 0.2
_CLIENTS, _QUICK_CLIENTS = 500, 100
_SLACK = 120.0  # seconds for a client to start, connect and close

_EPILOG = f"""\
contenders:
{chr(10).join(f"  {name:<18} {what}" for name, (_, _, what) in cases.CONTENDERS.items())}

what is measured:
  Every contender is a server process and a client process of its own, started anew for each measurement, over TCP on
  the loopback. "In flight" is the number of callers on a client, each of which waits for its reply and then calls
  again. A round measures all contenders under one load, then under the next; every other round goes backwards, so
  that nobody always comes first. A ratio is taken between two measurements of one round, and its median over the
  rounds is shown: machines drift by a factor of two within minutes, and absolute figures of two runs say little.

  aiozpat runs as its users run it: each call has its deadline, the limits and heartbeats are on. It is measured for
  more than the others: handlers that suspend once, {cases.MANY_CALLS:,} calls in flight, many clients in one process,
  and resident memory of both processes: for each idle client, for each call in flight (the caller's task included,
  on the client's side), and its growth over many calls (Linux only).

reading the results:
  The rates of 1 client with 1 in flight are those of latency; p50 and p99 are given for them. A ratio of rates is
  better when it is higher, a ratio of p50 when it is lower. The blocking loops stop at the echo: no ids, no dispatch,
  no deadlines; the multipart one is what documentation shows, the other is about as fast as pyzmq gets. Without
  --pin, one in flight has two modes, by whether the system puts both processes on one core: prefer --pin for it.
  Nothing is judged here: there are no thresholds, and the exit code is 0 whenever every measurement came about.

examples:
  python -m benchmarks request-reply
      the full run: about ten minutes
  python -m benchmarks request-reply --quick
      under half a minute: does it work, roughly
  python -m benchmarks request-reply --only aiozpat,blocking --in-flight 256 --rounds 11 --pin
      before and after a change to the data path
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line of this suite."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"the short form: {_QUICK_ROUNDS} round, {_QUICK_SECONDS} s each, 1 and {cases.BASE} in flight, fewer "
        "clients; the options below still override it",
    )
    parser.add_argument("--rounds", type=_count, metavar="N", help=f"rounds (default: {_ROUNDS})")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="S",
        help=f"seconds for each measurement, after a warm-up (default: {_SECONDS:g})",
    )
    parser.add_argument(
        "--in-flight",
        type=_listed(_count),
        action="extend",
        metavar="N[,N...]",
        help=f"calls in flight on one client; may be repeated (default: {','.join(map(str, _IN_FLIGHT))})",
    )
    parser.add_argument(
        "--only",
        type=_listed(_contender),
        action="extend",
        metavar="NAME[,NAME...]",
        help="only these contenders; may be repeated. Ratios to one that is left out are left out too, and so are "
        "memory and many clients without aiozpat",
    )
    parser.add_argument("--pin", action="store_true", help="the server on CPU 0, the client on CPU 1 (Linux)")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("results/request-reply.json"),
        metavar="FILE",
        help="where every figure of every round goes (default: %(default)s)",
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0.05 to 3600")
    return number


def _contender(text: str) -> str:
    if text not in cases.CONTENDERS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(cases.CONTENDERS)}")
    return text


def _listed(one: Callable[[str], T]) -> Callable[[str], list[T]]:
    """A parser of values with commas between them."""

    def parse(text: str) -> list[T]:
        try:
            return [one(part.strip()) for part in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON; 1 if a process failed."""
    if arguments.pin and not _can_pin():
        print("--pin needs CPUs 0 and 1, and a system that lets a process choose", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)  # so that a stopped run stops its processes too
    try:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)  # fails now rather than after ten minutes
        results = _Suite(arguments).measure()
        report.write(arguments.json, results)
    except (processes.Failed, OSError) as error:
        print(f"request-reply: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(report.text(results))
    print(f"every figure: {arguments.json}", file=sys.stderr)
    return 0


def _can_pin() -> bool:
    return sys.platform == "linux" and {0, 1} <= os.sched_getaffinity(0)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


class _Suite:
    """One run: the rounds one after the other, a line of progress for each measurement."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        quick = arguments.quick
        self._rounds: int = arguments.rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
        self._seconds: float = arguments.seconds or (_QUICK_SECONDS if quick else _SECONDS)
        in_flight = sorted(set(arguments.in_flight or (_QUICK_IN_FLIGHT if quick else _IN_FLIGHT)))
        contenders = [name for name in cases.CONTENDERS if not arguments.only or name in arguments.only]
        clients = _QUICK_CLIENTS if quick else _CLIENTS
        self._plan = cases.plan(contenders, in_flight, clients)
        with_memory = "aiozpat" in contenders and memory.available()
        self._scenarios = memory.scenarios(quick=quick) if with_memory else []
        self._server_options, self._client_options = (["--cpu", "0"], ["--cpu", "1"]) if arguments.pin else ([], [])
        self._settings: dict[str, Any] = {
            "rounds": self._rounds,
            "seconds": self._seconds,
            "size": _SIZE,
            "in_flight": in_flight,
            "clients": clients,
            "contenders": contenders,
            "pinned": arguments.pin,
            "quick": quick,
        }
        self._done = 0
        self._start = time.monotonic()

    def measure(self) -> dict[str, Any]:
        """All rounds; gives the results as they go into the JSON."""
        env = report.environment()
        rounds = [self._round(number) for number in range(self._rounds)]
        # Memory has no pairs that must be close in time.
        memory_rounds = [self._memory_round() for _ in range(self._rounds)] if self._scenarios else []
        return report.document(self._plan, rounds, memory_rounds, self._settings, env)

    def _round(self, number: int) -> report.Round:
        order = self._plan.cases if number % 2 == 0 else self._plan.cases[::-1]
        return {case: self._rate(case) for case in order}

    def _rate(self, case: cases.Case) -> report.Figures:
        seconds = case.seconds(self._seconds)
        load = ["--seconds", str(seconds), "--size", str(_SIZE)]
        with processes.server(*case.server_options(), *self._server_options) as (serving, endpoint):
            figures = processes.client(
                serving,
                *case.server_options(),
                "--endpoint",
                endpoint,
                *case.client_options(),
                *load,
                *self._client_options,
                timeout=seconds * 2 + _SLACK,
            )
        p50 = f", p50 {figures['p50_us']:.1f} us" if "p50_us" in figures else ""
        self._tell(f"{case}: {figures['rate']:,.0f} calls/s{p50}")
        return figures

    def _memory_round(self) -> report.MemoryRound:
        return {scenario: self._memory(scenario) for scenario in self._scenarios}

    def _memory(self, scenario: memory.Scenario) -> report.Figures:
        figures = memory.measure(scenario, self._server_options, self._client_options)
        self._tell(f"{scenario.title}: server {figures['server']:,.0f}, client {figures['client']:,.0f}")
        return figures

    def _tell(self, what: str) -> None:
        """One line of progress, on stderr so that stdout is the table alone."""
        self._done += 1
        total = self._rounds * (len(self._plan.cases) + len(self._scenarios))
        print(f"[{self._done}/{total}, {time.monotonic() - self._start:.0f} s] {what}", file=sys.stderr, flush=True)
