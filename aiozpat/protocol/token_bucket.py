"""Token buckets: how many calls may come at once, and how many over time."""

from __future__ import annotations

from collections import OrderedDict


class TokenBucket:
    """Holds up to `burst` tokens, begins full, and is filled again at `rate`.

    Args:
        rate: Tokens that come back in a second.
        burst: Tokens at most.
        now: The time, in seconds.
    """

    __slots__ = ("_burst", "_rate", "_since", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._since = now

    def take(self, now: float) -> float:
        """Take one token.

        Args:
            now: The time, in seconds.

        Returns:
            0 if there was one; else the seconds until there is, and nothing was taken.
        """
        tokens = self._tokens = min(self._burst, self._tokens + (now - self._since) * self._rate)
        self._since = now
        if tokens < 1:
            return (1 - tokens) / self._rate
        self._tokens = tokens - 1
        return 0.0


class TokenBuckets:
    """A bucket for each key, as many as there is room for; the one not used for longest makes way, and begins anew.

    Args:
        rate: Tokens that come back to each in a second.
        burst: Tokens of each at most.
        most: How many buckets are kept.
    """

    __slots__ = ("_buckets", "_burst", "_most", "_rate")

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> float:
        """Take one token of a key's bucket; as for `TokenBucket.take`."""
        buckets = self._buckets
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(buckets) > self._most:
                buckets.popitem(last=False)
        else:
            buckets.move_to_end(key)
        return bucket.take(now)
