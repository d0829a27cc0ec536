"""What was measured: on what, as tables for people and as JSON for programs; what all suites share of that."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeAlias

import msgspec
import zmq

import aiozpat
from benchmarks.plans import C, Comparison, Plan

Figures = dict[str, float]
Round: TypeAlias = dict[C, Figures]

_PREFIXES = {"rate": "", "p50_us": "p50 of ", "published": "published by "}  # of figures, for the table of ratios


def environment(peers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Versions and machine, as they are now.

    Args:
        peers: The versions of what is compared with, beside pyzmq.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "aiozpat": aiozpat.__version__,
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "uvloop": _version("uvloop"),
        "msgspec": msgspec.__version__,
        "peers": dict(peers or {}),
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
    suite: str, plan: Plan[C], rounds: Sequence[Round[C]], settings: dict[str, Any], env: dict[str, Any]
) -> dict[str, Any]:
    """What every suite measures, ready for JSON; a suite adds what only it has."""
    return {
        "suite": suite,
        "environment": {**env, "load_average_at_end": _load_average()},
        "settings": settings,
        "cases": [
            {"case": str(case), **asdict(case), **over_rounds(figures[case] for figures in rounds)}
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
    }


def over_rounds(rounds: Iterable[Figures]) -> dict[str, Any]:
    """The figures of all rounds, and the median of each figure."""
    figures = list(rounds)
    return {
        "rounds": figures,
        "median": {name: median(one[name] for one in figures) for name in figures[0]},
    }


def _ratios(comparison: Comparison[C], rounds: Sequence[Round[C]]) -> list[float]:
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


def text(results: dict[str, Any], title: str, *tables: str) -> str:
    """What is printed: on what it was measured, and the tables, of which those without rows are left out.

    Args:
        results: As they go into the JSON.
        title: What was measured.
        tables: Each as `table` makes it.
    """
    return "\n\n".join(part for part in (_heading(results, title), *tables) if part)


def _heading(results: dict[str, Any], title: str) -> str:
    env, settings = results["environment"], results["settings"]
    load = env["load_average"]
    rounds = f"median of {settings['rounds']} rounds" if settings["rounds"] > 1 else "1 round"
    pinned = "pinned to CPU 0 and 1" if settings["pinned"] else "not pinned"
    versions = [f"{name} {env[name] or '-'}" for name in ("aiozpat", "pyzmq", "libzmq", "uvloop", "msgspec")]
    versions += [f"{name} {version}" for name, version in env["peers"].items()]
    machine = f"{env['platform']}, {env['cpus']} CPUs, load {load[0] if load else '-'} at the start, {env['date']}"
    return "\n".join(
        [
            f"{title}, {rounds} of {settings['seconds']:g} s, processes {pinned}",
            ", ".join([env["python"], *versions]),
            machine,
        ]
    )


def ratio_table(results: dict[str, Any]) -> str:
    """Medians over the rounds, with where half of them and all of them lie: a median alone hides how steady it is."""
    rows = [["ratio, each round's own pair", "to", "median", "half of them", "lowest", "highest"]]
    for ratio in results["ratios"]:
        what = f"{_PREFIXES[ratio['figure']]}{ratio['case']}"
        middle, *ends = spread(ratio["median"], ratio["rounds"], ".2f")
        rows.append([what, ratio["base"], middle, _middle_half(ratio["rounds"]), *ends])
    return table(rows, left={0, 1})


def _middle_half(rounds: Sequence[float]) -> str:
    """From the lower to the upper quartile."""
    if len(rounds) < 2:
        return "-"
    lower, _, upper = quantiles(rounds, n=4, method="inclusive")
    return f"{lower:.2f}-{upper:.2f}"


def spread(middle: float, rounds: Sequence[float], form: str) -> list[str]:
    """Three cells: median, lowest and highest."""
    return [format(figure, form) for figure in (middle, min(rounds), max(rounds))]


def table(rows: Sequence[Sequence[str]], left: set[int]) -> str:
    """Columns as wide as they need be; numbers to the right; nothing if there is only the row of titles."""
    if len(rows) < 2:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in ruled
    )
