"""Level 1: ZeroMQ's patterns as coroutine endpoints; the other end may be any ZeroMQ program in any language."""

from aiozpat.endpoints.dealer import Dealer
from aiozpat.endpoints.pair import Pair
from aiozpat.endpoints.pipeline import Puller, Pusher
from aiozpat.endpoints.proxy import Proxy
from aiozpat.endpoints.publication import Publication
from aiozpat.endpoints.publisher import Publisher
from aiozpat.endpoints.replier import Replier
from aiozpat.endpoints.request import Request
from aiozpat.endpoints.requester import Requester
from aiozpat.endpoints.router import Router
from aiozpat.endpoints.routing import RoutingTable
from aiozpat.endpoints.subscriber import Subscriber

__all__ = [
    "Dealer",
    "Pair",
    "Proxy",
    "Publication",
    "Publisher",
    "Puller",
    "Pusher",
    "Replier",
    "Request",
    "Requester",
    "Router",
    "RoutingTable",
    "Subscriber",
]
