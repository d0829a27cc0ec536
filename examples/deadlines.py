"""A deadline travels with the call, a cancelled caller cancels the handler, and a full method refuses at once.

Prints:

    DeadlineExceeded; the handler was cancelled
    ResourceExhausted
    CancelledError; the handler was cancelled
"""

import asyncio

import aiozpat

jobs = aiozpat.Service("jobs")
started, cancelled = asyncio.Event(), asyncio.Event()


@jobs.method(max_concurrency=1, max_queued=0)
async def long_job() -> None:
    """Work for an hour, unless nobody waits for it any more."""
    started.set()
    try:
        await asyncio.sleep(min(3600, aiozpat.current_call().time_left + 1))
    except asyncio.CancelledError:
        cancelled.set()
        raise


async def outcome(call: "asyncio.Task[None]") -> None:
    """Say how a call ended, and that its handler knows."""
    try:
        await call
    except (aiozpat.DeadlineExceeded, asyncio.CancelledError) as error:
        await cancelled.wait()
        cancelled.clear()
        print(f"{type(error).__name__}; the handler was cancelled")


async def main() -> None:
    """Let one call run out of time, have one refused, and cancel another."""
    async with (
        aiozpat.Server(jobs, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint) as client,
    ):
        await outcome(asyncio.create_task(client.call("jobs.long_job", timeout=0.1)))
        started.clear()
        call = asyncio.create_task(client.call("jobs.long_job"))
        await started.wait()
        try:
            await client.call("jobs.long_job")
        except aiozpat.ResourceExhausted as error:
            print(type(error).__name__)
        call.cancel()
        await outcome(call)


if __name__ == "__main__":
    aiozpat.run(main())
