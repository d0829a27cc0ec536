"""A client for `server.py`: start that first, in another terminal.

Prints:

    Hello, world
    digest: 1116
"""

import sys

import aiozpat


async def main(endpoint: str) -> None:
    """Wait for the server, then call it."""
    async with aiozpat.Client(endpoint, timeout=5.0) as client:
        await client.ready()
        print(await client.call("greeter.hello", "world", result_type=str))
        print("digest:", await client.call("greeter.digest", "hello world", result_type=int))


if __name__ == "__main__":
    aiozpat.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"))
