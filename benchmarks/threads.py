"""Threads: calls a second of many threads on one blocking client, against a REQ socket for each thread."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import options, plans, processes, report, suite
from benchmarks.plans import Comparison, Plan

_SIZE = 64  # bytes of payload
_THREADS = [1, 8, 32]
_QUICK_THREADS = [32]
_FULL, _QUICK = options.Length(7, 1.0), options.Length(1, 0.3)
_SLACK = 120.0  # seconds for a client to start, connect and close
_MODULE = "benchmarks.thread_ends"

# In the order in which they run, so that those that are compared with each other are neighbours in time.
_CONTENDERS = {
    "req-rep": "pyzmq's blocking REQ, one for each thread, to a REP that echoes; no RPC",
    "aiozpat": "`aiozpat.sync.Client`, one for all threads, to an `aiozpat.Server`; all at its defaults",
    "req-router": "pyzmq's blocking REQ, one for each thread, to a ROUTER that echoes frame by frame; no RPC",
    "req-aiozpat-router": "pyzmq's blocking REQ, one for each thread, to `aiozpat.Router.serve`, a handler a message",
}

_EPILOG = f"""\
contenders:
{chr(10).join(f"  {name:<19} {what}" for name, what in _CONTENDERS.items())}

what is measured:
  Every contender is a server process and a client process of its own, started anew for each measurement, over TCP on
  the loopback. Each thread of the client calls, waits for its reply, looks whether it is its own, and calls again.
  A round measures all contenders with one number of threads, then with the next; every other round goes backwards, so
  that nobody always comes first. A ratio is taken between two measurements of one round, and its median over the rounds
  is shown: machines drift by a factor of two within minutes, and absolute figures of two runs say little.

reading the results:
  The servers of req-rep and req-router do nothing but echo: no method, no types, no deadline, no limits. An aiozpat
  server does all of that for each call, and so does aiozpat.Router in part, which is what a REQ client of the same
  library would talk to. "client us" is CPU time of the client's process for each call, its threads of ZeroMQ included.
  What is left of a thread that waits is to be woken: that costs the system more than the call itself, and a machine
  with few CPUs, or one where others work too, the more.
  Nothing is judged here: there are no thresholds, and the exit code is 0 whenever every measurement came about.

examples:
  python -m benchmarks threads
      the full run: about three minutes
  python -m benchmarks threads --quick
      under half a minute: does it work, roughly
  python -m benchmarks threads --only aiozpat,req-rep --threads 32 --rounds 15
      before and after a change to the data path
"""


@dataclass(frozen=True, slots=True)
class Case(plans.AnyCase):
    """One contender under one load.

    Args:
        threads: How many call.
    """

    threads: int

    def __str__(self) -> str:
        return f"{self.contender}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line of this suite."""
    parser.epilog = _EPILOG
    pinned = "the server on CPU 0, the client on CPU 1"
    options.add(parser, "threads", _CONTENDERS, _FULL, _QUICK, less=", 32 threads", pinned=pinned)
    parser.add_argument(
        "--threads",
        type=options.listed(options.count),
        action="extend",
        metavar="N[,N...]",
        help=f"threads that call; may be repeated (default: {','.join(map(str, _THREADS))})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON; 1 if a process failed."""
    return suite.carry_out(arguments, _Suite(arguments).measure, _text)


def _plan(contenders: Sequence[str], threads: Sequence[int]) -> Plan[Case]:
    """What to do for these contenders."""
    cases = [Case(name, count) for count in threads for name in contenders]
    comparisons = [
        Comparison(Case("aiozpat", count), Case(name, count))
        for count in threads
        for name in contenders
        if name != "aiozpat"
    ]
    return plans.plan(cases, comparisons)


class _Suite:
    """One run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._length = options.length(arguments, _FULL, _QUICK)
        contenders = options.chosen(arguments, _CONTENDERS)
        threads = arguments.threads or (_QUICK_THREADS if arguments.quick else _THREADS)
        self._plan = _plan(contenders, sorted(set(threads)))
        self._server_options, self._client_options = options.pins(arguments)
        self._settings: dict[str, Any] = {
            **self._length._asdict(),
            "size": _SIZE,
            "threads": threads,
            "contenders": contenders,
            "pinned": arguments.pin,
            "quick": arguments.quick,
        }
        self._progress = suite.Progress(self._length.rounds * len(self._plan.cases))

    def measure(self) -> suite.Results:
        """All rounds; gives the results as they go into the JSON."""
        env = report.environment()
        rounds = suite.measure_rounds(self._plan, self._length.rounds, self._rate)
        return report.document("threads", self._plan, rounds, self._settings, env)

    def _rate(self, case: Case) -> report.Figures:
        load = ["--threads", str(case.threads), "--seconds", str(self._length.seconds), "--size", str(_SIZE)]
        with (
            processes.started(_MODULE, "server", case.contender, *self._server_options) as (serving, endpoint),
            processes.Process(
                _MODULE, "client", case.contender, "--endpoint", endpoint, *load, *self._client_options
            ) as client,
            processes.blaming(serving),
        ):
            figures: report.Figures = json.loads(client.line(self._length.seconds * 2 + _SLACK))
            client.end(_SLACK)
        self._progress.tell(f"{case}: {figures['rate']:,.0f} calls/s, {figures['cpu_us']:.1f} us of the client")
        return figures


def _text(results: dict[str, Any]) -> str:
    """The tables."""
    return report.text(results, f"threads, {_SIZE} bytes", _rates(results), report.ratio_table(results))


def _rates(results: dict[str, Any]) -> str:
    rows = [["threads", "contender", "calls/s", "lowest", "highest", "client us"]]
    for case in results["cases"]:
        middle = case["median"]
        rates = [figures["rate"] for figures in case["rounds"]]
        rows.append(
            [
                f"{case['threads']}",
                case["contender"],
                *report.spread(middle["rate"], rates, ",.0f"),
                f"{middle['cpu_us']:.1f}",
            ]
        )
    return report.table(rows, left={1})


def main() -> int:
    """Run this suite alone, as `python -m benchmarks threads` does."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(namespace=argparse.Namespace(suite="threads")))


if __name__ == "__main__":
    sys.exit(main())
