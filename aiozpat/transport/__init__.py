"""The one owner of each ZeroMQ socket: batched receiving, sends that never block, monitor, options, contexts.

Nothing here knows what a call is. Only this package (and `security`) imports zmq.
"""

from aiozpat.transport.address import check_bind, check_connect, endpoints_of
from aiozpat.transport.context import Context
from aiozpat.transport.forwarder import Forwarder, ProxyKinds, Traffic
from aiozpat.transport.monitor import MonitorEvent, MonitorEventKind
from aiozpat.transport.options import SocketOptions
from aiozpat.transport.socket import Buffer, Frame, Socket, SocketKind, source_fd

__all__ = [
    "Buffer",
    "Context",
    "Forwarder",
    "Frame",
    "MonitorEvent",
    "MonitorEventKind",
    "ProxyKinds",
    "Socket",
    "SocketKind",
    "SocketOptions",
    "Traffic",
    "check_bind",
    "check_connect",
    "endpoints_of",
    "source_fd",
]
