"""A trace through two services: the shop's handler calls the stock's, and OpenTelemetry has one tree of all of it.

It needs `pip install 'aiozpat[otel]' opentelemetry-sdk`. A real program gives the spans to a collector: it has an
OTLPSpanExporter in the place of the one here, which keeps them in memory.

Prints:

    client shop.buy
    > server shop.buy
    > > client stock.take
    > > > server stock.take
    > > client stock.take NOT_FOUND
    > > > server stock.take NOT_FOUND
"""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aiozpat
from aiozpat.observability.otel import Tracing

shop, stock = aiozpat.Service("shop"), aiozpat.Service("stock")
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
tracing = Tracing(provider)  # one for all: it makes a client's spans and a server's


@stock.method
async def take(thing: str) -> int:
    """Take one; how many are left."""
    if thing != "apple":
        raise aiozpat.errors.NotFound(f"no {thing} here")
    return 41


def show(parent: int | None, indent: str = "") -> None:
    """Print the spans below one, oldest first."""
    for span in sorted(spans.get_finished_spans(), key=lambda span: span.start_time or 0):
        if (span.parent.span_id if span.parent else None) == parent:
            print(indent + about(span))
            show(span.context.span_id, f"{indent}> ")


def about(span: ReadableSpan) -> str:
    """A span in a few words."""
    code = (span.attributes or {}).get("rpc.response.status_code")
    failed = f" {code}" if code != "OK" else ""
    return f"{span.kind.name.lower()} {span.name}{failed}"


async def main() -> None:
    """Serve both, and buy something."""
    async with (
        aiozpat.Server(stock, bind="tcp://127.0.0.1:*", interceptors=[tracing]) as at_stock,
        aiozpat.Client(at_stock.endpoint, interceptors=[tracing]) as to_stock,
    ):

        @shop.method
        async def buy(things: list[str]) -> int:
            """Buy what there is; how many of them that was."""
            found = 0
            for thing in things:
                try:
                    await to_stock.call("stock.take", thing)
                    found += 1
                except aiozpat.errors.NotFound:
                    continue
            return found

        async with (
            aiozpat.Server(shop, bind="tcp://127.0.0.1:*", interceptors=[tracing]) as at_shop,
            aiozpat.Client(at_shop.endpoint, interceptors=[tracing]) as to_shop,
        ):
            await to_shop.call("shop.buy", ["apple", "unicorn"])
    show(None)


if __name__ == "__main__":
    aiozpat.run(main())
