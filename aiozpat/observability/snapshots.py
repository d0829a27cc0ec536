"""The snapshots that servers and clients give of themselves, as metrics for Prometheus."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from aiozpat.errors import UsageError
from aiozpat.observability.statistics import ClientStatistics, ServerStatistics

Statistics: TypeAlias = ServerStatistics | ClientStatistics
_PATIENCE = 1.0  # seconds that a loop may take to answer; one that hangs has no metrics


class Watched(Protocol):
    """A server or client."""

    def statistics(self) -> Statistics:
        """A snapshot."""


@dataclass(frozen=True, slots=True)
class _Entry:
    watched: Watched
    loop: asyncio.AbstractEventLoop
    thread: int

    def read(self) -> Statistics | None:
        """A snapshot taken in the loop's own thread; None if the loop does not answer, or is closed."""
        if threading.get_ident() == self.thread:
            return self.watched.statistics()
        future: Future[Statistics] = Future()
        try:
            self.loop.call_soon_threadsafe(lambda: future.set_result(self.watched.statistics()))
            return future.result(_PATIENCE)
        except (RuntimeError, TimeoutError):
            return None


class Snapshots:
    """The servers and clients that are watched, by name."""

    def __init__(self) -> None:
        self._entries: dict[tuple[type, str], _Entry] = {}

    def watch(self, watched: Watched, name: str) -> None:
        """Add one; see `Metrics.watch`."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise UsageError("a server or client is watched from inside its block") from error
        self._entries[type(watched.statistics()), name] = _Entry(watched, loop, threading.get_ident())

    def read(self) -> list[tuple[str, Statistics]]:
        """What they say now; those that don't answer are left out."""
        read = [(name, entry.read()) for (_, name), entry in list(self._entries.items())]
        return [(name, statistics) for name, statistics in read if statistics is not None]


def families(read: Iterable[tuple[str, Statistics]]) -> Iterator[Metric]:
    """The metrics of what watched servers and clients said, by name."""
    read = list(read)
    yield from _of_servers((name, one) for name, one in read if isinstance(one, ServerStatistics))
    yield from _of_clients((name, one) for name, one in read if isinstance(one, ClientStatistics))


def _of_servers(read: Iterable[tuple[str, ServerStatistics]]) -> Iterator[Metric]:
    sessions = _gauge("server_sessions", "Clients connected.")
    queued = _gauge("server_calls_queued", "Calls that wait for a place.")
    waiting = _gauge("server_waiting_bytes", "Bytes of replies that wait to be sent.")
    notices = _notices("server")
    for name, statistics in read:
        sessions.add_metric([name], statistics.sessions)
        queued.add_metric([name], statistics.queued)
        waiting.add_metric([name], statistics.waiting_bytes)
        for kind, count in statistics.notices.items():
            notices.add_metric([name, kind], count)
    yield from (sessions, queued, waiting, notices)


def _of_clients(read: Iterable[tuple[str, ClientStatistics]]) -> Iterator[Metric]:
    in_flight = _gauge("client_calls_in_flight", "Calls that wait for their answer.")
    waiting = _gauge("client_waiting_bytes", "Bytes of calls that wait to be sent.")
    opened = CounterMetricFamily("aiozpat_client_session_tries", "Tries to open a session.", labels=["name"])
    notices = _notices("client")
    for name, statistics in read:
        in_flight.add_metric([name], statistics.in_flight)
        waiting.add_metric([name], statistics.waiting_bytes)
        opened.add_metric([name], statistics.sessions)
        for kind, count in statistics.notices.items():
            notices.add_metric([name, kind], count)
    yield from (in_flight, waiting, opened, notices)


def _gauge(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"aiozpat_{name}", about, labels=["name"])


def _notices(side: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"aiozpat_{side}_notices", "What went wrong, by kind.", labels=["name", "kind"])
