"""One subscriber that reads, and one that does not: what the publisher and the one that reads have of the other."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.flows import Flow, Load, publication
from benchmarks.processes import Failed, Process, blaming, memory_is_told, started

_CONNECT = 60.0  # seconds
_SETTLE = 20  # measurements at most until the publisher counts both subscribers


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it.

    Args:
        rate: Messages a second of the subscriber that reads, while the other is there.
        rate_alone: The same before.
        published: Messages published while the other was there.
        overflows: How often a queue filled up while the other was there, by the publisher's statistics.
        publisher_grown: Bytes by which the publisher's resident memory grew meanwhile; 0 where that is not told.
        stalled_grown: The same for the subscriber that does not read, from before it connected.
    """

    rate: float
    rate_alone: float
    published: float
    overflows: float
    publisher_grown: float
    stalled_grown: float

    @property
    def ratio(self) -> float:
        """What is left to the subscriber that reads."""
        return self.rate / self.rate_alone


def measure(load: Load, messages: int) -> Figures:
    """Measure the reading subscriber without and then with one that does not read.

    Args:
        load: What is published.
        messages: How many to publish, at least, while one does not read.

    Raises:
        Failed: One of the processes did.
    """
    with publication("aiozpat", 1, load) as (flow, endpoint):
        _, alone = flow.measure()
        with started("benchmarks.ends", "stalled", "blocking", "--connect", endpoint) as (stalled, _), blaming(stalled):
            before = _resident(flow.source), _resident(stalled)
            stalled.go_on()
            stalled.line(_CONNECT)
            first = _settled(flow)
            rates: list[float] = []
            last = first
            while last["sent"] - first["sent"] < messages or not rates:
                last, reader = flow.measure()
                rates.append(reader["rate"])
            after = _resident(flow.source), _resident(stalled)
    return Figures(
        rate=mean(rates),
        rate_alone=alone["rate"],
        published=last["sent"] - first["sent"],
        overflows=last["overflows"] - first["overflows"],
        publisher_grown=after[0] - before[0],
        stalled_grown=after[1] - before[1],
    )


def _settled(flow: Flow) -> dict[str, Any]:
    """Measure for nothing until the publisher has both subscribers; gives its figures then."""
    for _ in range(_SETTLE):
        publisher, _ = flow.measure()
        if publisher["subscribers"] == 2:
            return publisher
    raise Failed("the publisher never had both subscribers")


def _resident(process: Process) -> int:
    return process.resident() if memory_is_told() else 0
