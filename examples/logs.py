"""Log collection and notices: services push log lines to a collector (PUSH-PULL), which publishes notices (PUB-SUB).

Prints:

    [screen] status.payments: the card terminal is gone
    [screen] status.end: 4 lines of 2 services
"""

import asyncio

from aiozpat import Publisher, Puller, Pusher, Subscriber, run

LINES = {
    "orders": ["INFO order 17 has come in", "INFO order 18 has come in"],
    "payments": ["INFO order 17 is paid", "ERROR the card terminal is gone"],
}


async def service(name: str, collector: str) -> None:
    """One of the services: its lines go out in the background, also to a collector that is slow or not there yet."""
    async with Pusher(connect=collector, linger=5) as log:
        await log.send_many([(name, line) for line in [*LINES[name], "END"]])


async def collect(log: Puller, notices: Publisher) -> None:
    """Take the lines of all services until all have ended; who wants to know of trouble need not read them."""
    await notices.wait_for_subscribers("status")  # a notice that nobody has subscribed to yet is lost; lines wait
    count, running = 0, set(LINES)
    while running:
        name, line = (frame.decode() for frame in (await log.recv()).frames)
        level, _, text = line.partition(" ")
        if level == "END":
            running.remove(name)
            continue
        count += 1
        if level == "ERROR":
            await notices.send(f"status.{name}", text)
    await notices.send("status.end", f"{count} lines of {len(LINES)} services")


async def screen(collector: str) -> None:
    """Show the notices."""
    async with Subscriber(connect=collector, topics="status") as notices:
        async for notice in notices:
            print(f"[screen] {notice.topic.decode()}: {notice.text()}")
            if notice.topic == b"status.end":
                break


async def main() -> None:
    """All in one program; each part could be one of its own."""
    async with Puller(bind="tcp://127.0.0.1:*") as log, Publisher(bind="tcp://127.0.0.1:*") as notices:
        services = [service(name, log.endpoint) for name in LINES]
        await asyncio.gather(screen(notices.endpoint), collect(log, notices), *services)


if __name__ == "__main__":
    run(main())
