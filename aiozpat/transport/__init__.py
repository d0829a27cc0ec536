"""The one owner of each ZeroMQ socket: batched receiving, sends that never block, monitor, options, contexts.

Nothing here knows what a call is. Only this package imports zmq, and the command line, whose demo needs plain peers.
"""

from aiozpat.transport.address import check_bind, check_connect, endpoints_of
from aiozpat.transport.context import Context, context_given
from aiozpat.transport.forwarder import Forwarder, ProxyKinds
from aiozpat.transport.kinds import Buffer, Frame, SocketKind, source_fd
from aiozpat.transport.lookup import is_named, look_up
from aiozpat.transport.monitor import MonitorEvent, MonitorEventKind
from aiozpat.transport.options import SocketOptions, options_given
from aiozpat.transport.places import Place, place_at, place_of
from aiozpat.transport.process import watch_forks
from aiozpat.transport.socket import DRAIN, Socket

__all__ = [
    "DRAIN",
    "Buffer",
    "Context",
    "Forwarder",
    "Frame",
    "MonitorEvent",
    "MonitorEventKind",
    "Place",
    "ProxyKinds",
    "Socket",
    "SocketKind",
    "SocketOptions",
    "check_bind",
    "check_connect",
    "context_given",
    "endpoints_of",
    "is_named",
    "look_up",
    "options_given",
    "place_at",
    "place_of",
    "source_fd",
    "watch_forks",
]
