"""One client under stress, and the judge of the errors that it gets."""

from __future__ import annotations

import asyncio
import random
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from aiozpat import Client, errors
from tests.stress.plan import Plan
from tests.stress.watch import Watch

IDLE = 30.0  # seconds for which a stream may stand still: none does for so long
AMPLE = 5.0  # seconds for a call: nobody should need so long who has not to wait for a place
_numbers = count(1)
_clock = time.monotonic
_EARLY = 0.98  # of a deadline; a call that ends before it, by it, ended too early
_BY_DESIGN = re.compile(r"of replies wait|backlog_bytes|limited")  # refusals that every plan may bring about


class Caller:
    """What an act works with.

    Args:
        name: Of the client, for the notes that it leaves at the server.
        client: The client.
        plan: Of this run.
        watch: Where findings go.
        random_of: Its own randomness.
    """

    def __init__(self, name: str, client: Client, plan: Plan, watch: Watch, random_of: random.Random) -> None:
        self.name = name
        self.client = client
        self.plan = plan
        self.watch = watch
        self.random = random_of

    def twin(self) -> Caller:
        """The same client for an act that goes on at the same time."""
        return Caller(self.name, self.client, self.plan, self.watch, random.Random(self.random.random()))

    @staticmethod
    def number() -> int:
        """One that nobody else has in this process."""
        return next(_numbers)

    @contextmanager
    def judged(self, what: str, limit: float, deadline: float | None) -> Iterator[None]:
        """A call or a stream, which may fail as the plan allows, and in no other way.

        Args:
            what: For findings.
            limit: Seconds in which it has to come to an end.
            deadline: Its own, None if it has none.
        """
        with self.watch.operation(what, limit) as begin:
            try:
                yield
            except asyncio.CancelledError:
                self.watch.tally["cancelled"] += 1
                raise
            except errors.RpcError as error:
                self.watch.errors[f"{what.split()[0]}: {type(error).__name__}"] += 1
                self._judge(what, error, _clock() - begin, deadline)
            except Exception:  # whatever else comes out is a finding, with its traceback
                self.watch.find(f"{what}: {traceback.format_exc()}")
            else:
                self.watch.tally["well"] += 1

    def _judge(self, what: str, error: errors.RpcError, elapsed: float, deadline: float | None) -> None:
        find = self.watch.find
        if isinstance(error, errors.Unavailable):
            if not self.plan.loses:
                find(f"unavailable without a cause: {what}: {error}")
        elif isinstance(error, errors.DeadlineExceeded):
            if deadline is not None and elapsed < deadline * _EARLY - 0.002:
                find(f"ended before its deadline: {what}: {elapsed:.3f} s of {deadline}")
            elif (deadline is None or deadline >= AMPLE) and not self.plan.slow:
                find(f"it stood still: {what}: {error} after {elapsed:.2f} s")
        elif not isinstance(error, errors.ResourceExhausted):
            find(f"an error out of nowhere: {what}: {error!r}")
        elif not self.plan.refuses and not _BY_DESIGN.search(str(error)):
            find(f"refused without a cause: {what}: {error}")

    def check(self, what: str, right: bool) -> None:
        """Write down what came back wrong."""
        if not right:
            self.watch.find(f"wrong: {what}")
