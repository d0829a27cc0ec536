"""Where endpoints lead to, however they are spelt: libzmq tells of connections under names of its own."""

from __future__ import annotations

import posixpath
import socket
from ipaddress import ip_address
from typing import NamedTuple


class Place(NamedTuple):
    """Where an endpoint leads to.

    Attributes:
        host: An address, a host's name, or a path.
        port: The port; 0 for ipc://.
        is_address: Whether the host is no name, which may stand for any address.
    """

    host: str
    port: int
    is_address: bool


def place_of(endpoint: str) -> Place:
    """Where an endpoint leads to, its source address aside."""
    scheme, _, rest = endpoint.partition("://")
    if scheme != "tcp":
        path = posixpath.normpath(rest).replace("//", "/", 1)  # which it leaves alone
        return Place(rest if rest.startswith("@") else path, 0, is_address=True)
    host, _, port = rest.rpartition(";")[2].rpartition(":")
    number = int(port) if port.isdigit() else 0
    try:
        return Place(_address(host.strip("[]")), number, is_address=True)
    except ValueError:
        return Place(host, number, is_address=False)


def _address(host: str) -> str:
    """An address in one spelling: that of IPv4 where it stands for one of those, as on a socket for both."""
    address = ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).compressed


def place_at(endpoint: str, fd: int) -> Place:
    """Where a connection leads to: the address of the other side where the endpoint has a name."""
    place = place_of(endpoint)
    if place.is_address:
        return place
    try:
        connection = socket.socket(fileno=fd)
    except OSError:  # it has ended again
        return place
    try:
        host, port = connection.getpeername()[:2]
        return Place(_address(host), port, is_address=True)
    except (OSError, ValueError):
        return place
    finally:
        connection.detach()  # libzmq's
