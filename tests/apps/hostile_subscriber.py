"""A plain SUB that subscribes to a topic of many bytes, and leaves without a goodbye."""

from __future__ import annotations

import os
import sys

import zmq


def main(endpoint: str, size: str) -> None:
    """Subscribe, give libzmq time to send it, and be gone: closing would end in this process's own trie."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(endpoint)
        socket.subscribe(b"a" * int(size))
        socket.poll(300)
        print("gone", flush=True)
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
