"""Both ends of the suite of threads: many threads that call and wait; run by `benchmarks.threads`."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator

import zmq

import aiozpat
from aiozpat import sync
from benchmarks import child, contenders
from benchmarks.load import WARM_UP

Ask = Callable[[bytes], bytes]

_CONNECT = 60.0  # seconds, on a machine that does other work too


# Servers


def serve_router() -> None:
    """The fastest ROUTER echo loop for REQ peers: frame by frame."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(child.ANY_PORT)
        child.say(socket.get_string(zmq.LAST_ENDPOINT))
        receive, send, more = socket.recv, socket.send, zmq.SNDMORE
        while True:
            identity, empty, body = receive(), receive(), receive()
            send(identity, more)
            send(empty, more)
            send(body)


async def serve_aiozpat_router() -> None:
    """The echo as level 1 of aiozpat has it: any REQ peer, a handler for each message."""

    async def echo(message: aiozpat.Message) -> bytes:
        return message.body

    async with aiozpat.Router(bind=child.ANY_PORT) as router:
        child.say(router.endpoint)
        await router.serve(echo, max_concurrency=1000)


# Clients: what gives each thread its way to ask


@contextlib.contextmanager
def asks_of_sync_client(endpoint: str, threads: int) -> Iterator[list[Ask]]:
    """One client for all threads."""
    with sync.Client(endpoint) as client:
        client.ready(_CONNECT)

        def ask(payload: bytes) -> bytes:
            return client.call("bench.echo", payload, result_type=bytes)

        yield [ask] * threads


@contextlib.contextmanager
def asks_of_req(endpoint: str, threads: int) -> Iterator[list[Ask]]:
    """A REQ socket for each thread: they can't share one."""
    with zmq.Context() as context, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(context.socket(zmq.REQ)) for _ in range(threads)]
        for socket in sockets:
            socket.linger = 0
            socket.connect(endpoint)
        yield [_ask_by(socket) for socket in sockets]


def _ask_by(socket: zmq.Socket[bytes]) -> Ask:
    send, receive = socket.send, socket.recv

    def ask(payload: bytes) -> bytes:
        send(payload)
        return receive()

    return ask


class Callers:
    """Threads, each of which has one call in flight at a time, and looks whether the reply is its own.

    Args:
        asks: One for each thread.
        size: Bytes of payload.
    """

    def __init__(self, asks: list[Ask], size: int) -> None:
        self._counts = [0] * len(asks)
        self._stopped = False
        self._size = size
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._call, args=one) for one in enumerate(asks)]
        for thread in self._threads:
            thread.start()

    def _call(self, number: int, ask: Ask) -> None:
        payload = f"{number:08}".encode().ljust(self._size, b"x")
        counts = self._counts
        try:
            while not self._stopped:
                if ask(payload) != payload:
                    raise AssertionError("a wrong reply")
                counts[number] += 1
        except BaseException as error:
            self._failures.append(error)

    @property
    def count(self) -> int:
        """Calls so far."""
        return sum(self._counts)

    def end(self) -> None:
        """Wait for the last calls.

        Raises:
            BaseException: One of them failed.
        """
        self._stopped = True
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]


def load(arguments: argparse.Namespace) -> dict[str, float]:
    """Calls a second of all threads together, and this process's CPU time for each."""
    asks_of = asks_of_sync_client if arguments.contender == "aiozpat" else asks_of_req
    with asks_of(arguments.endpoint, arguments.threads) as asks:
        callers = Callers(asks, arguments.size)
        time.sleep(arguments.seconds * WARM_UP)
        first, start, cpu = callers.count, time.perf_counter(), time.process_time()
        time.sleep(arguments.seconds)
        calls, seconds, cpu = callers.count - first, time.perf_counter() - start, time.process_time() - cpu
        callers.end()
    if not calls:
        raise AssertionError(f"no call came back within {arguments.seconds:g} s")
    return {"rate": calls / seconds, "cpu_us": cpu / calls * 1e6}


# The command line

SERVERS: dict[str, Callable[[], object]] = {
    "aiozpat": lambda: child.run_on(contenders.serve_aiozpat()),
    "req-rep": contenders.serve_rep,
    "req-router": serve_router,
    "req-aiozpat-router": lambda: child.run_on(serve_aiozpat_router()),
}


def main() -> None:
    """One contender, one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("contender", choices=SERVERS)
    parser.add_argument("--endpoint", default="", help="of the server; for clients")
    parser.add_argument("--threads", type=int, default=1, help="callers")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to measure")
    parser.add_argument("--size", type=int, default=64, help="bytes of payload")
    child.add_cpu(parser)
    arguments = parser.parse_args()
    child.prepare(arguments)
    child.Cue()
    with contextlib.suppress(KeyboardInterrupt):
        if arguments.role == "server":
            SERVERS[arguments.contender]()
        else:
            print(json.dumps(load(arguments)), flush=True)


if __name__ == "__main__":
    main()
