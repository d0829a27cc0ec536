"""Binding and connecting libzmq's sockets, with errors that say which part is wrong."""

from __future__ import annotations

import errno
from typing import Any

import zmq

from aiozpat.errors import AddressInUse, InvalidEndpoint
from aiozpat.transport.address import absolute, check_bind, check_connect, check_ipc_free


def bind(socket: Any, endpoint: str, *, ipv6: bool) -> str:
    """Bind, and return the endpoint with the port that the system chose.

    Raises:
        InvalidEndpoint: Not an address, or not one of this machine.
        AddressInUse: Somebody listens there.
    """
    _allow_ipv6(socket, check_bind(endpoint), ipv6)
    check_ipc_free(endpoint)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise _bind_error(endpoint, error) from None
    last: bytes = socket.getsockopt(zmq.LAST_ENDPOINT)
    bound = last.rstrip(b"\0").decode()
    return absolute(bound) if endpoint == "ipc://*" else bound


def connect(socket: Any, endpoint: str, *, ipv6: bool) -> str:
    """Connect in the background, again and again, and return the endpoint.

    Raises:
        InvalidEndpoint: Not an address that can be connected to.
    """
    _allow_ipv6(socket, check_connect(endpoint), ipv6)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise InvalidEndpoint(f"can't connect to {endpoint!r}: {error.strerror}") from None
    return endpoint


def _allow_ipv6(socket: Any, endpoint: str, asked: bool) -> None:
    # Only where asked for: switched on everywhere, `localhost` may become ::1, where nobody listens.
    socket.setsockopt(zmq.IPV6, int(asked or "://[" in endpoint))  # for each anew: it would hold for those that follow


def _bind_error(endpoint: str, error: zmq.ZMQError) -> Exception:
    if error.errno == zmq.EADDRINUSE:
        return AddressInUse(f"{endpoint} is in use: stop who listens there, or bind port * for a free one")
    if error.errno in (zmq.EADDRNOTAVAIL, errno.ENODEV):
        return InvalidEndpoint(f"{endpoint!r} is not an address of this machine; bind one of its own, or *")
    hint = " (is there such a host?)" if error.errno == errno.EAGAIN else ""
    return InvalidEndpoint(f"can't bind {endpoint!r}: {error.strerror}{hint}")
