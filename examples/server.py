"""A server for a real deployment: it runs until SIGINT or SIGTERM, then drains. Try it with `client.py`.

Prints:

    serving on tcp://127.0.0.1:5555
"""

import sys
import time

import aiozpat

greeter = aiozpat.Service("greeter", version="1.0.0")


@greeter.method
async def hello(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}"


@greeter.method(max_concurrency=4)
def digest(text: str) -> int:
    """A plain function, here a slow one, runs in a worker thread: the loop goes on."""
    time.sleep(0.01)
    return sum(text.encode())


async def main(endpoint: str) -> None:
    """Serve until told to stop."""
    async with aiozpat.Server(greeter, bind=endpoint) as server:
        print(f"serving on {server.endpoint}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    aiozpat.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"))
