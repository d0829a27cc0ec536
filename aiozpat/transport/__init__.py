"""The one owner of each ZeroMQ socket: batched receiving, sends that never block, monitor, options, contexts.

Nothing here knows what a call is. Only this package (and `security`) imports zmq.
"""

from aiozpat.transport.address import check_bind, check_connect, endpoints_of
from aiozpat.transport.context import Context
from aiozpat.transport.monitor import MonitorEvent, MonitorEventKind
from aiozpat.transport.options import SocketOptions
from aiozpat.transport.socket import Buffer, Frame, Socket, SocketKind, source_fd

__all__ = [
    "Buffer",
    "Context",
    "Frame",
    "MonitorEvent",
    "MonitorEventKind",
    "Socket",
    "SocketKind",
    "SocketOptions",
    "check_bind",
    "check_connect",
    "endpoints_of",
    "source_fd",
]
