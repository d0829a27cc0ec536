"""What was measured: on what, as tables for people and as JSON for programs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import zmq

import aiozpat
from benchmarks.cases import Case, Comparison, Plan
from benchmarks.memory import Scenario

Figures = dict[str, float]
Round = dict[Case, Figures]
MemoryRound = dict[Scenario, Figures]


def environment() -> dict[str, Any]:
    """Versions and machine, as they are now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "aiozpat": aiozpat.__version__,
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "uvloop": _version("uvloop"),
        "msgspec": msgspec.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": _load_average(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _load_average() -> list[float] | None:
    return [round(load, 2) for load in os.getloadavg()] if sys.platform != "win32" else None


def document(
    plan: Plan, rounds: Sequence[Round], memory: Sequence[MemoryRound], settings: dict[str, Any], env: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, ready for JSON."""
    return {
        "suite": "request-reply",
        "environment": {**env, "load_average_at_end": _load_average()},
        "settings": settings,
        "cases": [
            {
                "case": str(case),
                **asdict(case),
                "rounds": [figures[case] for figures in rounds],
                "median": _medians([figures[case] for figures in rounds]),
            }
            for case in plan.cases
        ],
        "ratios": [
            {
                "case": str(comparison.case),
                "base": str(comparison.base),
                "figure": comparison.figure,
                "rounds": _ratios(comparison, rounds),
                "median": median(_ratios(comparison, rounds)),
            }
            for comparison in plan.comparisons
        ],
        "memory": [
            {
                "name": scenario.name,
                "title": scenario.title,
                "count": scenario.count,
                "each": scenario.each,
                "rounds": [figures[scenario] for figures in memory],
                "median": _medians([figures[scenario] for figures in memory]),
            }
            for scenario in (memory[0] if memory else ())
        ],
    }


def _medians(rounds: Sequence[Figures]) -> Figures:
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}


def _ratios(comparison: Comparison, rounds: Sequence[Round]) -> list[float]:
    """The ratio of each round's own pair: what slows the machine for a while slows both."""
    return [
        figures[comparison.case][comparison.figure] / figures[comparison.base][comparison.figure] for figures in rounds
    ]


def write(path: Path, results: dict[str, Any]) -> None:
    """Put the results into a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(path)


def text(results: dict[str, Any]) -> str:
    """The tables: medians over the rounds, with the extremes, since a median alone hides how steady it is."""
    parts = [_heading(results), _rates(results), _ratio_table(results), _memory_table(results)]
    return "\n\n".join(part for part in parts if part)


def _heading(results: dict[str, Any]) -> str:
    env, settings = results["environment"], results["settings"]
    load = env["load_average"]
    rounds = f"median of {settings['rounds']} rounds" if settings["rounds"] > 1 else "1 round"
    pinned = "pinned to CPU 0 and 1" if settings["pinned"] else "not pinned"
    versions = [f"{name} {env[name] or '-'}" for name in ("aiozpat", "pyzmq", "libzmq", "uvloop", "msgspec")]
    machine = f"{env['platform']}, {env['cpus']} CPUs, load {load[0] if load else '-'} at the start, {env['date']}"
    return "\n".join(
        [
            f"request-reply, {settings['size']} bytes, {rounds} of {settings['seconds']:g} s, processes {pinned}",
            ", ".join([env["python"], *versions]),
            machine,
        ]
    )


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
                *(f"{rate:,.0f}" for rate in (middle["rate"], min(rates), max(rates))),
                *(f"{middle[key]:.1f}" if key in middle else "" for key in ("p50_us", "p99_us")),
            ]
        )
    return _table(rows, left={2})


def _ratio_table(results: dict[str, Any]) -> str:
    rows = [["ratio, each round's own pair", "to", "median", "lowest", "highest"]]
    for ratio in results["ratios"]:
        figures = (ratio["median"], min(ratio["rounds"]), max(ratio["rounds"]))
        what = "p50 of " if ratio["figure"] == "p50_us" else ""
        rows.append([f"{what}{ratio['case']}", ratio["base"], *(f"{figure:.2f}" for figure in figures)])
    return _table(rows, left={0, 1}) if len(rows) > 1 else ""


def _memory_table(results: dict[str, Any]) -> str:
    rows = [["resident memory of aiozpat (uvloop)", "server", "lowest", "highest", "client", "lowest", "highest"]]
    for scenario in results["memory"]:
        cells = []
        for role in ("server", "client"):
            grown = [figures[role] for figures in scenario["rounds"]]
            cells += [f"{figure:,.0f}" for figure in (scenario["median"][role], min(grown), max(grown))]
        rows.append([scenario["title"], *cells])
    return _table(rows, left={0}) if len(rows) > 1 else ""


def _table(rows: Sequence[Sequence[str]], left: set[int]) -> str:
    """Columns as wide as they need be; numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in ruled
    )
