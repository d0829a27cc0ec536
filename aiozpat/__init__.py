"""Messaging for asyncio services over ZeroMQ.

Level 1, endpoints that speak plain ZeroMQ to any program in any language; level 2, typed services with deadlines,
cancellation and status codes over one documented protocol.
"""

from aiozpat import errors
from aiozpat.endpoints import (
    Dealer,
    Pair,
    Proxy,
    Publication,
    Publisher,
    Puller,
    Pusher,
    Replier,
    Request,
    Requester,
    Router,
    RoutingTable,
    Subscriber,
)
from aiozpat.errors import (
    AiozpatError,
    Closed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidBody,
    PeerUnreachable,
    QueueFull,
    ResourceExhausted,
    RpcError,
    TimedOut,
    Unavailable,
    Unimplemented,
)
from aiozpat.message import Message
from aiozpat.rpc import Client, ClientState, Conversation, Limits, Server, Service, Stream, current_call
from aiozpat.running import run
from aiozpat.transport import Context, SocketOptions

__version__ = "0.1.0"

__all__ = [
    "AiozpatError",
    "Client",
    "ClientState",
    "Closed",
    "Context",
    "Conversation",
    "DeadlineExceeded",
    "Dealer",
    "InvalidArgument",
    "InvalidBody",
    "Limits",
    "Message",
    "Pair",
    "PeerUnreachable",
    "Proxy",
    "Publication",
    "Publisher",
    "Puller",
    "Pusher",
    "QueueFull",
    "Replier",
    "Request",
    "Requester",
    "ResourceExhausted",
    "Router",
    "RoutingTable",
    "RpcError",
    "Server",
    "Service",
    "SocketOptions",
    "Stream",
    "Subscriber",
    "TimedOut",
    "Unavailable",
    "Unimplemented",
    "current_call",
    "errors",
    "run",
]
