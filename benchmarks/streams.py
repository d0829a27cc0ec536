"""Streams: items a second from a server, to a server, and both ways in turn, against grpc.aio."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import options, peers, plans, processes, report, suite
from benchmarks.plans import Comparison, Plan
from benchmarks.stream_loads import LOADS

_SIZE = 64  # bytes
_FULL, _QUICK = options.Length(7, 1.0), options.Length(1, 0.2)
_SLACK = 120.0  # seconds for a client to start, connect and close
_MODULE = "benchmarks.stream_ends"

_CONTENDERS = {
    "aiozpat": "`async with client.stream(...)`, `call` with an async iterator, `client.open`; all at its defaults",
    "grpc.aio": "`async for` of unary_stream, stream_unary with an async iterator, `write` and `read` of stream_stream",
}

_EPILOG = f"""\
contenders:
{chr(10).join(f"  {name:<10} {what}" for name, what in _CONTENDERS.items())}

what is measured:
  Every contender is a server process and a client process of its own, started anew for each measurement, over TCP on
  the loopback, with one stream of items of {_SIZE} bytes at a time:
    from server  items a second that the client reads, of a stream without end
    to server    items a second that the client sends, until the server's result says how many it has taken
    ping-pong    round trips a second in a conversation, one after the other, and how long each takes
  A round measures all of it; every other round goes backwards, so that nobody always comes first. A ratio is taken
  between two measurements of one round, and its median over the rounds is shown: machines drift by a factor of two
  within minutes, and absolute figures of two runs say little.

reading the results:
  Both run on uvloop, as aiozpat.run() does it. Both have flow control: aiozpat's default window is 256 items, grpc's
  is by bytes and adapts itself. grpc.aio gets and gives bytes by handlers without serializers, so no protobuf is paid
  for; aiozpat decodes each item into its type. aiozpat sends items together that are made one after the other, grpc.aio
  awaits each write: that is most of the difference, and there is none of it in ping-pong.
  Without --pin, ping-pong has two modes, by whether the system puts both processes on one core: prefer --pin for it.
  Nothing is judged here: there are no thresholds, and the exit code is 0 whenever every measurement came about. Where
  grpcio is not installed, a line says how to get it, and aiozpat is measured alone.

examples:
  python -m benchmarks streams
      the full run: about two minutes
  python -m benchmarks streams --quick
      under half a minute: does it work, roughly
  python -m benchmarks streams --only aiozpat --rounds 11 --pin
      before and after a change to streams
"""


@dataclass(frozen=True, slots=True)
class Case(plans.AnyCase):
    """One contender under one load.

    Args:
        load: One of LOADS.
    """

    load: str

    def __str__(self) -> str:
        return f"{self.contender}, {self.load}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line of this suite."""
    parser.epilog = _EPILOG
    pinned = "the server on CPU 0, the client on CPU 1"
    options.add(parser, "streams", _CONTENDERS, _FULL, _QUICK, pinned=pinned)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON; 1 if a process failed."""
    return suite.carry_out(arguments, _Suite(arguments).measure, _text)


def _plan(contenders: Sequence[str]) -> Plan[Case]:
    """What to do for these contenders."""
    cases = [Case(name, load) for load in LOADS for name in contenders]
    return plans.plan(cases, [Comparison(Case("aiozpat", load), Case("grpc.aio", load)) for load in LOADS])


class _Suite:
    """One run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._length = options.length(arguments, _FULL, _QUICK)
        contenders = peers.present(options.chosen(arguments, _CONTENDERS))
        self._plan = _plan(contenders)
        self._server_options, self._client_options = options.pins(arguments)
        self._settings: dict[str, Any] = {
            **self._length._asdict(),
            "size": _SIZE,
            "contenders": contenders,
            "pinned": arguments.pin,
            "quick": arguments.quick,
        }
        self._progress = suite.Progress(self._length.rounds * len(self._plan.cases))

    def measure(self) -> suite.Results:
        """All rounds; gives the results as they go into the JSON."""
        env = report.environment(peers.versions(self._settings["contenders"]))
        rounds = suite.measure_rounds(self._plan, self._length.rounds, self._rate)
        return report.document("streams", self._plan, rounds, self._settings, env)

    def _rate(self, case: Case) -> report.Figures:
        server = processes.started(_MODULE, "server", case.contender, *self._server_options)
        load = ["--load", case.load, "--seconds", str(self._length.seconds), "--size", str(_SIZE)]
        with server as (serving, endpoint):
            options_of_client = ["--endpoint", endpoint, *load, *self._client_options]
            figures = processes.client(
                serving, _MODULE, case.contender, *options_of_client, timeout=self._length.seconds * 2 + _SLACK
            )
        self._progress.tell(f"{case}: {figures['rate']:,.0f}/s")
        return figures


def _text(results: dict[str, Any]) -> str:
    """The tables."""
    return report.text(results, f"streams, items of {_SIZE} bytes", _rates(results), report.ratio_table(results))


def _rates(results: dict[str, Any]) -> str:
    rows = [["load", "contender", "items or round trips/s", "lowest", "highest", "p50 us", "p99 us"]]
    for case in results["cases"]:
        middle = case["median"]
        rows.append(
            [
                case["load"],
                case["contender"],
                *report.spread(middle["rate"], [figures["rate"] for figures in case["rounds"]], ",.0f"),
                *(f"{middle[key]:.1f}" if key in middle else "" for key in ("p50_us", "p99_us")),
            ]
        )
    return report.table(rows, left={0, 1})
