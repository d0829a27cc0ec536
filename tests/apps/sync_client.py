"""Programs around a blocking client, each of which a test interrupts, forks or ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import aiozpat
import aiozpat.sync
from aiozpat.sync import background


def interrupted(endpoint: str) -> None:
    """Be interrupted in a call, then in a stream; the client serves on."""
    with aiozpat.sync.Client(endpoint) as client:
        try:
            client.call("calc.hold", 1)
        except KeyboardInterrupt:
            print("interrupted", client.call("calc.add", 1, 2), flush=True)
        with client.stream("calc.wait") as items:
            print("item", next(items))
            try:
                print("waits", flush=True)
                next(items)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            print("item", next(items), flush=True)
    print([thread.name for thread in threading.enumerate()], flush=True)


def unhandled(endpoint: str) -> None:
    """Let the interrupt end the program."""
    with aiozpat.sync.Client(endpoint) as client:
        client.call("calc.hold", 1)


def forked(endpoint: str) -> None:
    """Fork inside the block: the child has to make a client of its own, the parent's goes on."""
    with aiozpat.sync.Client(endpoint) as client:
        print("before", client.call("calc.add", 1, 1), flush=True)
        with background._lock:  # as another thread might hold it at that moment
            child = os.fork()
        if not child:
            with contextlib.suppress(SystemExit):
                _child(client, endpoint)
            del client
            sys.exit(0)  # through the end of the block, which is not the child's to close
        _, status = os.waitpid(child, 0)
        print("child ended", status, flush=True)
        print("parent", client.call("calc.add", 2, 2), flush=True)


def _child(inherited: aiozpat.sync.Client, endpoint: str) -> None:
    print(inherited, flush=True)
    for use in (lambda: inherited.call("calc.add", 1, 1), lambda: inherited.stream("calc.wait").__enter__()):
        try:
            use()
        except aiozpat.errors.UsageError as error:
            print(error, flush=True)
    with aiozpat.sync.Client(endpoint) as client:
        print("child", client.call("calc.add", 1, 2), flush=True)
    inherited.close()


left: list[aiozpat.sync.Client] = []


def left_open(endpoint: str) -> None:
    """End without closing."""
    left.append(aiozpat.sync.Client(endpoint).__enter__())
    print("ends", left[0].call("calc.add", 1, 2), flush=True)


def left_busy(endpoint: str) -> None:
    """End without closing, while a thread is in a call."""
    left_open(endpoint)
    threading.Thread(target=left[0].call, args=("calc.hold", 1), daemon=True).start()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    globals()[sys.argv[1]](sys.argv[2])
