"""When a call is tried again, and what holds retries back when everything fails."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from aiozpat.checks import number, whole_number
from aiozpat.errors import RpcError, StatusCode

_monotonic = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A policy for calls that fail, given to a `Client`.

    Tried again is only what is safe: a call that the server refused before it ran (it was overloaded), or one that is
    idempotent, as its service or its caller says. What never left this process, or met a server that drains, needs no
    policy, and waits for a connection. A deadline holds for all attempts together. Only `call` is tried again, and not
    where it sends an async iterator: streams, conversations and notifications are not.

    Args:
        attempts: How often a call is made at most, the first time and a hedge included.
        backoff: Seconds before the second attempt, at most; doubled for each further one. How long it really is, is
            random, so that clients that failed together don't come back together.
        max_backoff: Seconds between two attempts at most.
        codes: How a call must have ended.
        budget: Retries for each call made, over time: 0.1 lets a tenth of the load come back as retries. Without it,
            retries would keep down a service that is down.
        burst: Retries that may come at once, beyond the budget, and that can be saved up from it (1 at least).
        hedge: Seconds after which an idempotent call that is not answered yet is made once more, on another server
            where there is one; the first answer counts, be it a result or an error that is not among `codes`, and the
            other call is cancelled. It is taken from the budget. `None`: never.

    Raises:
        ValueError: A value is out of range.
        TypeError: A code is none, or what should be a number.
    """

    attempts: int = 3
    backoff: float = 0.05
    max_backoff: float = 1.0
    codes: frozenset[StatusCode] = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})
    budget: float = 0.1
    burst: int = 1000
    hedge: float | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "codes", frozenset(self.codes))
        except TypeError:
            raise TypeError(f"Retry.codes are several of aiozpat.errors.StatusCode; got {self.codes!r}") from None
        whole_number("Retry.attempts", self.attempts)
        for name in ("backoff", "max_backoff", "budget", "burst"):
            number(f"Retry.{name}", getattr(self, name), zero=True)
        if not all(isinstance(code, StatusCode) for code in self.codes):
            raise TypeError(f"Retry.codes are of aiozpat.errors.StatusCode; got {self.codes!r}")
        if self.hedge is not None:
            number("Retry.hedge", self.hedge, zero=True)

    def pause(self, attempt: int) -> float:
        """Seconds to wait after an attempt, counted from 1; random, from none to all of it."""
        longest = min(self.max_backoff, self.backoff * 2.0 ** min(attempt - 1, 64))
        return random.uniform(0, longest)  # noqa: S311 - not for secrets


class Budget:
    """How many retries a client may still make.

    Args:
        policy: The client's.

    Attributes:
        calls: How many calls the client has made so far.
    """

    __slots__ = ("_counted", "_tokens", "calls", "policy")

    def __init__(self, policy: Retry) -> None:
        self.policy = policy
        self._tokens = float(policy.burst)
        self.calls = self._counted = 0

    def spend(self) -> bool:
        """Take one retry; False if there is none left."""
        earned = (self.calls - self._counted) * self.policy.budget
        self._counted = self.calls
        self._tokens = min(max(1.0, self.policy.burst), self._tokens + earned)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Attempts:
    """The attempts of one call that has failed.

    Args:
        budget: The client's policy, and what is left of it.
        idempotent: Whether the call may run twice.
        deadline: Until when all of it must have ended, `time.monotonic()`.

    Attributes:
        most: How many there may be.
    """

    __slots__ = ("_budget", "_deadline", "_idempotent", "_made", "most")

    def __init__(self, budget: Budget, *, idempotent: bool, deadline: float) -> None:
        self._budget = budget
        self._idempotent = idempotent
        self._deadline = deadline
        self._made = 1
        self.most = budget.policy.attempts

    def pause(self, error: RpcError, made: int, *, sent: bool) -> float | None:
        """Seconds to wait for the next attempt, where there is to be one; None if this error is the end.

        Args:
            error: How the last one ended.
            made: How many attempts were made, where others make some too.
            sent: Whether it was sent; those before it never ran, or there would be no further one.
        """
        policy = self._budget.policy
        if max(self._made, made) >= self.most or error.code not in policy.codes:
            return None
        if sent and not (error.refused or self._idempotent):
            return None
        pause = policy.pause(self._made)
        if _monotonic() + pause >= self._deadline or not self._budget.spend():
            return None
        self._made += 1
        return pause
