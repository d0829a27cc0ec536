"""Level 1: ZeroMQ's patterns as coroutine endpoints; the other end may be any ZeroMQ program in any language."""

from aiozpat.endpoints.dealer import Dealer
from aiozpat.endpoints.replier import Replier
from aiozpat.endpoints.request import Request
from aiozpat.endpoints.requester import Requester
from aiozpat.endpoints.router import Router

__all__ = ["Dealer", "Replier", "Request", "Requester", "Router"]
