"""Large messages: echoes of 1 MiB and 16 MiB against pyzmq without copies and grpc.aio; memory with 64 MiB."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import memory, options, peers, plans, processes, report, suite
from benchmarks.plans import Comparison, Plan
from benchmarks.processes import Process, blaming, started

_MIB = 1024 * 1024
_SIZES = (1 * _MIB, 16 * _MIB)
_ARRAY = 64 * _MIB  # bytes
_FULL, _QUICK = options.Length(7, 2.0), options.Length(1, 0.4)
_SLACK = 120.0  # seconds for a client to start, connect and close, and for a step of it
_MODULE = "benchmarks.large_ends"

# In the order in which they run, so that those that are compared with each other are neighbours in time.
_CONTENDERS = {
    "blocking": "pyzmq's blocking REQ and REP with copy=False; REP sends back the frame that it got",
    "reader": "the least of asyncio: a uvloop reader on pyzmq's socket and a future, copy=False; no RPC",
    "aiozpat-memoryview": "a handler `(data: memoryview) -> memoryview`, result_type=memoryview",
    "aiozpat-bytes": "a handler `(data: bytes) -> bytes`, result_type=bytes",
    "grpc.aio": "unary, without serializers, its limit of 4 MiB raised; it takes and gives bytes",
}
_RATIOS = (
    ("reader", "blocking"),
    ("aiozpat-memoryview", "blocking"),
    ("aiozpat-bytes", "blocking"),
    ("aiozpat-memoryview", "reader"),
    ("aiozpat-memoryview", "grpc.aio"),
    ("aiozpat-bytes", "grpc.aio"),
)

_EPILOG = f"""\
contenders:
{chr(10).join(f"  {name:<18} {what}" for name, what in _CONTENDERS.items())}

what is measured:
  Every contender is a server process and a client process of its own, started anew for each measurement, over TCP on
  the loopback: the client sends a message, waits until it is back, and sends it again. The asyncio contenders run on
  uvloop. With messages of up to 16 MiB aiozpat is at its default settings.
  A round measures all contenders with one size, then with the other; every other round goes backwards, so that nobody
  always comes first. A ratio is taken between two measurements of one round, and its median over the rounds is shown:
  machines drift by a factor of two within minutes, and absolute figures of two runs say little.

  Then, in rounds of their own, three at most, memory: the client echoes an array of 64 MiB once, and holds it together
  with the reply. By how much each process grew at its highest, from just before, is shown in multiples of the array
  (Linux only). The array itself is there before. aiozpat's frames are limited to 16 MiB by default: one such call needs
  `SocketOptions(max_message_bytes=...)` at both ends. Several at once would need more of `Client(backlog_bytes=...)`
  and `Limits(backlog_bytes=...)` too.

reading the results:
  No reply is compared while the time runs, except that its length is looked at. The echo by views reads none of the
  data; a handler that does pays for that. 1.00 of growth is the least that is possible on each side: what has arrived
  is in memory once. To send an array, grpc.aio needs it as bytes, a copy (`tobytes()`), and so does aiozpat-bytes here;
  the others take a read-only view.
  Nothing is judged here: there are no thresholds, and the exit code is 0 whenever every measurement came about. Where
  grpcio is not installed, a line says how to get it, and the others are measured without it.

examples:
  python -m benchmarks large
      the full run: about four minutes
  python -m benchmarks large --quick
      under half a minute: does it work, roughly
  python -m benchmarks large --only aiozpat-memoryview,blocking --rounds 11 --pin
      before and after a change to how frames are sent
