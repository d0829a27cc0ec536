"""A broker queues requests and hands each to the worker that has the fewest, so that few wait behind a long one.

Prints:

    19 short jobs are done while one worker has a long one; then the rest: long, short
"""

import asyncio
import contextlib

import aiozpat


async def broker(router: aiozpat.Router) -> None:
    """One Router for both sides: workers say READY and DONE, all else is a job. Who dies takes its jobs along."""
    load, queue = dict[bytes, int](), list[aiozpat.Request]()  # jobs in hand by worker, and those that wait here

    async def handle(message: aiozpat.Request) -> None:
        match message.frames:
            case (b"READY",):
                load[message.identity] = 0
            case (b"DONE", client, answer) if message.identity in load:
                load[message.identity] -= 1
                with contextlib.suppress(aiozpat.PeerUnreachable, aiozpat.TimedOut):  # it is gone, or does not read
                    await router.send(client, answer, timeout=0)
            case _:
                queue.append(message)
        while queue and load and min(load.values()) < 2:  # one to do, one to go on with; the others can go to any
            worker, job = min(load, key=load.__getitem__), queue[0]
            in_hand = load.pop(worker)
            with contextlib.suppress(aiozpat.PeerUnreachable):  # it is out then, and another gets the job
                await router.send(worker, job.identity, job.body)
                load[worker] = in_hand + 1
                queue.pop(0)

    await router.serve(handle, max_concurrency=1)  # one message after the other, until the router is closed


async def work(endpoint: str, finish: asyncio.Event) -> None:
    """A worker: one job after the other; a long one lasts until it is told to finish."""
    async with aiozpat.Dealer(connect=endpoint) as dealer:
        await dealer.send("READY")
        async for job in dealer:
            if job.body == b"long":
                await finish.wait()
            await dealer.send("DONE", *job.frames)


async def main() -> None:
    """Three workers, and a client that sends all its jobs at once."""
    finish = asyncio.Event()
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        group.create_task(broker(router))
        workers = [group.create_task(work(router.endpoint, finish)) for _ in range(3)]
        async with aiozpat.Dealer(connect=router.endpoint) as client:
            await client.send_many(["long"] + ["short"] * 20)
            done = [(await client.recv(timeout=10)).text() for _ in range(19)]  # 14 if dealt out in turn
            finish.set()
            rest = sorted([(await client.recv(timeout=10)).text() for _ in range(2)])
        _ = [worker.cancel() for worker in workers]
    print(done.count("short"), "short jobs are done while one worker has a long one; then the rest:", ", ".join(rest))


if __name__ == "__main__":
    aiozpat.run(main())
