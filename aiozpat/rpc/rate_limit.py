"""Refuses calls that come faster than they may."""

from __future__ import annotations

import math
import time
from typing import Any, Literal

from aiozpat.checks import number
from aiozpat.errors import ResourceExhausted
from aiozpat.observability.calls import Proceed
from aiozpat.protocol.token_bucket import TokenBuckets
from aiozpat.rpc.current import Call
from aiozpat.rpc.service import RESERVED

_MOST = 4096  # buckets; some 150 bytes each
_EXEMPT = f"{RESERVED}."  # health checks are answered whatever the limits say
_monotonic = time.monotonic


class RateLimit:
    """An interceptor for servers that refuses calls past a rate with `ResourceExhausted`, before they run.

    So a client's `Retry` may make them again. The message says in how many seconds the next may come, and so does
    `details["retry_after"]` for the interceptors around this one. Opening a stream counts as one call. The methods of
    the reserved service `aiozpat` are not limited.

    One object may serve several servers, which then share the rate.

    Args:
        rate: Calls a second, over time.
        burst: Calls that may come at once, beyond which they come at `rate`.
        per: What has a rate of its own: each `peer`, which is a client's connection (a client that reconnects begins
            anew, so this holds back the eager, not the hostile), each `method`, or the `server` as a whole. The rates
            of 4096 peers are kept; of more, the one not heard of for longest begins anew.

    Raises:
        ValueError: `rate` is not a number above 0, `burst` not one from 1 up, or `per` none of the three.
        TypeError: One of the two is no number.
    """

    def __init__(self, rate: float, burst: int, *, per: Literal["peer", "method", "server"] = "peer") -> None:
        number("rate", rate)
        number("burst", burst)
        if not rate < math.inf:
            raise ValueError(f"rate is a number of calls a second above 0; got {rate!r}")
        if not 1 <= burst < math.inf:
            raise ValueError(f"burst is a number of calls from 1 up; got {burst!r}")
        if per not in ("peer", "method", "server"):
            raise ValueError(f"per is 'peer', 'method' or 'server'; got {per!r}")
        self._rate = rate
        self._per = per
        self._buckets = TokenBuckets(rate, burst, _MOST)

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """Run the call, or refuse it."""
        per, method = self._per, call.method
        key = call.peer if per == "peer" else method if per == "method" else ""
        wait = 0.0 if method.startswith(_EXEMPT) else self._buckets.take(key, _monotonic())
        if wait:
            raise ResourceExhausted(
                f"{method}: more than {self._rate:g} calls a second of this {per}; the next may come in {wait:.3f} s",
                details={"retry_after": wait},
            )
        return await proceed()
