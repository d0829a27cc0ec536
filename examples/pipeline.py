"""Pipeline (PUSH-PULL): a ventilator hands out tasks, workers do them, a sink collects; then all end by themselves.

Usage: `python examples/pipeline.py`; or apart, in any order, one `ventilator`, one `sink` and three times `worker`:

    python examples/pipeline.py ventilator tcp://127.0.0.1:5557 tcp://127.0.0.1:5558 tcp://127.0.0.1:5559

Prints:

    9 tasks done by 3 workers: [1, 4, 9, 16, 25, 36, 49, 64, 81]
"""

import asyncio
import contextlib
import sys
import tempfile

from aiozpat import Publisher, Puller, Pusher, Subscriber, run


async def ventilator(tasks: str, results: str, end: str) -> None:
    """Hand out the tasks."""
    async with Pusher(bind=tasks, linger=60) as workers:  # seconds at most for what is on its way to slow workers
        await workers.wait_for_peers(3)  # or the first to come would get them all
        await workers.send_many([str(number) for number in range(1, 10)])


async def worker(tasks: str, results: str, end: str) -> None:
    """Do tasks until the sink says that it has all results."""

    async def work() -> None:
        async for task in todo:
            await done.send(hex(id(todo)), str(int(task.text()) ** 2))

    async with Subscriber(connect=end, topics="end") as over, Pusher(connect=results) as done:
        await over.ready()  # before it takes a task, so that it can't miss the end
        async with asyncio.TaskGroup() as group, Puller(connect=tasks) as todo:
            group.create_task(work())
            await over.recv()


async def sink(tasks: str, results: str, end: str) -> None:
    """Gather the results, from all workers at once."""
    async with Puller(bind=results) as done, Publisher(bind=end) as over:
        found = [(await done.recv()).frames for _ in range(9)]
        await over.send("end")
    print(f"{len(found)} tasks done by {len({name for name, _ in found})} workers:", sorted(int(n) for _, n in found))


async def main(role: str = "all", *endpoints: str) -> None:
    """Run one part, or all."""
    parts = {"ventilator": [ventilator], "sink": [sink], "worker": [worker], "all": [ventilator, sink] + [worker] * 3}
    with tempfile.TemporaryDirectory() as folder:
        local = [f"ipc://{folder}/{name}" for name in ("tasks", "results", "end")]
        await asyncio.gather(*(part(*(endpoints or local)) for part in parts.get(role) or sys.exit(__doc__)))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        run(main(*sys.argv[1:]))
