"""The options that all suites have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Length(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float


def add(
    parser: argparse.ArgumentParser,
    suite: str,
    contenders: Collection[str],
    full: Length,
    quick: Length,
    *,
    less: str = "",
    left_out: str = "",
    pinned: str,
) -> None:
    """Define the options that all suites have.

    Args:
        parser: Of the suite.
        suite: Its name.
        contenders: What `--only` may name.
        full: The length of a run without options.
        quick: The same with `--quick`.
        less: What `--quick` leaves out beside that, after a comma.
        left_out: What `--only` leaves out beside the others' ratios.
        pinned: Which process `--pin` puts where.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"the short form: {quick.rounds} round, {quick.seconds:g} s each{less}; the options below still "
        "override it",
    )
    parser.add_argument("--rounds", type=count, metavar="N", help=f"rounds (default: {full.rounds})")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="S",
        help=f"seconds for each measurement, after a warm-up (default: {full.seconds:g})",
    )
    parser.add_argument(
        "--only",
        type=listed(_one_of(contenders)),
        action="extend",
        metavar="NAME[,NAME...]",
        help=f"only these contenders; may be repeated. Ratios to one that is left out are left out too{left_out}",
    )
    parser.add_argument("--pin", action="store_true", help=f"{pinned} (Linux)")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path(f"results/{suite}.json"),
        metavar="FILE",
        help="where every figure of every round goes (default: %(default)s)",
    )


def length(arguments: argparse.Namespace, full: Length, quick: Length) -> Length:
    """How much to measure by these arguments."""
    default = quick if arguments.quick else full
    return Length(arguments.rounds or default.rounds, arguments.seconds or default.seconds)


def chosen(arguments: argparse.Namespace, contenders: Collection[str]) -> list[str]:
    """The contenders that take part by these arguments, in the suite's order."""
    return [name for name in contenders if not arguments.only or name in arguments.only]


def pins(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The command lines by which a server and a client stay each on a CPU of its own, if they are to."""
    return (["--cpu", "0"], ["--cpu", "1"]) if arguments.pin else ([], [])


def count(text: str) -> int:
    """Parse a number of something.

    Raises:
        argparse.ArgumentTypeError: Not a positive whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def listed(one: Callable[[str], T]) -> Callable[[str], list[T]]:
    """A parser of values with commas between them."""

    def parse(text: str) -> list[T]:
        try:
            return [one(part.strip()) for part in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0.05 to 3600")
    return number


def _one_of(names: Collection[str]) -> Callable[[str], str]:
    """A parser of names."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return parse
