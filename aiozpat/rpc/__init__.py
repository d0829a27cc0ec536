"""Level 2: typed request-reply services over AZP/1."""

from aiozpat.observability.calls import Proceed
from aiozpat.rpc.client import Client
from aiozpat.rpc.current import Call, current_call
from aiozpat.rpc.interceptors import ClientCall, ClientInterceptor, ServerInterceptor
from aiozpat.rpc.interface import method
from aiozpat.rpc.limits import Limits
from aiozpat.rpc.retry import Retry
from aiozpat.rpc.server import Server
from aiozpat.rpc.service import Service
from aiozpat.rpc.states import ClientState
from aiozpat.rpc.streams import Conversation, Stream

__all__ = [
    "Call",
    "Client",
    "ClientCall",
    "ClientInterceptor",
    "ClientState",
    "Conversation",
    "Limits",
    "Proceed",
    "Retry",
    "Server",
    "ServerInterceptor",
    "Service",
    "Stream",
    "current_call",
    "method",
]
