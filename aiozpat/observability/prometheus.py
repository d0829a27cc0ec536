"""Metrics of calls for Prometheus; needs `pip install 'aiozpat[prometheus]'`."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from aiozpat.errors import UsageError
from aiozpat.observability.calls import AnyCall, Proceed, on_server, outcome

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
except ImportError as error:
    raise ImportError(
        "aiozpat.observability.prometheus needs prometheus-client: pip install 'aiozpat[prometheus]'"
    ) from error

from aiozpat.observability.snapshots import Snapshots, Watched, families

__all__ = ["Metrics"]

# Seconds; from a call on the same machine to one that waits for something slow.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OTHER = "other"  # no method's full name: those have a dot
_monotonic = time.monotonic


class Metrics:
    """An interceptor that counts and times calls, for servers and clients; give one object to all of them.

    On a server, by full name of the method (and `code`: `OK` or a status code's name):

    - `aiozpat_server_calls_started_total{method}`: calls given to interceptors and handlers,
    - `aiozpat_server_calls_total{method, code}`: those that ended, and how,
    - `aiozpat_server_call_seconds{method}`: a histogram of how long they took; of a stream, until its end,
    - `aiozpat_server_calls_running{method}`: those that have not ended.

    On a client the same, named `aiozpat_client_...`; a call with all its attempts is one. A call that a client gave up
    at its deadline is DEADLINE_EXCEEDED there; on the server that or CANCELLED, whichever it noticed first.

    On a server the code is the handler's outcome: a result that then can't be encoded, or is too large, is an error for
    the caller, and `OK` here (`statistics()` counts it among the method's errors).

    A call that a server turns away itself reaches no interceptor: what its limits refuse is among the notices of
    `watch`; params that don't fit and methods that there are not are seen on clients only.

    The counts are numbers of our own, read when Prometheus asks: that costs a call a quarter of what
    prometheus-client's metrics would. They are not in prometheus-client's multiprocess mode, which reads its own only.

    Args:
        registry: Where they are registered; by default prometheus-client's global one.
        buckets: The upper bounds of the histograms, in seconds, ascending.
        max_methods: Clients' methods that have a line of their own; more are counted as `other`. A server's methods
            are those it serves.

    Raises:
        UsageError: The registry has another `Metrics` already: share that one.
        ValueError: `buckets` are not ascending numbers, or `max_methods` is negative.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        buckets: Sequence[float] = BUCKETS,
        max_methods: int = 256,
    ) -> None:
        bounds = tuple(float(bound) for bound in buckets)
        if not bounds or not all(a < b for a, b in zip(bounds, (*bounds[1:], math.inf), strict=True)):
            raise ValueError(f"buckets are ascending numbers of seconds, and finite; got {buckets!r}")
        if not max_methods >= 0:
            raise ValueError(f"max_methods is a number, 0 or more; got {max_methods!r}")
        self._server = _Side("server", bounds, math.inf)
        self._client = _Side("client", bounds, max_methods)
        self._snapshots = Snapshots()
        try:
            (registry or REGISTRY).register(self)
        except ValueError as error:
            raise UsageError(
                f"this registry has metrics of these names: make one Metrics, and give it to all ({error})"
            ) from error

    async def __call__(self, call: AnyCall, proceed: Proceed) -> Any:
        """Run the call, and count it."""
        side = self._server if on_server(call) else self._client
        tally = side.tallies.get(call.method) or side.begin(call.method)
        tally.started += 1
        started = _monotonic()
        try:
            result = await proceed()
        except BaseException as error:
            tally.end(outcome(call, error), _monotonic() - started)
            raise
        tally.end(outcome(call, None), _monotonic() - started)
        return result

    def watch(self, watched: Watched, name: str) -> None:
        """Add what `statistics()` says of a server or client, read when Prometheus asks; call it inside its block.

        Of a server: `aiozpat_server_sessions{name}`, `aiozpat_server_calls_queued{name}`,
        `aiozpat_server_waiting_bytes{name}` and `aiozpat_server_notices_total{name, kind}`: what went wrong, by kind,
        refused calls among it. Of a client: `aiozpat_client_calls_in_flight{name}`,
        `aiozpat_client_session_tries_total{name}`, `aiozpat_client_waiting_bytes{name}` and
        `aiozpat_client_notices_total{name, kind}`.

        Args:
            watched: The server or client. It is kept, also once it is closed.
            name: What to call it. Another server, or client, of that name takes its place.

        Raises:
            UsageError: No event loop runs here.
        """
        self._snapshots.watch(watched, name)

    def describe(self) -> Iterator[Metric]:
        """The metrics that there may be, without values; for the registry."""
        yield from self._server.families(())
        yield from self._client.families(())
        yield from families(())

    def collect(self) -> Iterator[Metric]:
        """The metrics; for the registry, from any thread."""
        # Lists made in one step: calls go on meanwhile, in another thread.
        yield from self._server.families(list(self._server.tallies.items()))
        yield from self._client.families(list(self._client.tallies.items()))
        yield from families(self._snapshots.read())


class _Tally:
    """The calls of one method.

    Nothing here is locked: the loops that write share the interpreter's lock, which does not change hands inside one of
    these additions.
    """

    __slots__ = ("_bounds", "buckets", "codes", "seconds", "started")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.started = 0
        self.codes: defaultdict[str, int] = defaultdict(int, OK=0)
        self.seconds = 0.0
        self.buckets = [0] * (len(bounds) + 1)
        self._bounds = bounds

    def end(self, code: str, seconds: float) -> None:
        """Count a call that has ended."""
        self.codes[code] += 1
        self.seconds += seconds
        self.buckets[bisect_left(self._bounds, seconds)] += 1


class _Side:
    """The calls of servers, or of clients."""

    def __init__(self, name: str, bounds: tuple[float, ...], most: float) -> None:
        self.tallies: dict[str, _Tally] = {}
        self._name = name
        self._bounds = bounds
        self._labels = [*map(str, bounds), "+Inf"]
        self._most = most

    def begin(self, method: str) -> _Tally:
        """The tally of a method that has none yet."""
        if len(self.tallies) >= self._most:
            method = _OTHER
        tally = self.tallies.get(method)
        if tally is None:
            tally = self.tallies[method] = _Tally(self._bounds)
        return tally

    def families(self, tallies: Iterable[tuple[str, _Tally]]) -> Iterator[Metric]:
        """The metrics of these methods."""
        prefix = f"aiozpat_{self._name}"
        started = CounterMetricFamily(f"{prefix}_calls_started", "Calls that began.", labels=["method"])
        ended = CounterMetricFamily(f"{prefix}_calls", "Calls that ended, and how.", labels=["method", "code"])
        seconds = HistogramMetricFamily(f"{prefix}_call_seconds", "How long calls took.", labels=["method"])
        running = GaugeMetricFamily(f"{prefix}_calls_running", "Calls that have not ended.", labels=["method"])
        for method, tally in tallies:
            codes = dict(tally.codes)
            for code, count in codes.items():
                ended.add_metric([method, code], count)
            begun = tally.started  # read after those that ended, so that none seems to end before it began
            started.add_metric([method], begun)
            running.add_metric([method], begun - sum(codes.values()))
            cumulated = map(float, accumulate(tally.buckets[:]))
            seconds.add_metric([method], list(zip(self._labels, cumulated, strict=True)), tally.seconds)
        yield from (started, ended, seconds, running)
