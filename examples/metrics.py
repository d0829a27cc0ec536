"""Metrics of a server and a client, as Prometheus reads them.

It needs `pip install 'aiozpat[prometheus]'`. A real program says `prometheus_client.start_http_server(9100)` once, and
Prometheus asks it; here the lines that count the calls are printed, without the histograms of how long they took.

Prints:

    aiozpat_server_calls_total{code="OK",method="stock.take"} 3.0
    aiozpat_server_calls_total{code="NOT_FOUND",method="stock.take"} 1.0
    aiozpat_client_calls_total{code="OK",method="stock.take"} 3.0
    aiozpat_client_calls_total{code="NOT_FOUND",method="stock.take"} 1.0
    aiozpat_client_calls_total{code="OK",method="stock.give"} 0.0
    aiozpat_client_calls_total{code="UNIMPLEMENTED",method="stock.give"} 1.0
    aiozpat_server_sessions{name="stock"} 1.0
"""

from contextlib import suppress

from prometheus_client import REGISTRY, generate_latest

import aiozpat
from aiozpat.observability.prometheus import Metrics

stock = aiozpat.Service("stock")


@stock.method
async def take(thing: str) -> int:
    """Take one; how many are left."""
    if thing != "apple":
        raise aiozpat.errors.NotFound(f"no {thing} here")
    return 41


async def main() -> None:
    """Serve, call, and print what was counted."""
    metrics = Metrics()  # one for all servers and clients of a program
    async with (
        aiozpat.Server(stock, bind="tcp://127.0.0.1:*", interceptors=[metrics]) as server,
        aiozpat.Client(server.endpoint, interceptors=[metrics]) as client,
    ):
        metrics.watch(server, "stock")
        for thing in ("apple", "apple", "unicorn", "apple"):
            with suppress(aiozpat.errors.NotFound):
                await client.call("stock.take", thing)
        with suppress(aiozpat.Unimplemented):
            await client.call("stock.give", "apple")
        for line in generate_latest(REGISTRY).decode().splitlines():
            if line.startswith(("aiozpat_server_calls_total", "aiozpat_client_calls_total", "aiozpat_server_sessions")):
                print(line)


if __name__ == "__main__":
    aiozpat.run(main())
