"""The demo's processes: `python -m aiozpat.cli.children ROLE ...`, and how the demo holds one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import zmq

from aiozpat.endpoints import Request, Router
from aiozpat.errors import AiozpatError
from aiozpat.rpc import Client, Server, Service
from aiozpat.running import run

ANY_PORT = "tcp://127.0.0.1:*"
_PATIENCE = 10_000  # milliseconds


class Child:
    """One such process, ended with its block.

    Args:
        arguments: Its role and what that takes.
        module: Which module to run.
    """

    def __init__(self, *arguments: str, module: str = "aiozpat.cli.children") -> None:
        self._arguments = (sys.executable, "-m", module, *arguments)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._arguments, stdin=pipe, stdout=pipe)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    def go(self) -> None:
        """Let a client that said it is ready begin."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(b"go\n")

    async def lines(self) -> AsyncIterator[str]:
        """The lines that it prints, until it ends."""
        while line := await self._readline():
            yield line

    async def line(self) -> str:
        """The next line that it prints.

        Raises:
            AiozpatError: It ended instead, or has said nothing for long.
        """
        what = " ".join(self._arguments[1:4])
        try:
            async with asyncio.timeout(_PATIENCE / 1000):
                line = await self._readline()
        except TimeoutError:
            raise AiozpatError(f"{what} has not said a word for {_PATIENCE / 1000:g} s") from None
        if not line:
            raise AiozpatError(f"{what} ended without a word")
        return line

    async def _readline(self) -> str:
        if self._process is None or self._process.stdout is None:
            return ""
        return (await self._process.stdout.readline()).decode().strip()


def end_with_parent() -> None:
    """End this process when the one that started it does, however that ends: it holds our standard input open."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _say(number: int, milliseconds: int, what: str) -> None:
    print(f"{time.monotonic():.6f} {number} {milliseconds} {what}", flush=True)


async def serve() -> None:
    """Two doors to the same work: a Router for plain ZeroMQ peers, a Server for our Client."""
    service = Service("demo")

    @service.method
    async def work(number: int, milliseconds: int) -> int:
        await asyncio.sleep(milliseconds / 1000)
        return number

    async def handler(request: Request) -> str:
        number, milliseconds = request.text().split()
        return f"{await work(int(number), int(milliseconds))}"

    async with Router(bind=ANY_PORT) as router, Server(service, bind=ANY_PORT) as server:
        print(f"{router.endpoint} {server.endpoint}", flush=True)
        await router.serve(handler)


async def ask_as_client(endpoint: str, work: list[int]) -> None:
    """All requests at once on one aiozpat Client."""
    async with Client(endpoint) as client:

        async def ask(number: int, milliseconds: int) -> None:
            _say(number, milliseconds, "asked")
            answer = await client.call("demo.work", number, milliseconds, result_type=int)
            _say(number, milliseconds, "right" if answer == number else "wrong")

        await client.ready()
        await asyncio.gather(*(ask(number, milliseconds) for number, milliseconds in enumerate(work, 1)))


def ask_as_req(endpoint: str, work: list[int]) -> None:
    """A REQ socket asks one after the other: it can't do else."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        for number, milliseconds in enumerate(work, 1):
            _say(number, milliseconds, "asked")
            socket.send_string(f"{number} {milliseconds}")
            if not socket.poll(_PATIENCE):
                return
            _say(number, milliseconds, "right" if socket.recv_string() == f"{number}" else "wrong")


def ask_as_dealer(endpoint: str, work: list[int]) -> None:
    """A DEALER socket sends all, then receives all, in whatever order they come."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        for number, milliseconds in enumerate(work, 1):
            _say(number, milliseconds, "asked")
            socket.send_string(f"{number} {milliseconds}")
        pending = set(range(1, len(work) + 1))
        while pending and socket.poll(_PATIENCE):
            number = int(socket.recv_string())
            _say(number, 0, "right" if number in pending else "wrong")
            pending.discard(number)


_BLOCKING = {"req": ask_as_req, "dealer": ask_as_dealer}


def main(role: str, endpoint: str = "", *work: str) -> None:
    """Play one role."""
    milliseconds = [int(each) for each in work]
    if role == "server":
        end_with_parent()
        run(serve())
        return
    print("ready", flush=True)
    sys.stdin.readline()
    if role == "client":
        run(ask_as_client(endpoint, milliseconds))
    else:
        _BLOCKING[role](endpoint, milliseconds)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
