"""Flows between processes: a source, sinks, a proxy between them if need be; started, measured and ended here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.child import ANY_PORT
from benchmarks.processes import Process, blaming, started

_BEGIN = 60.0  # seconds until the first message
_SLACK = 60.0  # seconds beyond those of a measurement


@dataclass(frozen=True, slots=True)
class Load:
    """What all ends of a flow have in common.

    Args:
        size: Bytes of payload.
        seconds: How long a measurement takes.
        pinned: Whether the source stays on CPU 0, the sinks on CPU 1.
    """

    size: int
    seconds: float
    pinned: bool

    def options(self, cpu: int) -> list[str]:
        """The command line of an end in `benchmarks.ends`."""
        pin = ["--cpu", str(cpu)] if self.pinned else []
        return ["--size", str(self.size), "--seconds", str(self.seconds), *pin]


class Flow:
    """Processes between which messages flow; all of them are ended by who started them.

    Args:
        source: Sends.
        sinks: Receive.
        between: What the messages pass through.
        seconds: How long a measurement takes.
    """

    def __init__(self, source: Process, sinks: Sequence[Process], seconds: float, *between: Process) -> None:
        self.source = source
        self._ends = [source, *sinks]
        self._all = [*self._ends, *between]
        self._bound = seconds * 2 + _SLACK

    def begin(self) -> None:
        """Let the source send, and wait until every sink has something.

        Raises:
            Failed: One of the processes did.
        """
        with blaming(*self._all):
            self.source.go_on()
            for process in self._ends:
                process.expect("running", _BEGIN)

    def measure(self) -> list[dict[str, Any]]:
        """Measure all ends at the same time; gives the figures of the source, then those of the sinks.

        Raises:
            Failed: One of the processes did.
        """
        with blaming(*self._all):
            for process in self._ends:
                process.go_on()
            return [json.loads(process.line(self._bound)) for process in self._ends]


@contextlib.contextmanager
def pipeline(push: str, pull: str, proxy: str, load: Load) -> Iterator[Flow]:
    """PUSH to PULL, which listens; or through a proxy, to which both connect.

    Args:
        push: How the source does it, as `benchmarks.ends` calls it.
        pull: How the sink does it.
        proxy: Whose proxy is between them; empty for none.
        load: What flows.
    """
    with contextlib.ExitStack() as stack:
        between = []
        sink_at = ["--bind", ANY_PORT]
        if proxy:
            # Not pinned: it would share a CPU with one of the ends, and which one is a matter of taste.
            process, endpoints = stack.enter_context(started("benchmarks.ends", "proxy", proxy))
            between.append(process)
            endpoint, backend = endpoints.split()
            sink_at = ["--connect", backend]
        sink, said = stack.enter_context(started("benchmarks.ends", "pull", pull, *sink_at, *load.options(1)))
        endpoint = endpoint if proxy else said
        source, _ = stack.enter_context(
            started("benchmarks.ends", "push", push, "--connect", endpoint, *load.options(0))
        )
        flow = Flow(source, [sink], load.seconds, *between)
        flow.begin()
        yield flow


@contextlib.contextmanager
def publication(way: str, subscribers: int, load: Load) -> Iterator[tuple[Flow, str]]:
    """PUB, which listens, to SUBs; gives the publisher's endpoint too.

    Args:
        way: How all of them do it, as `benchmarks.ends` calls it.
        subscribers: How many.
        load: What flows.
    """
    with contextlib.ExitStack() as stack:
        options = ["--bind", ANY_PORT, "--subscribers", str(subscribers), *load.options(0)]
        source, endpoint = stack.enter_context(started("benchmarks.ends", "pub", way, *options))
        options = ["--connect", endpoint, *load.options(1)]
        way = "aiozpat" if way == "aiozpat-wait" else way  # that is a publisher's affair
        sinks = [stack.enter_context(started("benchmarks.ends", "sub", way, *options))[0] for _ in range(subscribers)]
        flow = Flow(source, sinks, load.seconds)
        flow.begin()
        yield flow, endpoint
