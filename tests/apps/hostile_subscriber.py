"""A plain SUB that subscribes to a topic of many bytes, until it is cut off for it."""

from __future__ import annotations

import os
import sys

import zmq


def main(endpoint: str, size: str) -> None:
    """Subscribe, wait for the end of the connection, and be gone: closing would end in this process's own trie."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        socket.connect(endpoint)
        socket.subscribe(b"a" * int(size))
        monitor.recv_multipart()
        print("cut off", flush=True)
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
