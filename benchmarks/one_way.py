"""One way: messages a second from PUSH to PULL, received, sent, and through a proxy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import flows, options, plans, report, suite
from benchmarks.plans import Comparison, Plan

_SMALL, _LARGE = 64, 1024 * 1024  # bytes
_FULL, _QUICK = options.Length(7, 1.0), options.Length(1, 0.2)


@dataclass(frozen=True, slots=True)
class _Contender:
    """Who does what, as `benchmarks.ends` calls it."""

    push: str
    pull: str
    what: str
    proxy: str = ""


# They run in this order, so that those that are compared with each other are neighbours in time.
_CONTENDERS = {
    "blocking-multipart": _Contender(
        "blocking", "blocking-multipart", "receives by pyzmq's blocking recv_multipart, as documentation shows it"
    ),
    "aiozpat": _Contender("blocking", "aiozpat", "receives by `async for message in puller`"),
    "zmq.asyncio": _Contender(
        "blocking", "zmq.asyncio", "receives by awaiting recv_multipart of pyzmq's asyncio socket"
    ),
    "aiozpat-many": _Contender("blocking", "aiozpat-many", "receives by awaiting `puller.recv_many()`"),
    "blocking": _Contender("blocking", "blocking", "receives by blocking recv, about as fast as pyzmq gets"),
    "proxy": _Contender(
        "blocking", "blocking", "the same through an aiozpat.Proxy, in a process of its own", "aiozpat"
    ),
    "zmq.proxy": _Contender(
        "blocking", "blocking", "the same through zmq.proxy in a thread, in a process of its own", "blocking"
    ),
    "blocking-send": _Contender("blocking-multipart", "blocking", "sends by blocking send_multipart"),
    "aiozpat-send": _Contender("aiozpat", "blocking", "sends by awaiting `pusher.send(payload)`"),
    "aiozpat-send-many": _Contender("aiozpat-many", "blocking", "sends by awaiting `pusher.send_many`, 1000 each time"),
    "zmq.asyncio-send": _Contender("zmq.asyncio", "blocking", "sends by awaiting send_multipart"),
}
_WITH_LARGE = ("blocking-multipart", "aiozpat", "aiozpat-many")

_EPILOG = f"""\
contenders:
{chr(10).join(f"  {name:<18} {one.what}" for name, one in _CONTENDERS.items())}

what is measured:
  Every contender is two processes of its own, started anew for each measurement, over TCP on the loopback: one sends as
  fast as it can, the other receives, and what it has received in a second, after a warm-up, is the rate. Those that
  receive are fed by one and the same blocking sender (`socket.send`), those that send feed one and the same blocking
  receiver (`socket.recv`). All high-water marks are at their default of 1000, and so is everything else. Messages have
  {_SMALL} bytes; some contenders are measured with 1 MiB too, which the sender then hands over without a copy.

  A round measures all contenders; every other round goes backwards, so that nobody always comes first. A ratio is taken
  between two measurements of one round, and its median over the rounds is shown: machines drift by a factor of two
  within minutes, and absolute figures of two runs say little.

reading the results:
  The asyncio contenders run on uvloop, as aiozpat.run() does it. "sender us" and "receiver us" are the processor time
  of each process for a message, its I/O thread included: where the rate is the sender's limit rather than the
  receiver's, they still differ. Each process has two busy threads; on fewer than four CPUs they compete.
  Nothing is judged here: there are no thresholds, and the exit code is 0 whenever every measurement came about.

examples:
  python -m benchmarks one-way
      the full run: about four minutes
  python -m benchmarks one-way --quick
      under half a minute: does it work, roughly
  python -m benchmarks one-way --only aiozpat,blocking-multipart --rounds 11 --pin
      before and after a change to the receiving path
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
    return "1 MiB" if size == _LARGE else f"{size} B"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line of this suite."""
    parser.epilog = _EPILOG
    pinned = "the sender on CPU 0, the receiver on CPU 1, proxies anywhere"
    options.add(parser, "one-way", _CONTENDERS, _FULL, _QUICK, pinned=pinned)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON; 1 if a process failed."""
    return suite.carry_out(arguments, _Suite(arguments).measure, _text)


def _plan(contenders: Sequence[str]) -> Plan[Case]:
    """What to do for these contenders."""
    cases = [Case(name, _SMALL) for name in contenders]
    large = [Case(name, _LARGE) for name in _WITH_LARGE if name in contenders]
    pairs = [
        *(("aiozpat", base) for base in ("blocking-multipart", "zmq.asyncio", "blocking")),
        *(("aiozpat-many", base) for base in ("blocking-multipart", "blocking")),
        ("proxy", "zmq.proxy"),
        *(("aiozpat-send", base) for base in ("blocking-send", "zmq.asyncio-send")),
        ("aiozpat-send-many", "blocking-send"),
    ]
    comparisons = [Comparison(Case(one, _SMALL), Case(base, _SMALL)) for one, base in pairs]
    comparisons += [Comparison(case, Case("blocking-multipart", _LARGE)) for case in large[1:]]
    return plans.plan([*cases, *large], comparisons)


class _Suite:
    """One run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._length = options.length(arguments, _FULL, _QUICK)
        contenders = options.chosen(arguments, _CONTENDERS)
        self._plan = _plan(contenders)
        self._settings: dict[str, Any] = {
            **self._length._asdict(),
            "contenders": contenders,
            "pinned": arguments.pin,
            "quick": arguments.quick,
        }
        self._progress = suite.Progress(self._length.rounds * len(self._plan.cases))

    def measure(self) -> suite.Results:
        """All rounds; gives the results as they go into the JSON."""
        env = report.environment()
        rounds = suite.measure_rounds(self._plan, self._length.rounds, self._rate)
        return report.document("one-way", self._plan, rounds, self._settings, env)

    def _rate(self, case: Case) -> report.Figures:
        contender = _CONTENDERS[case.contender]
        load = flows.Load(case.size, self._length.seconds, self._settings["pinned"])
        with flows.pipeline(contender.push, contender.pull, contender.proxy, load) as flow:
            sender, receiver = flow.measure()
        self._progress.tell(f"{case}: {receiver['rate']:,.0f} messages/s")
        return {"rate": receiver["rate"], "sender_cpu_us": sender["cpu_us"], "receiver_cpu_us": receiver["cpu_us"]}


def _text(results: dict[str, Any]) -> str:
    """The tables."""
    return report.text(results, "one-way", _rates(results), report.ratio_table(results))


def _rates(results: dict[str, Any]) -> str:
    rows = [["size", "contender", "messages/s", "lowest", "highest", "sender us", "receiver us"]]
    for case in results["cases"]:
        rates, middle = [figures["rate"] for figures in case["rounds"]], case["median"]
        rows.append(
            [
                _sized(case["size"]),
                case["contender"],
                *report.spread(middle["rate"], rates, ",.0f"),
                *(f"{middle[key]:,.2f}" for key in ("sender_cpu_us", "receiver_cpu_us")),
            ]
        )
    return report.table(rows, left={1})
