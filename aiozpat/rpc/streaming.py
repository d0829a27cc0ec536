"""Calls with streams, as a server runs them."""

from __future__ import annotations

from collections.abc import Sequence

from aiozpat.errors import InvalidArgument, ProtocolError, Unimplemented
from aiozpat.protocol.flow import MAX_WINDOW, SendFlow
from aiozpat.protocol.records import Credit, End, Item, Opening
from aiozpat.rpc.current import Job
from aiozpat.rpc.failures import unencodable
from aiozpat.rpc.flows import Inbound, Outbound
from aiozpat.rpc.route import Route


def attach(job: Job, opening: Opening | None, window: int) -> None:
    """Give a call the streams that it was opened with.

    Args:
        job: The call; its params get the stream that the client sends.
        opening: What the client asked for.
        window: How many units the client may be ahead.

    Raises:
        Unimplemented: The method is not of that kind.
        ProtocolError: No correct client asks for that.
    """
    route, session = job.route, job.session
    if opening is None:
        raise Unimplemented(how(route, opening))
    if not 0 <= opening.credit <= MAX_WINDOW or opening.idle < 0 or job.key < 0:
        raise ProtocolError(f"a stream with credit {opening.credit}, idle {opening.idle} or without an id")
    if not fits(route, opening):
        raise Unimplemented(how(route, opening))
    if route.replies:
        job.outbound = Outbound(session, SendFlow(job.key, opening.credit), route.name, unencodable)
    if route.stream_at is not None:
        items = route.items(session.values)
        job.inbound = Inbound(
            session, job.key, window, items, route.name, idle=opening.idle * 0.001, wrong=InvalidArgument
        )
        job.args = (*job.args[: route.stream_at], job.inbound, *job.args[route.stream_at :])


def fits(route: Route, opening: Opening | None) -> bool:
    """Whether a method is of the kind that a client takes it for."""
    if opening is None or not route.streams:
        return opening is None and not route.streams
    return route.sends == opening.sends and (bool(opening.credit) or not route.replies)


def how(route: Route, opening: Opening | None) -> str:
    """How a method is to be called that was called with such an opening."""
    if route.sends:
        use = "stream()" if route.replies else "call()"
        kind = f"converses: {route.stream_name}" if route.replies else f"{route.stream_name}"
        return (
            f"{route.name}: {kind} takes a stream: use open(), or give {use} an async iterator there (any iterator in "
            "aiozpat.sync), or use a stub"
        )
    so = ", with no iterator among the params" if opening is not None and opening.sends else ""
    if route.replies:
        return f"{route.name} streams its replies: use stream(){so}, or a stub"
    return f"{route.name} takes no stream and gives one result: use call(){so}"


def take(job: Job, record: Item | End | Credit, buffers: Sequence[memoryview]) -> None:
    """Take a record of a running call's streams.

    Raises:
        ProtocolError: The call has no such stream, or not so much credit.
    """
    if type(record) is Credit:
        if job.outbound is None:
            raise ProtocolError(f"credit for call {record.id}, which sends no items")
        job.outbound.grant(record.units)
        return
    if job.inbound is None:
        raise ProtocolError(f"items for call {record.id}, which takes none")
    if type(record) is Item:
        job.inbound.feed(record, buffers)
    else:
        job.inbound.finish()