"""


@dataclass(frozen=True, slots=True)
class Case(plans.AnyCase):
    """One contender with messages of one size.

    Args:
        size: Bytes.
    """

    size: int

    def __str__(self) -> str:
        return f"{self.contender}, {_sized(self.size)}"


def _sized(size: int) -> str:
    return f"{size // _MIB} MiB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line of this suite."""
    parser.epilog = _EPILOG
    options.add(parser, "large", _CONTENDERS, _FULL, _QUICK, pinned="the server on CPU 0, the client on CPU 1")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON; 1 if a process failed."""
    return suite.carry_out(arguments, _Suite(arguments).measure, _text)


def _plan(contenders: Sequence[str]) -> Plan[Case]:
    """What to do for these contenders."""
    cases = [Case(name, size) for size in _SIZES for name in contenders]
    return plans.plan(
        cases, [Comparison(Case(one, size), Case(base, size)) for size in _SIZES for one, base in _RATIOS]
    )


class _Suite:
    """One run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._length = options.length(arguments, _FULL, _QUICK)
        contenders = peers.present(options.chosen(arguments, _CONTENDERS))
        self._plan = _plan(contenders)
        self._holders = contenders if processes.memory_is_told() else []
        self._server_options, self._client_options = options.pins(arguments)
        self._settings: dict[str, Any] = {
            **self._length._asdict(),
            "array": _ARRAY,
            "contenders": contenders,
            "pinned": arguments.pin,
            "quick": arguments.quick,
        }
        self._memory_rounds = min(self._length.rounds, memory.ROUNDS)
        total = self._length.rounds * len(self._plan.cases) + self._memory_rounds * len(self._holders)
        self._progress = suite.Progress(total)

    def measure(self) -> suite.Results:
        """All rounds; gives the results as they go into the JSON."""
        env = report.environment(peers.versions(self._settings["contenders"]))
        rounds = suite.measure_rounds(self._plan, self._length.rounds, self._rate)
        grown = {name: [self._grown(name) for _ in range(self._memory_rounds)] for name in self._holders}
        results = report.document("large", self._plan, rounds, self._settings, env)
        return {**results, "memory": {name: report.over_rounds(figures) for name, figures in grown.items()}}

    def _rate(self, case: Case) -> report.Figures:
        size, seconds = ["--size", str(case.size)], self._length.seconds
        with started(_MODULE, "server", case.contender, *size, *self._server_options) as (serving, endpoint):
            load = ["--endpoint", endpoint, *size, "--seconds", str(seconds), *self._client_options]
            figures = processes.client(serving, _MODULE, case.contender, *load, timeout=seconds * 2 + _SLACK)
        self._progress.tell(f"{case}: {figures['rate']:,.1f} echoes/s")
        return figures

    def _grown(self, contender: str) -> report.Figures:
        """By how many times the array's size both processes grow at most."""
        size = ["--size", str(_ARRAY)]
        with started(_MODULE, "server", contender, *size, *self._server_options) as (serving, endpoint):
            load = ["--endpoint", endpoint, *size, "--hold", *self._client_options]
            with Process(_MODULE, "client", contender, *load) as holder, blaming(serving):
                roles = {"server": serving, "client": holder}
                holder.expect("before", _SLACK)
                before = {role: _begin_peak(process) for role, process in roles.items()}
                holder.go_on()
                holder.expect("after", _SLACK)
                grown = {role: (process.peak() - before[role]) / _ARRAY for role, process in roles.items()}
                holder.go_on()
                holder.end(_SLACK)
        said = ", ".join(f"{role} {times:.2f} times" for role, times in grown.items())
        self._progress.tell(f"{contender}, {_sized(_ARRAY)}: {said}")
        return grown


def _begin_peak(process: Process) -> int:
    """What a process has now, from which on its peak is looked at."""
    process.forget_peak()
    return process.resident()


def _text(results: dict[str, Any]) -> str:
    """The tables."""
    return report.text(results, "large", _rates(results), report.ratio_table(results), _memory_table(results))


def _rates(results: dict[str, Any]) -> str:
    rows = [["size", "contender", "echoes/s", "lowest", "highest", "MiB/s each way"]]
    for case in results["cases"]:
        rates, middle = [figures["rate"] for figures in case["rounds"]], case["median"]["rate"]
        passed = middle * case["size"] / _MIB
        rows.append([_sized(case["size"]), case["contender"], *report.spread(middle, rates, ",.1f"), f"{passed:,.0f}"])
    return report.table(rows, left={1})


def _memory_table(results: dict[str, Any]) -> str:
    what = f"peak growth, in times of an array of {_sized(_ARRAY)}"
    rows = [[what, "server", "lowest", "highest", "client", "lowest", "highest"]]
    for contender, grown in results["memory"].items():
        cells = []
        for role in ("server", "client"):
            cells += report.spread(grown["median"][role], [figures[role] for figures in grown["rounds"]], ".2f")
        rows.append([contender, *cells])
    return report.table(rows, left={0})
