"""The one owner of each ZeroMQ socket: batched receiving, sends that never block, monitor, options, contexts.

Nothing here knows what a call is. Only this package (and `security`) imports zmq.
"""

from aiozpat.transport.address import check_bind, check_connect, endpoints_of
from aiozpat.transport.context import Context
from aiozpat.transport.forwarder import Forwarder, ProxyKinds
from aiozpat.transport.kinds import Buffer, Frame, SocketKind, source_fd
from aiozpat.transport.monitor import MonitorEvent, MonitorEventKind
from aiozpat.transport.options import SocketOptions
from aiozpat.transport.socket import Socket

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
    "check_bind",
    "check_connect",
    "endpoints_of",
    "source_fd",
]
