"""What every server answers of itself, without a line of code for it: ping, info, statistics, health.

That is what a load balancer, a dashboard or a person with a question calls; also a full or draining server answers it.

Prints:

    pong
    weather 1.2.0: {'status': 'serving'}
    weather.now(city, unit='C') -> number: The temperature now.
    weather.watch(city) -> stream of number: Each change of the temperature.
    weather.now: 3 calls, 1 error
"""

from collections.abc import AsyncIterator
from typing import Any

import aiozpat

weather = aiozpat.Service("weather", version="1.2.0")


@weather.method(idempotent=True)
async def now(city: str, unit: str = "C") -> float:
    """The temperature now."""
    if city != "Bergen":
        raise aiozpat.errors.NotFound(f"no thermometer in {city}")
    return 7.5 if unit == "C" else 45.5


@weather.method
async def watch(city: str) -> AsyncIterator[float]:
    """Each change of the temperature."""
    yield await now(city)


def described(method: dict[str, Any]) -> str:
    """A method as one would write it down; its types are JSON Schema, which other tools understand as well."""
    schema = method["params"]  # a reference into its own definitions, since types may refer to each other
    properties = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]
    params = [name + (f"={about['default']!r}" if "default" in about else "") for name, about in properties.items()]
    result = ("stream of " if method["streams"] else "") + method["result"]["type"]
    return f"{method['name']}({', '.join(params)}) -> {result}: {method['about']}"


async def main() -> None:
    """Ask a server who it is and how it is doing."""
    async with (
        aiozpat.Server(weather, bind="tcp://127.0.0.1:*", name="weather") as server,
        aiozpat.Client(server.endpoint) as client,
    ):
        print(await client.call("aiozpat.ping"))
        info = await client.call("aiozpat.info")
        health = await client.call("aiozpat.health")
        for service in info["services"]:
            print(f"{service['name']} {service['version']}: {health}")
            for method in service["methods"]:
                print(described(method))

        for city in ("Bergen", "Oslo", "Bergen"):
            try:
                await client.call("weather.now", city)
            except aiozpat.errors.NotFound:
                continue
        statistics = await client.call("aiozpat.statistics")
        counts = statistics["methods"]["weather.now"]
        print(f"weather.now: {counts['calls']} calls, {counts['errors']} error")


if __name__ == "__main__":
    aiozpat.run(main())
