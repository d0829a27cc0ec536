"""Fan-out: messages a second from PUB to each of its SUBs, and what one that does not read costs the others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from benchmarks import flows, options, plans, report, stalled, suite
from benchmarks.plans import Comparison, Plan

_SIZE = 64  # bytes
_SUBSCRIBERS = (1, 2)
_FULL, _QUICK = options.Length(7, 1.0), options.Length(1, 0.2)
_STALLED, _QUICK_STALLED = 1_000_000, 50_000  # messages

# By name: how `benchmarks.ends` calls it, and what it is.
_CONTENDERS = {
    "blocking": ("blocking-multipart", "pyzmq's blocking sockets, by send_multipart and recv_multipart"),
    "aiozpat": ("aiozpat", "`await publisher.send(topic, body)` and `async for message in subscriber`"),
    "aiozpat-wait": ("aiozpat-wait", 'the same with `Publisher(overflow="wait")`, which loses nothing'),
    "zmq.asyncio": ("zmq.asyncio", "pyzmq's asyncio sockets, which await each send_multipart and recv_multipart"),
    "stalled": ("", "aiozpat with two subscribers, one of which reads nothing; in rounds of its own, after the others"),
}
# They run in this order, so that those that are compared with each other are neighbours in time.
_PLANNED = ("aiozpat-wait", "blocking", "aiozpat", "zmq.asyncio")

_EPILOG = f"""\
contenders:
{chr(10).join(f"  {name:<18} {what}" for name, (_, what) in _CONTENDERS.items())}

what is measured:
  Every contender is a publisher and its subscribers, each a process of its own, started anew for each measurement, over
  TCP on the loopback. It publishes messages of two frames, a topic and {_SIZE} bytes, as fast as it can; what its
  subscribers have received in a second, after a warm-up, is the rate, the mean of them. All high-water marks are at
  their default of 1000, and so is everything else. What finds the queue to a subscriber full is dropped, by design and
  with all contenders but aiozpat-wait: "arrived" tells what share of the published rate each subscriber got. Each
  end counts by its own clock while the queues between them fill and empty, so it may be off by what those hold.

  A round measures all contenders; every other round goes backwards, so that nobody always comes first. A ratio is taken
  between two measurements of one round, and its median over the rounds is shown: machines drift by a factor of two
  within minutes, and absolute figures of two runs say little.

  "stalled" measures one subscriber that reads, without and then with another that reads nothing (a blocking SUB that
  sleeps), while {_STALLED:,} messages or more are published: the ratio of the two rates, how often a queue
  filled up, and by how much the resident memory of the publisher and of the one that sleeps grew (Linux only).

reading the results:
  The asyncio contenders run on uvloop, as aiozpat.run() does it. A rate counts what arrived, so it is high for who
  reads fast; on few CPUs, a publisher that is faster than its subscribers takes their time away, and they get less.
  Nothing is judged here: there are no thresholds, and the exit code is 0 whenever every measurement came about.

examples:
  python -m benchmarks fan-out
      the full run: about four minutes
  python -m benchmarks fan-out --quick
      under half a minute: does it work, roughly
  python -m benchmarks fan-out --only stalled --rounds 3
      only what a subscriber that reads nothing costs
