"""A run: its processes, its faults, and what came of them; and the run of a service and its clients."""

from __future__ import annotations

import asyncio
import random
import signal
import time
import traceback
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack

import msgspec

from tests.stress import messages
from tests.stress.child import Child, Failed, child
from tests.stress.plan import Plan
from tests.stress.watch import Report, Slow

START = 30.0  # seconds for a process to be there
_PATIENCE = 120.0  # seconds beyond those of the load until the clients have to be quiet
TELL = 20.0  # seconds for a process that is quiet to say something
_SETTLE = 0.5  # seconds until a server has noticed that its clients are quiet, or gone
_CLOSE = 5.0  # seconds for both processes to end when all is done
_AROUND = 0.5  # seconds around a fault in which nothing need be quick
_RECOVERY = 2.0  # the same after one that has cost connections
_BEAT, _STALL = 0.05, 0.25  # seconds; where this process itself comes late, the machine is to blame
_clock = time.monotonic


def encoded(plan: msgspec.Struct) -> str:
    """A plan, for a process to read."""
    return msgspec.json.encode(plan).decode()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run; it went well if there are no findings."""

    findings: list[str]
    faults: int
    report: Report | None
    seconds: float


class Run(ABC):
    """One run of a plan.

    Args:
        seed: For when the faults come.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"{seed} faults")
        self._findings: list[str] = []
        self._faults = 0
        self._excuses: list[tuple[float, float]] = []
        self._report: Report | None = None
        self._stack = AsyncExitStack()
        self._children: list[Child] = []

    async def outcome(self) -> Outcome:
        """Do it all; ends its processes however it ends."""
        begin = _clock()
        beat = asyncio.create_task(self._watch_machine())
        async with self._stack:
            try:
                await self._carry_out()
            except Failed as error:
                self._findings.append(str(error))
            except Exception:  # a fault of this program is no reason to lose what it has found
                self._findings.append(traceback.format_exc())
            finally:
                beat.cancel()
                self._findings += [complaint for one in self._children if (complaint := one.complaint())]
        return Outcome(findings=self._findings, faults=self._faults, report=self._report, seconds=_clock() - begin)

    @abstractmethod
    async def _carry_out(self) -> None:
        """Start the processes, and see what they do."""

    async def _start(self, name: str, module: str, *arguments: str) -> Child:
        one = await self._stack.enter_async_context(child(name, module, *arguments))
        self._children.append(one)
        return one

    async def _stop(self, process: Child, seconds: float) -> None:
        """Let it stand still for a while."""
        process.check()
        process.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.process.send_signal(signal.SIGCONT)

    async def _watch_machine(self) -> None:
        while True:
            begin = _clock()
            await asyncio.sleep(_BEAT)
            if _clock() - begin > _STALL:
                self._excuses.append((begin, _clock()))

    def _take(self, done: messages.Done) -> None:
        before = self._report
        self._report = done.report if before is None else before.merged(done.report)
        self._findings += done.report.findings
        self._findings += [
            f"slow, though nothing else went on: {slow.what} took {slow.end - slow.begin:.2f} s"
            for slow in done.report.slow
            if not self._excused(slow)
        ]

    def _excused(self, slow: Slow) -> bool:
        """Whether there was a fault about then, or the machine was slow."""
        return any(begin - _AROUND < slow.end and slow.begin < end + _AROUND for begin, end in self._excuses)

    async def _end(self, *processes: Child) -> None:
        begin = _clock()
        codes = {process.name: await process.end() for process in processes}
        if any(codes.values()):
            self._findings.append(f"exit codes: {codes}")
        if _clock() - begin > _CLOSE:
            self._findings.append(f"the processes took {_clock() - begin:.1f} s to end")


class CallsRun(Run):
    """A server, and clients that call it.

    Args:
        plan: What to do.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.seed)
        self._plan = plan
        self._calm = False

    async def _carry_out(self) -> None:
        server = await self._server()
        client = await self._start("client", "tests.stress.client", encoded(self._plan))
        quiet = asyncio.create_task(self._until_quiet(client))
        try:
            server = await self._make_trouble(server, client, quiet)
            self._findings += (await quiet).stuck
        finally:
            quiet.cancel()
            await asyncio.gather(quiet, return_exceptions=True)
        if self._findings:
            return
        await asyncio.sleep(_SETTLE)
        await self._check_left(server, len(self._plan.clients))
        await client.tell("close")
        self._take(await client.said(messages.Done, TELL))
        await asyncio.sleep(_SETTLE)
        await self._check_left(server, 0)
        await server.tell("quit")
        await self._end(server, client)

    async def _server(self) -> Child:
        one = await self._start("server", "tests.stress.server", encoded(self._plan))
        listening = await one.said(messages.Listening, START)
        self._plan = msgspec.structs.replace(self._plan, endpoint=listening.endpoint)  # also for one after it
        return one

    async def _until_quiet(self, client: Child) -> messages.Quiet:
        late = _clock() + self._plan.seconds + _PATIENCE
        while True:
            said = await client.hear(late - _clock())
            if isinstance(said, messages.Quiet):
                return said
            if not isinstance(said, messages.Calm):
                raise Failed(f"the client said {said} before it was quiet")
            self._calm = said.calm

    async def _make_trouble(self, server: Child, client: Child, quiet: asyncio.Task[messages.Quiet]) -> Child:
        """Stop or kill processes now and then, as long as the load is on; gives the server that there is then."""
        random_of, seconds = self._random, self._plan.seconds
        end = _clock() + seconds * 0.9
        pause = random_of.uniform(0.1, 0.3) * seconds
        while self._plan.fault != "none" and _clock() + pause < end:
            await asyncio.wait({quiet}, timeout=pause)
            while self._calm and not quiet.done():
                await asyncio.sleep(_BEAT)
            if quiet.done():
                break
            begin = _clock()
            if self._plan.fault == "stop":
                await self._stop(random_of.choice([server, client]), self._while())
                pause = random_of.uniform(0.3, 4.0)
            else:
                server.check()
                await server.kill()
                await asyncio.sleep(random_of.choice([0.0, 0.1, 0.5]))
                server = await self._server()
                pause = random_of.uniform(2, 7)
            self._faults += 1
            self._excuses.append((begin, _clock() + (_RECOVERY if self._plan.loses else 0.0)))
        return server

    def _while(self) -> float:
        """Seconds to stand still: such as are noticed, or too few for it."""
        noticed = self._plan.heartbeat < 1.0
        return self._random.uniform(0.3, 1.5) if noticed else self._random.uniform(0.1, 0.7)

    async def _check_left(self, server: Child, sessions: int) -> None:
        """A server whose clients are quiet has nothing left of their calls."""
        await server.tell("left")
        left = await server.said(messages.Left, TELL)
        if left.left:
            self._findings.append(f"the server has left, though all calls have ended: {left.left}")
        if left.sessions != sessions:
            self._findings.append(f"the server has {left.sessions} sessions, not {sessions}")
