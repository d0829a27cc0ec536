"""Messages of several frames: meta information and body travel apart, to the server and back.

Prints:

    [server] meta: META:userid=1234
    [server] body: Hello World
    [client] meta: META:status=ok;characters=11
    [client] body: HELLO WORLD
"""

import asyncio

import aiozpat


async def answer(request: aiozpat.Request) -> tuple[str, str]:
    """Take a message of two frames apart, and answer with two frames."""
    meta, body = (frame.decode() for frame in request.frames)  # another number of frames is an error
    print("[server] meta:", meta)
    print("[server] body:", body)
    return f"META:status=ok;characters={len(body)}", body.upper()


async def main() -> None:
    """Send one such message, and take its answer apart."""
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        group.create_task(router.serve(answer))
        async with aiozpat.Dealer(connect=router.endpoint) as dealer:
            await dealer.send("META:userid=1234", "Hello World")
            reply = await dealer.recv(timeout=10)
            meta, body = reply.frames
            print("[client] meta:", meta.decode())
            print("[client] body:", body.decode())


if __name__ == "__main__":
    aiozpat.run(main())
