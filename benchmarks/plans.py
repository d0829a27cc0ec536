"""What a round of a suite is made of: cases in their order, and which of them are compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(frozen=True, slots=True)
class AnyCase:
    """Something to measure; a suite adds what tells its cases apart.

    Args:
        contender: Its name in the suite.
    """

    contender: str


C = TypeVar("C", bound=AnyCase)


@dataclass(frozen=True, slots=True)
class Comparison(Generic[C]):
    """A figure of one case over the same figure of another, both of one round."""

    case: C
    base: C
    figure: str = "rate"


@dataclass(frozen=True, slots=True)
class Plan(Generic[C]):
    """The cases of one round in their order, and the comparisons between them."""

    cases: tuple[C, ...]
    comparisons: tuple[Comparison[C], ...]


def plan(cases: Iterable[C], comparisons: Iterable[Comparison[C]]) -> Plan[C]:
    """Each case once, and the comparisons that it allows.

    What is to be compared with something that was left out, by `--only` say, has no ratio; that is not an error.
    """
    order = tuple(dict.fromkeys(cases))
    return Plan(order, tuple(one for one in comparisons if {one.case, one.base} <= set(order)))
