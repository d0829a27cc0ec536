"""Request-reply: calls a second, latency and memory, against pyzmq's own ways of doing it, grpc.aio and nats.py."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks import cases, memory, nats_server, options, peers, processes, report, request_reply_report, suite

_SIZE = 64  # bytes of payload
_IN_FLIGHT = [1, 16, 256, 1000]
_QUICK_IN_FLIGHT = [1, 256]
_FULL, _QUICK = options.Length(7, 1.0), options.Length(1, 0.2)
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
  on the client's side), and its growth over many calls (Linux only; three rounds at most).

  grpc.aio and nats.py run on uvloop too, at their defaults: grpc.aio by generic handlers, so that no protobuf is paid
  for, and nats.py through a nats-server on the loopback, a third process that --pin leaves alone. Where one of them is
  not installed, a line says how to get it, and the others are measured without it.

reading the results:
  The rates of 1 client with 1 in flight are those of latency; p50 and p99 are given for them. A ratio of rates is
  better when it is higher, a ratio of p50 when it is lower. The blocking loops stop at the echo: no ids, no dispatch,
  no deadlines; the multipart one is what documentation shows, the other is about as fast as pyzmq gets. The reader is
  the least that any asyncio program can do, so what aiozpat adds is what it takes beyond that. Without --pin, one in
  flight has two modes, by whether the system puts both processes on one core: prefer --pin for it.
  Nothing is judged here: there are no thresholds, and the exit code is 0 whenever every measurement came about.

examples:
  python -m benchmarks request-reply
      the full run: about thirteen minutes
  python -m benchmarks request-reply --quick
      under half a minute: does it work, roughly
  python -m benchmarks request-reply --only aiozpat,blocking --in-flight 256 --rounds 11 --pin
      before and after a change to the data path
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line of this suite."""
    parser.epilog = _EPILOG
    options.add(
        parser,
        "request-reply",
        cases.CONTENDERS,
        _FULL,
        _QUICK,
        less=f", 1 and {cases.BASE} in flight, fewer clients",
        left_out=", and so are memory and many clients without aiozpat",
        pinned="the server on CPU 0, the client on CPU 1",
    )
    parser.add_argument(
        "--in-flight",
        type=options.listed(options.count),
        action="extend",
        metavar="N[,N...]",
        help=f"calls in flight on one client; may be repeated (default: {','.join(map(str, _IN_FLIGHT))})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON; 1 if a process failed."""
    return suite.carry_out(arguments, _Suite(arguments).measure, request_reply_report.text)


class _Suite:
    """One run: the rounds one after the other, a line of progress for each measurement."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        quick = arguments.quick
        self._rounds, self._seconds = options.length(arguments, _FULL, _QUICK)
        in_flight = sorted(set(arguments.in_flight or (_QUICK_IN_FLIGHT if quick else _IN_FLIGHT)))
        contenders = peers.present(options.chosen(arguments, cases.CONTENDERS))
        clients = _QUICK_CLIENTS if quick else _CLIENTS
        self._plan = cases.plan(contenders, in_flight, clients)
        with_memory = "aiozpat" in contenders and processes.memory_is_told()
        self._scenarios = memory.scenarios(quick=quick) if with_memory else []
        self._server_options, self._client_options = options.pins(arguments)
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
        self._memory_rounds = min(self._rounds, memory.ROUNDS)
        total = self._rounds * len(self._plan.cases) + self._memory_rounds * len(self._scenarios)
        self._progress = suite.Progress(total)

    def measure(self) -> suite.Results:
        """All rounds; gives the results as they go into the JSON."""
        env = report.environment(peers.versions(self._settings["contenders"]))
        rounds = suite.measure_rounds(self._plan, self._rounds, self._rate)
        memory_rounds = [self._memory_round() for _ in range(self._memory_rounds)] if self._scenarios else []
        results = report.document("request-reply", self._plan, rounds, self._settings, env)
        return {**results, "memory": request_reply_report.memory_document(memory_rounds)}

    def _rate(self, case: cases.Case) -> report.Figures:
        seconds = case.seconds(self._seconds)
        load = ["--seconds", str(seconds), "--size", str(_SIZE)]
        with self._server(case) as (serving, endpoint):
            figures = processes.client(
                serving,
                "benchmarks.contenders",
                *case.server_options(),
                "--endpoint",
                endpoint,
                *case.client_options(),
                *load,
                *self._client_options,
                timeout=seconds * 2 + _SLACK,
            )
        p50 = f", p50 {figures['p50_us']:.1f} us" if "p50_us" in figures else ""
        self._progress.tell(f"{case}: {figures['rate']:,.0f} calls/s{p50}")
        return figures

    @contextlib.contextmanager
    def _server(self, case: cases.Case) -> Iterator[tuple[processes.Process, str]]:
        """The contender's server, behind a nats-server of its own if it needs one."""
        with contextlib.ExitStack() as stack:
            arguments = [*case.server_options(), *self._server_options]
            if case.contender == "nats.py":
                arguments += ["--endpoint", stack.enter_context(nats_server.running())]
            yield stack.enter_context(processes.server(*arguments))

    def _memory_round(self) -> request_reply_report.MemoryRound:
        return {scenario: self._memory(scenario) for scenario in self._scenarios}

    def _memory(self, scenario: memory.Scenario) -> report.Figures:
        figures = memory.measure(scenario, self._server_options, self._client_options)
        self._progress.tell(f"{scenario.title}: server {figures['server']:,.0f}, client {figures['client']:,.0f}")
        return figures
