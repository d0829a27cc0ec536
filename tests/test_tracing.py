"""Spans of calls, and the context that travels with them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import aiozpat
from aiozpat import Client, Proceed, Server, Service, errors
from aiozpat.observability import otel
from aiozpat.observability.otel import Tracing
from tests.support import LOOPBACK, Calc, Process, until

Link = tuple[str, str | None, str]  # a span's own id, its parent's, its name


@dataclass
class Traced:
    """A tracer, and the spans that it has made."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    provider: TracerProvider = field(default_factory=lambda: TracerProvider(shutdown_on_exit=False))

    def __post_init__(self) -> None:
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(self.provider)

    def take(self) -> list[ReadableSpan]:
        """The spans that have ended since it was asked last."""
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans

    def take_pair(self) -> tuple[ReadableSpan, ReadableSpan]:
        """The client's and the server's span of the one call that was made."""
        client, server = sorted(self.take(), key=lambda span: span.kind is SpanKind.SERVER)
        assert (client.kind, server.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
        assert server.parent is not None
        assert server.parent.is_remote
        assert server.parent.span_id == client.context.span_id
        return client, server


@pytest.fixture
def traced() -> Traced:
    return Traced()


def says(span: ReadableSpan) -> tuple[Any, Any, StatusCode]:
    """How a span says that its call ended."""
    attributes = span.attributes or {}
    return attributes.get("rpc.response.status_code"), attributes.get("error.type"), span.status.status_code


def chain(spans: list[Link]) -> list[str]:
    """The names of spans of which each is the parent of the next."""
    below = {parent: (own, name) for own, parent, name in spans}
    assert len(below) == len(spans)
    names, at = list[str](), None
    while at in below:
        at, name = below[at]
        names.append(name)
    return names


async def test_a_trace_through_two_services_is_one_tree(traced: Traced, calc: Calc) -> None:
    front = aiozpat.Service("front")
    tracing = [traced.tracing]
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=tracing) as back_server,
        Client(back_server.endpoint, interceptors=tracing) as to_back,
    ):

        @front.method
        async def sum_up(a: int, b: int) -> int:
            with trace.get_tracer("mine", tracer_provider=traced.provider).start_as_current_span("think"):
                return await to_back.call("calc.add", a, b, result_type=int)

        async with (
            Server(front, bind=LOOPBACK, interceptors=tracing) as front_server,
            Client(front_server.endpoint, interceptors=tracing) as client,
        ):
            results = await asyncio.gather(*(client.call("front.sum_up", n, n) for n in range(10)))
    assert results == [2 * n for n in range(10)]
    traces: dict[int, list[ReadableSpan]] = {}
    for span in traced.take():
        traces.setdefault(span.context.trace_id, []).append(span)
    assert len(traces) == 10
    for spans in traces.values():
        links: list[Link] = [
            (
                f"{span.context.span_id}",
                f"{span.parent.span_id}" if span.parent else None,
                f"{span.kind.name} {span.name}",
            )
            for span in spans
        ]
        assert chain(links) == [
            "CLIENT front.sum_up",
            "SERVER front.sum_up",
            "INTERNAL think",
            "CLIENT calc.add",
            "SERVER calc.add",
        ]
        for span in spans:
            if span.name != "think":
                assert span.attributes == {
                    "rpc.system.name": "aiozpat",
                    "rpc.method": span.name,
                    "rpc.response.status_code": "OK",
                }
                assert span.status.status_code is StatusCode.UNSET
                assert not span.events


async def test_a_trace_through_three_processes_is_one_tree(traced: Traced, processes: Callable[..., Process]) -> None:
    back = await processes("traced", "back").line()
    front = await processes("traced", "front", back, "back").line()
    async with Client(front, interceptors=[traced.tracing]) as client:
        assert await client.call("front.work", 1) == 2
    (root,) = traced.take()
    links: list[Link] = [(f"0x{root.context.span_id:016x}", None, f"CLIENT {root.name}")]
    for name, endpoint in (("front", front), ("back", back)):
        async with Client(endpoint) as client:
            for text in await client.call(f"{name}.spans"):
                span = json.loads(text)
                assert span["context"]["trace_id"] == f"0x{root.context.trace_id:032x}"
                kind = span["kind"].removeprefix("SpanKind.")
                links.append((span["context"]["span_id"], span["parent_id"], f"{kind} {span['name']}"))
    assert chain(links) == ["CLIENT front.work", "SERVER front.work", "CLIENT back.work", "SERVER back.work"]


