"""A traced server; given another's endpoint and name, its handler calls that one. It tells the spans it has made."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aiozpat
from aiozpat.observability.otel import Tracing
from tests.support import LOOPBACK


async def main(name: str, endpoint: str = "", other: str = "") -> None:
    """Serve until a signal comes."""
    asyncio.get_running_loop().slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing, service = Tracing(provider), aiozpat.Service(name)
    async with contextlib.AsyncExitStack() as stack:
        client: aiozpat.Client | None = None
        if endpoint:
            client = await stack.enter_async_context(aiozpat.Client(endpoint, interceptors=[tracing]))

        @service.method
        async def work(n: int) -> int:
            return n if client is None else await client.call(f"{other}.work", n + 1, result_type=int)

        @service.method
        async def spans() -> list[str]:
            return [span.to_json() for span in exporter.get_finished_spans()]

        server = await stack.enter_async_context(aiozpat.Server(service, bind=LOOPBACK, interceptors=[tracing]))
        print(server.endpoint, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    aiozpat.run(main(*sys.argv[1:]))