"""


@dataclass(frozen=True, slots=True)
class Case(plans.AnyCase):
    """One contender with a number of subscribers.

    Args:
        subscribers: How many.
    """

    subscribers: int

    def __str__(self) -> str:
        return f"{self.contender}, {self.subscribers} subscriber{'s' if self.subscribers > 1 else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line of this suite."""
    parser.epilog = _EPILOG
    options.add(
        parser,
        "fan-out",
        _CONTENDERS,
        _FULL,
        _QUICK,
        less=f", {_QUICK_STALLED:,} messages past the stalled subscriber",
        pinned="the publisher on CPU 0, all subscribers on CPU 1",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables and write the JSON; 1 if a process failed."""
    return suite.carry_out(arguments, _Suite(arguments).measure, _text)


def _plan(contenders: Sequence[str]) -> Plan[Case]:
    """What to do for these contenders."""
    cases = [Case(name, count) for count in _SUBSCRIBERS for name in _PLANNED if name in contenders]
    comparisons = [
        Comparison(Case(one, count), Case(base, count), figure)
        for figure in ("rate", "published")
        for count in _SUBSCRIBERS
        for one, base in (("aiozpat", "blocking"), ("aiozpat-wait", "blocking"), ("aiozpat", "zmq.asyncio"))
    ]
    return plans.plan(cases, comparisons)


class _Suite:
    """One run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._length = options.length(arguments, _FULL, _QUICK)
        contenders = options.chosen(arguments, _CONTENDERS)
        self._plan = _plan(contenders)
        self._messages = _QUICK_STALLED if arguments.quick else _STALLED
        self._stalled_rounds = self._length.rounds if "stalled" in contenders else 0
        self._settings: dict[str, Any] = {
            **self._length._asdict(),
            "size": _SIZE,
            "contenders": contenders,
            "stalled_messages": self._messages,
            "pinned": arguments.pin,
            "quick": arguments.quick,
        }
        self._load = flows.Load(_SIZE, self._length.seconds, arguments.pin)
        self._progress = suite.Progress(self._length.rounds * len(self._plan.cases) + self._stalled_rounds)

    def measure(self) -> suite.Results:
        """All rounds; gives the results as they go into the JSON."""
        env = report.environment()
        rounds = suite.measure_rounds(self._plan, self._length.rounds, self._rate)
        # Its pair is within itself.
        past = [self._stalled() for _ in range(self._stalled_rounds)]
        results = report.document("fan-out", self._plan, rounds, self._settings, env)
        return {**results, "stalled": report.over_rounds(past) if past else None}

    def _rate(self, case: Case) -> report.Figures:
        way, _ = _CONTENDERS[case.contender]
        with flows.publication(way, case.subscribers, self._load) as (flow, _):
            publisher, *subscribers = flow.measure()
        figures = {
            "rate": mean(one["rate"] for one in subscribers),
            "published": publisher["rate"],
            "publisher_cpu_us": publisher["cpu_us"],
            "subscriber_cpu_us": mean(one["cpu_us"] for one in subscribers),
            **{f"arrived_{number}": one["rate"] / publisher["rate"] for number, one in enumerate(subscribers, 1)},
        }
        self._progress.tell(f"{case}: {figures['rate']:,.0f} messages/s of {figures['published']:,.0f} published")
        return figures

    def _stalled(self) -> report.Figures:
        figures = stalled.measure(self._load, self._messages)
        self._progress.tell(f"stalled: {figures.rate:,.0f} messages/s, {figures.ratio:.2f} of what it was alone")
        return {**asdict(figures), "ratio": figures.ratio}


def _text(results: dict[str, Any]) -> str:
    """The tables."""
    title = f"fan-out, {_SIZE} bytes"
    return report.text(results, title, _rates(results), report.ratio_table(results), _stalled_table(results))


def _rates(results: dict[str, Any]) -> str:
    titles = "subscribers,contender,messages/s,lowest,highest,published/s,arrived,publisher us,subscriber us"
    rows = [titles.split(",")]
    for case in results["cases"]:
        rates, middle = [figures["rate"] for figures in case["rounds"]], case["median"]
        arrived = [middle[f"arrived_{number}"] for number in range(1, case["subscribers"] + 1)]
        rows.append(
            [
                f"{case['subscribers']}",
                case["contender"],
                *report.spread(middle["rate"], rates, ",.0f"),
                f"{middle['published']:,.0f}",
                ", ".join(f"{share:.0%}" for share in arrived),
                *(f"{middle[key]:,.2f}" for key in ("publisher_cpu_us", "subscriber_cpu_us")),
            ]
        )
    return report.table(rows, left={1})


_STALLED_ROWS = {
    "ratio": ("its rate with the other, to that without", ",.2f"),
    "rate_alone": ("messages/s without the other", ",.0f"),
    "rate": ("messages/s with the other", ",.0f"),
    "published": ("messages published with the other", ",.0f"),
    "overflows": ("times that a queue filled up meanwhile", ",.0f"),
    "publisher_grown": ("bytes by which the publisher grew", ",.0f"),
    "stalled_grown": ("bytes by which the other grew", ",.0f"),
}


def _stalled_table(results: dict[str, Any]) -> str:
    rows = [["a subscriber beside another that reads nothing", "median", "lowest", "highest"]]
    past = results["stalled"]
    for key, (what, form) in _STALLED_ROWS.items() if past else ():
        rows.append([what, *report.spread(past["median"][key], [one[key] for one in past["rounds"]], form)])
    return report.table(rows, left={0})
