"""The ends of the flows that `benchmarks.flows` puts together, and the proxies between them; not run by hand.

Each says where it listens, or is connected, on its first line. One that sends begins at the first cue. Their sockets
are as they come: all high-water marks at the default of 1000, which is the same for pyzmq and aiozpat.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from functools import partial
from typing import Any

import zmq
import zmq.asyncio

from benchmarks import aiozpat_ends, child
from benchmarks.meter import Meter, repeat, repeat_await

TOPIC = b"bench"
KINDS = {"push": zmq.PUSH, "pull": zmq.PULL, "pub": zmq.PUB, "sub": zmq.SUB}
WAYS = ("blocking", "blocking-multipart", "aiozpat", "aiozpat-many", "aiozpat-wait", "zmq.asyncio")
_ROLES = {"aiozpat-many": ("push", "pull"), "aiozpat-wait": ("pub",)}  # of those ways that not all ends have
_SENDING = ("push", "pub")


def run_blocking(arguments: argparse.Namespace, cue: child.Cue) -> None:
    """An end as pyzmq's blocking sockets have it: by frame, or by multipart as documentation shows it."""
    payload = b"x" * arguments.size
    with zmq.Context() as context, context.socket(KINDS[arguments.role]) as socket:
        _attach(socket, arguments)
        if arguments.role in _SENDING:
            cue.wait()
        one: Any = {
            # As fast as it can: above this threshold of pyzmq's, handing a frame over is cheaper than to copy it.
            ("push", "blocking"): partial(socket.send, payload, copy=arguments.size < zmq.COPY_THRESHOLD),
            ("push", "blocking-multipart"): partial(socket.send_multipart, [payload]),
            ("pull", "blocking"): socket.recv,
            ("pull", "blocking-multipart"): socket.recv_multipart,
            ("pub", "blocking-multipart"): partial(socket.send_multipart, [TOPIC, payload]),
            ("sub", "blocking-multipart"): socket.recv_multipart,
        }[arguments.role, arguments.way]
        repeat(one, Meter(cue, arguments.seconds, arguments.size))


async def run_zmq_asyncio(arguments: argparse.Namespace, cue: child.Cue) -> None:
    """An end as pyzmq's asyncio sockets have it, which await each message."""
    payload = b"x" * arguments.size
    with zmq.asyncio.Context() as context, context.socket(KINDS[arguments.role]) as socket:
        _attach(socket, arguments)
        if arguments.role in _SENDING:
            cue.wait()  # nothing else runs on this loop
        one: Any = {
            "push": partial(socket.send_multipart, [payload]),
            "pull": socket.recv_multipart,
            "pub": partial(socket.send_multipart, [TOPIC, payload]),
            "sub": socket.recv_multipart,
        }[arguments.role]
        await repeat_await(one, Meter(cue, arguments.seconds, arguments.size))


def _attach(socket: zmq.Socket[Any], arguments: argparse.Namespace) -> None:
    """Subscribe if it is a subscriber, bind or connect, and say where."""
    if socket.type == zmq.SUB:
        socket.subscribe(TOPIC)
    if arguments.bind:
        socket.bind(arguments.bind)
    else:
        socket.connect(arguments.connect)
    print(socket.get_string(zmq.LAST_ENDPOINT), flush=True)


def stall(arguments: argparse.Namespace, cue: child.Cue) -> None:
    """A subscriber that reads nothing; it connects at the first cue, so that it can be looked at before."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        print("ready", flush=True)
        cue.wait()
        _attach(socket, arguments)
        while True:
            time.sleep(60)


def run_zmq_proxy(arguments: argparse.Namespace, cue: child.Cue) -> None:
    """libzmq's proxy in a thread, as pyzmq's users run it."""
    with zmq.Context() as context, context.socket(zmq.PULL) as frontend, context.socket(zmq.PUSH) as backend:
        endpoints = []
        for socket in (frontend, backend):
            socket.bind(child.ANY_PORT)
            endpoints.append(socket.get_string(zmq.LAST_ENDPOINT))
        print(*endpoints, flush=True)
        thread = threading.Thread(target=zmq.proxy, args=(frontend, backend), daemon=True)
        thread.start()
        thread.join()


def main() -> None:
    """One end, or one proxy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=[*KINDS, "stalled", "proxy"])
    parser.add_argument("way", choices=WAYS)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--bind", help="where to listen")
    where.add_argument("--connect", help="where to connect")
    parser.add_argument("--subscribers", type=int, default=1, help="how many aiozpat's publisher waits for")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to measure at each cue")
    parser.add_argument("--size", type=int, default=64, help="bytes of payload")
    child.add_cpu(parser)
    arguments = parser.parse_args()
    if arguments.role not in _ROLES.get(arguments.way, (arguments.role,)):
        parser.error(f"{arguments.role} can't be {arguments.way}")
    child.prepare(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        _run(arguments, child.Cue())


def _run(arguments: argparse.Namespace, cue: child.Cue) -> None:
    if arguments.way.startswith("aiozpat"):
        child.run_on(aiozpat_ends.run(arguments, cue, TOPIC))
    elif arguments.role == "stalled":
        stall(arguments, cue)
    elif arguments.role == "proxy":
        run_zmq_proxy(arguments, cue)
    elif arguments.way == "zmq.asyncio":
        child.run_on(run_zmq_asyncio(arguments, cue))
    else:
        run_blocking(arguments, cue)


if __name__ == "__main__":
    main()