async def test_what_is_an_error_depends_on_the_side(traced: Traced, calc: Calc) -> None:
    @calc.service.method
    async def nested() -> None:
        async with Client("tcp://127.0.0.1:1", wait_for_ready=False) as other:
            await other.call("no.body")

    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[traced.tracing]) as server,
        Client(server.endpoint, interceptors=[traced.tracing]) as client,
    ):

        async def failed(*args: Any, timeout: float = 10.0) -> tuple[ReadableSpan, ReadableSpan]:
            with pytest.raises(errors.RpcError):
                await client.call(*args, timeout=timeout)
            await until(lambda: server.statistics().running == 0)
            return traced.take_pair()

        of_client, of_server = await failed("calc.fail", "precondition")
        assert says(of_client) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION", StatusCode.ERROR)
        assert of_client.status.description == "not now"
        assert says(of_server) == ("FAILED_PRECONDITION", None, StatusCode.UNSET)
        assert not of_client.events
        assert not of_server.events

        of_client, of_server = await failed("calc.fail", "value")
        for span in (of_client, of_server):
            assert says(span) == ("INTERNAL", "INTERNAL", StatusCode.ERROR)
            assert "that went wrong" in (span.status.description or "")
        assert not of_client.events  # what there is to see, is seen on the server
        (event,) = of_server.events
        assert event.name == "exception"
        assert (event.attributes or {})["exception.type"] == "ValueError"
        assert "async def fail" not in str((event.attributes or {})["exception.stacktrace"])
        assert "in fail" in str((event.attributes or {})["exception.stacktrace"])

        of_client, _ = await failed("calc.hold", 1, timeout=0.5)
        assert says(of_client) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", StatusCode.ERROR)
        # A notification: of a call the client might say first that it doesn't wait any more.
        await client.notify("calc.hold", 3, timeout=0.5)
        await until(lambda: 3 in calc.cancelled and server.statistics().running == 0)
        (of_server,) = [span for span in traced.take() if span.kind is SpanKind.SERVER]
        assert says(of_server) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", StatusCode.ERROR)

        of_client, of_server = await failed("calc.nested")
        assert says(of_client) == says(of_server) == ("INTERNAL", "INTERNAL", StatusCode.ERROR)

        with pytest.raises(errors.Unimplemented):
            await client.call("calc.nothing")
        (of_client,) = traced.take()
        assert says(of_client) == ("UNIMPLEMENTED", "UNIMPLEMENTED", StatusCode.ERROR)

        call = asyncio.create_task(client.call("calc.hold", 2))
        await until(lambda: 2 in calc.started)
        call.cancel()
        await asyncio.wait({call})
        await until(lambda: 2 in calc.cancelled and server.statistics().running == 0)
        of_client, of_server = traced.take_pair()
        assert says(of_client) == ("CANCELLED", "CANCELLED", StatusCode.ERROR)
        assert says(of_server) == ("CANCELLED", None, StatusCode.UNSET)


async def test_what_failed_before_it_had_a_status_is_named_by_its_exception(traced: Traced) -> None:
    kind: type[Exception] = LookupError

    async def break_down(call: Any, proceed: Proceed) -> Any:
        raise kind("not there")

    async with Client("tcp://127.0.0.1:1", interceptors=[traced.tracing, break_down]) as client:
        for kind, name in ((LookupError, "LookupError"), (errors.Closed, "aiozpat.errors.Closed")):
            with pytest.raises(kind):
                await client.call("calc.add", 1)
            (span,) = traced.take()
            assert says(span) == (None, name, StatusCode.ERROR)
            assert [event.name for event in span.events] == ["exception"]


