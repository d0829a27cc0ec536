"""What an endpoint looks like, checked before libzmq sees it: its own errors name neither part nor mend."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from aiozpat.errors import AddressInUse, InvalidEndpoint

_FORMS = (
    "tcp://127.0.0.1:5555, tcp://*:5555 (bind), tcp://127.0.0.1:* (bind, any free port), ipc:///path or inproc://name"
)
_IPC_BYTES = 103  # of a path, as many as every system's sockets take
_INPROC_BYTES = 245  # of a name; libzmq binds longer ones too, but can't say any more where


def endpoints_of(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """One endpoint, several or none, as a tuple.

    Raises:
        TypeError: It is neither.
    """
    if given is None:
        return ()
    anything: object = given
    if isinstance(anything, bytes) or not isinstance(anything, Iterable):
        raise TypeError(f"an endpoint is text such as {_FORMS}; or a list of several; got {given!r}")
    return (given,) if isinstance(given, str) else tuple(given)


def check_bind(endpoint: str) -> str:
    """The endpoint as it is, or `InvalidEndpoint` if nothing can be bound to it."""
    _check(endpoint, wildcard=True)
    return endpoint


def check_connect(endpoint: str) -> str:
    """The endpoint as it is, or `InvalidEndpoint` if nothing can connect to it."""
    _check(endpoint, wildcard=False)
    return endpoint


def _check(endpoint: object, *, wildcard: bool) -> None:
    if not isinstance(endpoint, str):
        raise InvalidEndpoint(f"an endpoint is text such as {_FORMS}; got {type(endpoint).__name__}")
    if "\0" in endpoint or any("\ud800" <= letter <= "\udfff" for letter in endpoint):
        raise InvalidEndpoint(f"{endpoint!r} has a NUL character or a lone surrogate, which no address has")
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in ("tcp", "ipc", "inproc"):
        raise InvalidEndpoint(f"{endpoint!r} does not begin with tcp://, ipc:// or inproc://; an endpoint is {_FORMS}")
    if not rest:
        raise InvalidEndpoint(f"{endpoint!r} has no address after {scheme}://; an endpoint is {_FORMS}")
    if scheme == "tcp":
        _check_tcp(endpoint, rest, wildcard=wildcard)
    elif scheme == "ipc" and rest == "*" and not wildcard:
        raise InvalidEndpoint(f"{endpoint!r} is an address to bind; to connect, name the path")
    elif scheme == "inproc" and len(rest.encode()) > _INPROC_BYTES:
        raise InvalidEndpoint(f"{endpoint!r}: the name has {_INPROC_BYTES} bytes at most")


def _check_tcp(endpoint: str, rest: str, *, wildcard: bool) -> None:
    if "," in rest or "://" in rest:
        raise InvalidEndpoint(f"{endpoint!r} is several endpoints in one; they are given as a list")
    source, separator, rest = rest.rpartition(";")
    if separator:
        if wildcard:
            raise InvalidEndpoint(f"{endpoint!r}: a source address, before the semicolon, is for connecting")
        _check_host(endpoint, source, wildcard=True)
        if ";" in source or source.startswith("*"):
            raise InvalidEndpoint(f"{endpoint!r}: before the semicolon stands an address of this machine, and a port")
        if source.startswith("[") != rest.startswith("["):
            raise InvalidEndpoint(f"{endpoint!r}: both addresses are IPv6 ones, in brackets, or neither")
    _check_host(endpoint, rest, wildcard=wildcard)


def _check_host(endpoint: str, rest: str, *, wildcard: bool) -> None:
    host, separator, port = rest.rpartition(":")
    if not separator or not host:
        raise InvalidEndpoint(f"{endpoint!r} needs a host and a port, as in tcp://127.0.0.1:5555")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise InvalidEndpoint(f"{endpoint!r}: an IPv6 address stands in brackets, as in tcp://[::1]:5555")
    if not _is_possible(host):
        raise InvalidEndpoint(f"{endpoint!r}: {host} is neither an address nor the name of a host")
    if not wildcard and (host in ("*", "0.0.0.0") or port in ("*", "0")):  # noqa: S104 - compared, not bound
        raise InvalidEndpoint(f"{endpoint!r} is an address to bind; to connect, name the host and the port")
    if port != "*" and not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise InvalidEndpoint(f"{endpoint!r}: the port is a number up to 65535" + (" or *" if wildcard else ""))


def _is_possible(host: str) -> bool:
    """Whether it is an address, or may be a name: libzmq looks for any other text as one, in vain and without end."""
    inner = host.removeprefix("[").removesuffix("]")  # where a name may stand as well
    try:
        if ":" in inner:
            ipaddress.IPv6Address(inner)
        elif not inner.strip(".0123456789"):
            socket.inet_aton(inner)  # which takes 127.1, as libzmq does
    except (ValueError, OSError):
        return False
    return True


def check_ipc_free(endpoint: str) -> None:
    """Refuse an ipc:// path where somebody listens, or that is no socket: libzmq would take it away without a word.

    Raises:
        AddressInUse: Somebody listens there.
        InvalidEndpoint: A file of another kind is there, or the path is too long for a socket.
    """
    scheme, _, name = endpoint.partition("://")
    if scheme != "ipc" or name.startswith("@") or name == "*" or not os.path.exists(name):
        return
    if not Path(name).is_socket():
        raise InvalidEndpoint(f"{endpoint!r}: there is a file of that name that is no socket")
    try:
        listening = _somebody_listens(name)
    except OSError as error:
        raise InvalidEndpoint(f"can't bind {endpoint!r}: {error}") from None
    if listening:
        raise AddressInUse(f"{endpoint} is in use: stop who listens there, or bind another path")


def absolute(endpoint: str) -> str:
    """An ipc:// endpoint with its whole path, as programs in other folders need it; as it is if that is too long."""
    path = Path(endpoint.removeprefix("ipc://")).absolute()
    return f"ipc://{path}" if len(os.fsencode(path)) <= _IPC_BYTES else endpoint


def is_free(endpoint: str) -> bool:
    """Whether one may bind again where a socket of ours was bound; the endpoint as libzmq names it."""
    scheme, _, rest = endpoint.partition("://")
    try:
        if scheme == "tcp":
            _bind_once(rest)
            return True
        # The path tells nothing: libzmq leaves it behind.
        return scheme != "ipc" or not _somebody_listens("\0" + rest[1:] if rest.startswith("@") else rest)
    except OSError as error:
        return error.errno != errno.EADDRINUSE


def _bind_once(address: str) -> None:
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    family, *_, numbers = found[0]
    with socket.socket(family) as probe:
        # As libzmq does it: connections that still end are in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
        probe.bind(numbers)


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        # EAGAIN: so many wait to be accepted that one more would have to wait.
        return probe.connect_ex(path) in (0, errno.EAGAIN)
