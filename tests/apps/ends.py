"""The two ends of a pipeline without end: one hands out tasks, the other counts what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys

import aiozpat


async def main(tasks: str, results: str) -> None:
    """Be both ends, for four workers, and say where."""
    asyncio.get_running_loop().slow_callback_duration = 10.0  # seconds; a slow machine is no finding
    async with aiozpat.Pusher(bind=tasks, linger=60) as pusher, aiozpat.Puller(bind=results) as puller:
        print(pusher.endpoint, puller.endpoint, flush=True)
        await pusher.wait_for_peers(4)
        sending = asyncio.create_task(pusher.send_many(b"%d" % number for number in itertools.count()))
        try:
            count = 0
            async for _ in puller:
                count += 1
                if count == 1000:
                    print("busy", flush=True)
        finally:
            sending.cancel()
            await asyncio.wait({sending})


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        aiozpat.run(main(*sys.argv[1:]))