async def test_a_stream_is_one_span_that_lasts_until_its_end(traced: Traced) -> None:
    service = aiozpat.Service("s")

    @service.method
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    @service.method
    async def total(numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    async with (
        Server(service, bind=LOOPBACK, interceptors=[traced.tracing]) as server,
        Client(server.endpoint, interceptors=[traced.tracing]) as client,
    ):
        async with client.stream("s.count", 1000) as stream:
            await anext(stream)
            assert not traced.exporter.get_finished_spans()
            assert len([number async for number in stream]) == 999
        assert [says(span) for span in traced.take_pair()] == [("OK", None, StatusCode.UNSET)] * 2
        async with client.stream("s.count", 10**9) as stream:
            await anext(stream)
        await until(lambda: server.statistics().running == 0)
        of_client, of_server = traced.take_pair()
        assert says(of_client) == ("OK", None, StatusCode.UNSET)
        assert says(of_server) == ("CANCELLED", None, StatusCode.UNSET)
        assert await client.call("s.total", numbers()) == 4950
        assert [says(span) for span in traced.take_pair()] == [("OK", None, StatusCode.UNSET)] * 2


async def test_the_caller_is_the_parent_and_not_who_opened_the_server(traced: Traced, calc: Calc) -> None:
    tracer = trace.get_tracer("mine", tracer_provider=traced.provider)
    with tracer.start_as_current_span("starting up") as starting:
        server = await Server(calc.service, bind=LOOPBACK, interceptors=[traced.tracing]).__aenter__()
    async with Client(server.endpoint, interceptors=[traced.tracing]) as client:
        with tracer.start_as_current_span("caller") as caller:
            await client.call("calc.add", 1)
            assert trace.get_current_span() is caller
        async with Client(server.endpoint) as untraced:
            await untraced.call("calc.add", 1)
            await untraced.call("calc.add", 1, metadata={"traceparent": "nonsense"})
    await server.close()
    assert starting is not None
    _, of_client, of_server, *alone = sorted(traced.take(), key=lambda span: span.start_time or 0)
    spans = {span.name: span for span in (of_client, of_server)}
    assert set(spans) == {"caller", "calc.add"}
    assert [(span.name, span.kind, span.parent) for span in alone[1:]] == [("calc.add", SpanKind.SERVER, None)] * 2


async def test_baggage_and_the_current_span_reach_the_handler(traced: Traced) -> None:
    service = aiozpat.Service("s")

    @service.method
    async def seen() -> list[Any]:
        return [baggage.get_baggage("who"), f"{trace.get_current_span().get_span_context().span_id}"]

    @service.method
    def seen_in_thread() -> list[Any]:
        return [baggage.get_baggage("who"), f"{trace.get_current_span().get_span_context().span_id}"]

    @service.method
    async def metadata() -> dict[str, str]:
        return dict(aiozpat.current_call().metadata)

    only_baggage = Tracing(traced.provider, W3CBaggagePropagator())
    token = context.attach(baggage.set_baggage("who", "anna"))
    try:
        async with Server(service, bind=LOOPBACK, interceptors=[traced.tracing]) as server:
            async with Client(server.endpoint, interceptors=[traced.tracing]) as client:
                for method in ("s.seen", "s.seen_in_thread"):
                    who, span_id = await client.call(method)
                    assert who == "anna"
                    assert span_id == f"{traced.take_pair()[1].context.span_id}"
                assert set(await client.call("s.metadata", metadata={"a": "b"})) == {"a", "baggage", "traceparent"}
            async with Client(server.endpoint, interceptors=[only_baggage]) as client:
                assert await client.call("s.metadata") == {"baggage": "who=anna"}
        async with (  # opened where there is baggage, which is not the caller's
            Server(service, bind=LOOPBACK, interceptors=[only_baggage]) as server,
            Client(server.endpoint) as client,
        ):
            assert (await client.call("s.seen"))[0] is None
            assert (await client.call("s.seen", metadata={"a": "b"}))[0] is None
    finally:
        context.detach(token)


async def test_what_a_caller_does_not_record_its_server_does_not_either(traced: Traced, calc: Calc) -> None:
    silent = Tracing(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False), TraceContextTextMapPropagator())
    tracer = trace.get_tracer("mine", tracer_provider=traced.provider)
    async with (
        Server(calc.service, bind=LOOPBACK, interceptors=[traced.tracing]) as server,
        Client(server.endpoint, interceptors=[silent]) as client,
    ):
        with tracer.start_as_current_span("caller") as caller:
            await client.call("calc.add", 1)
            with pytest.raises(errors.RpcError):
                await client.call("calc.fail", "value")
    # A server that was told nothing would begin a trace of its own.
    assert [span.context for span in traced.take()] == [caller.get_span_context()]


async def test_attributes_of_methods_are_kept_for_so_many_only(
    traced: Traced, calc: Calc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "_MOST", 2)
    async with (
        Server(calc.service, bind=LOOPBACK) as server,
        Client(server.endpoint, interceptors=[traced.tracing]) as client,
    ):
        for number in range(5):
            with pytest.raises(errors.Unimplemented):
                await client.call(f"no.{number}")
    assert [(span.attributes or {})["rpc.method"] for span in traced.take()] == [f"no.{number}" for number in range(5)]
    assert len(traced.tracing._attributes) == 2


async def test_an_error_whose_text_cant_be_had_keeps_its_code(traced: Traced) -> None:
    class Mute(errors.Unavailable):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    service = Service("s")

    @service.method
    async def fail() -> None:
        raise Mute("x")

    async with (
        Server(service, bind=LOOPBACK, interceptors=[traced.tracing]) as server,
        Client(server.endpoint) as client,
    ):
        with pytest.raises(errors.Unavailable):
            await client.call("s.fail")
        await until(lambda: server.statistics().running == 0)
        (span,) = traced.take()
        assert says(span)[0] == "UNAVAILABLE"
