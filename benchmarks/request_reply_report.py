"""The results of the request-reply suite, as tables and for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import report
from benchmarks.memory import Scenario

MemoryRound = dict[Scenario, report.Figures]


def memory_document(rounds: Sequence[MemoryRound]) -> list[dict[str, Any]]:
    """What the scenarios of `benchmarks.memory` gave, ready for JSON."""
    return [
        {
            "name": scenario.name,
            "title": scenario.title,
            "count": scenario.count,
            "each": scenario.each,
            **report.over_rounds(figures[scenario] for figures in rounds),
        }
        for scenario in (rounds[0] if rounds else ())
    ]


def text(results: dict[str, Any]) -> str:
    """The tables."""
    title = f"request-reply, {results['settings']['size']} bytes"
    return report.text(results, title, _rates(results), report.ratio_table(results), _memory_table(results))


def _rates(results: dict[str, Any]) -> str:
    rows = [["clients", "in flight", "contender", "calls/s", "lowest", "highest", "p50 us", "p99 us"]]
    for case in sorted(results["cases"], key=lambda case: (case["clients"], case["in_flight"])):
        rates = [figures["rate"] for figures in case["rounds"]]
        name = case["contender"] + ("" if case["method"] == "echo" else f" ({case['method']})")
        middle = case["median"]
        rows.append(
            [
                f"{case['clients']:,}",
                f"{case['in_flight']:,}",
                name,
                *report.spread(middle["rate"], rates, ",.0f"),
                *(f"{middle[key]:.1f}" if key in middle else "" for key in ("p50_us", "p99_us")),
            ]
        )
    return report.table(rows, left={2})


def _memory_table(results: dict[str, Any]) -> str:
    rows = [["resident memory of aiozpat (uvloop)", "server", "lowest", "highest", "client", "lowest", "highest"]]
    for scenario in results["memory"]:
        cells = []
        for role in ("server", "client"):
            grown = [figures[role] for figures in scenario["rounds"]]
            cells += report.spread(scenario["median"][role], grown, ",.0f")
        rows.append([scenario["title"], *cells])
    return report.table(rows, left={0})
