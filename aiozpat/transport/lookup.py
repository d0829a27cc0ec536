"""Names of hosts, looked up beside the loop.

libzmq looks them up itself, in the one thread that moves all bytes of a context: where a name server does not answer,
that holds up every connection of the loop, for seconds each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address

Found = Callable[[list[str], str], None]


def is_named(endpoint: str) -> bool:
    """Whether an endpoint is to be looked up: tcp, to a host that is no address."""
    scheme, _, rest = endpoint.partition("://")
    host = rest.rpartition(":")[0]
    if scheme != "tcp" or host.startswith("[") or ";" in host:  # with one, it begins with an address of this machine
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def look_up(endpoint: str, loop: asyncio.AbstractEventLoop, found: Found) -> None:
    """Look up the host of an endpoint that `is_named`, in a thread.

    Args:
        endpoint: As in `tcp://example.org:5555`.
        loop: Where to tell of it; one that has ended by then is not told.
        found: Called with endpoints by address, IPv4 first, and with what went wrong if there are none.
    """
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")

    def work() -> None:
        addresses, error = _addresses(host)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(found, [f"tcp://{address}:{port}" for address in addresses], error)

    # Not the loop's own threads: its end would wait for them, and this may take half a minute.
    threading.Thread(target=work, name=f"aiozpat-lookup-{host}", daemon=True).start()


def _addresses(host: str) -> tuple[list[str], str]:
    try:
        results = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return [], getattr(error, "strerror", None) or str(error)
    ordered = sorted(results, key=lambda result: result[0] is not socket.AF_INET)
    return [str(where[0]) if family == socket.AF_INET else f"[{where[0]}]" for family, _, _, _, where in ordered], ""
