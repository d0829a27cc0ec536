"""What is measured and what is compared with what; the order in which it is done makes the comparisons fair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import plans
from benchmarks.plans import Comparison, Plan

# By name: what `benchmarks.contenders` calls it, the loop it runs on, and what it is. They run in this order, so that
# those that are compared with each other are neighbours in time.
CONTENDERS = {
    "req-rep": ("req-rep", "", "pyzmq's blocking REQ and REP in lockstep; only with 1 in flight"),
    "blocking": ("blocking", "", "pyzmq's blocking sockets, a DEALER and a ROUTER that echoes frame by frame; no RPC"),
    "reader": (
        "reader",
        "uvloop",
        "the least of asyncio: a uvloop reader on pyzmq's socket, a future a message; no RPC; with 1 and 256 in flight",
    ),
    "aiozpat": ("aiozpat", "uvloop", "this library as aiozpat.run() runs it, on uvloop, at its default settings"),
    "aiozpat-asyncio": ("aiozpat", "asyncio", "the same on asyncio's own loop"),
    "blocking-multipart": (
        "blocking-multipart",
        "",
        "blocking, by recv_multipart and send_multipart; not with 1 in flight",
    ),
    "zmq.asyncio": ("zmq.asyncio", "uvloop", "pyzmq's asyncio sockets on uvloop, a task for each message"),
    "grpc.aio": (
        "grpc.aio",
        "uvloop",
        "grpc.aio's unary calls on uvloop, without serializers; with 1 and 256 in flight",
    ),
    "nats.py": ("nats.py", "uvloop", "`request` of nats.py on uvloop, through nats-server; with 1 and 256 in flight"),
}

BASE = 256  # calls in flight on one client, for whatever is compared with "the usual load"
MANY_CALLS = 10_000
_PATIENT = 120.0  # seconds; so many calls at once must not reach their deadline on a slow machine
_SLOWEST = 20_000  # calls a second; where many are in flight, the callers should take several turns even then


@dataclass(frozen=True, slots=True)
class Case(plans.AnyCase):
    """One contender under one load.

    Args:
        contender: Its name here.
        clients: Clients, all in one process.
        in_flight: Calls in flight by each of them.
        method: What aiozpat's clients call.
    """

    clients: int
    in_flight: int
    method: str = "echo"

    def __str__(self) -> str:
        clients = f"{self.clients:,} client{'s' if self.clients > 1 else ''}"
        method = "" if self.method == "echo" else f" ({self.method})"
        return f"{self.contender}{method}, {clients}, {self.in_flight:,} in flight{' each' if self.clients > 1 else ''}"

    def seconds(self, wanted: float) -> float:
        """How long to measure, if `wanted` is long enough."""
        return max(wanted, self.clients * self.in_flight / _SLOWEST)

    def server_options(self) -> list[str]:
        """The command line for `benchmarks.contenders`, both roles alike."""
        name, loop, _ = CONTENDERS[self.contender]
        return [name, *(("--loop", loop) if loop else ())]

    def client_options(self) -> list[str]:
        """The rest of it for the client."""
        load = ["--clients", str(self.clients), "--in-flight", str(self.in_flight), "--method", self.method]
        patience = ["--timeout", str(_PATIENT)] if self.clients * self.in_flight >= MANY_CALLS else []
        return [*load, *patience]


_FURTHER_BASES = ("blocking-multipart", "reader", "zmq.asyncio", "grpc.aio", "nats.py")  # for aiozpat, beside the first
_PEER_LOADS = dict.fromkeys(("reader", "grpc.aio", "nats.py"), (1, BASE))  # calls in flight; others tell no more


def plan(contenders: Sequence[str], in_flight: Sequence[int], clients: int) -> Plan[Case]:
    """What to do for these contenders and loads; extras of aiozpat come with it.

    Args:
        contenders: Some of CONTENDERS.
        in_flight: Calls in flight on one client.
        clients: Clients where many clients are measured.
    """
    # The usual load comes last, since the extras that follow are compared with it.
    loads = [*(load for load in in_flight if load != BASE), *(load for load in in_flight if load == BASE)]
    cases = [Case(name, 1, load) for load in loads for name in contenders if _takes_part(name, load)]
    comparisons: list[Comparison[Case]] = []
    for load in in_flight:
        base, figure = (Case("req-rep", 1, 1), "p50_us") if load == 1 else (Case("blocking", 1, load), "rate")
        alike = [case for case in cases if case.in_flight == load and case != base]
        comparisons += [Comparison(case, base, figure) for case in alike]
        comparisons += [Comparison(Case("aiozpat", 1, load), Case(peer, 1, load)) for peer in _FURTHER_BASES]
    extras, further = _extras(contenders, clients)
    return plans.plan([*cases, *extras], [*comparisons, *further])


def _takes_part(contender: str, in_flight: int) -> bool:
    """REQ has one request in flight; and one in flight is about latency, where frame by frame is enough of blocking."""
    if contender in _PEER_LOADS:
        return in_flight in _PEER_LOADS[contender]
    return contender != ("blocking-multipart" if in_flight == 1 else "req-rep")


def _extras(contenders: Sequence[str], clients: int) -> tuple[list[Case], list[Comparison[Case]]]:
    """What only aiozpat is measured for, and what that is compared with."""
    if "aiozpat" not in contenders:
        return [], []
    blocking, usual = Case("blocking", 1, BASE), Case("aiozpat", 1, BASE)
    suspending = Case("aiozpat", 1, BASE, "suspend")
    many_calls = Case("aiozpat", 1, MANY_CALLS)
    many_clients = Case("aiozpat", clients, 20)
    one_each, peer_one_each = Case("aiozpat", clients, 1), Case("zmq.asyncio", clients, 1)
    cases = [blocking, suspending, usual, many_calls, many_clients, one_each, peer_one_each]
    comparisons = [
        Comparison(suspending, blocking),
        Comparison(suspending, Case("blocking-multipart", 1, BASE)),
        Comparison(many_calls, usual),
        Comparison(many_clients, usual),
        Comparison(many_clients, many_calls),
        Comparison(one_each, peer_one_each),
    ]
    return [case for case in cases if case.contender in contenders], comparisons
