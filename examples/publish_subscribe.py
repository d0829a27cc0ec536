"""Publish-subscribe (PUB-SUB): the publisher sends to all, a subscriber gets the topics that it chose.

Usage:

    python examples/publish_subscribe.py                                     both, in one program
    python examples/publish_subscribe.py publisher tcp://127.0.0.1:5556      once a subscriber is there
    python examples/publish_subscribe.py subscriber tcp://127.0.0.1:5556     until the publisher says that it's over

Prints:

    [subscriber] weather.snow: -10
    [subscriber] weather.rain: 4
    [subscriber] weather.end: good night
"""

import asyncio
import contextlib
import sys

import aiozpat


async def publish(publisher: aiozpat.Publisher) -> None:
    """The publisher. What is published before somebody has subscribed is gone, so it waits for that."""
    await publisher.wait_for_subscribers("weather")
    await publisher.send("weather.snow", "-10")
    await publisher.send("news.sport", "nobody here has subscribed to news")
    await publisher.send("weather.rain", "4")
    await publisher.send("weather.end", "good night")


async def subscribe(endpoint: str) -> None:
    """The subscriber: takes all topics that begin with `weather`."""
    async with aiozpat.Subscriber(connect=endpoint, topics="weather") as subscriber:
        async for message in subscriber:
            print(f"[subscriber] {message.topic.decode()}: {message.text()}")
            if message.topic == b"weather.end":  # it can't see that a publisher has gone; it must be told
                break


async def main(role: str = "both", endpoint: str = "tcp://127.0.0.1:*") -> None:
    """Run one end, or both."""
    match role:
        case "publisher":
            async with aiozpat.Publisher(bind=endpoint) as publisher:
                await publish(publisher)
        case "subscriber":
            await subscribe(endpoint)
        case "both":
            async with asyncio.TaskGroup() as group, aiozpat.Publisher(bind=endpoint) as publisher:
                group.create_task(subscribe(publisher.endpoint))
                await publish(publisher)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        aiozpat.run(main(*sys.argv[1:]))
