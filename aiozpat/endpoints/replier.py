"""REP's side of request-reply, on a ROUTER: many requests at once, and none wedges it."""

from __future__ import annotations

from aiozpat.endpoints.request import Request
from aiozpat.endpoints.router import Responder


class Replier(Responder):
    """Answers requests one by one or many at once; to its peers it looks like REP.

    REP must answer each request before it takes the next, and an abandoned one wedges it. This one keeps each
    request's envelope with the request: reply in any order, or never. A message without an empty frame, which REP would
    drop silently, is answered without one. In any other the first empty frame ends the envelope, so that a lone `b""`
    is an empty request with a delimiter: whose peers send empty frames of their own without one takes a `Router`.

    Args:
        bind: One endpoint or several to listen on.
        connect: One endpoint or several to connect to.
        linger: Seconds for which replies sent just before closing are still delivered.
        options: Options of the socket.
        context: A context to share; by default the loop's own.

    Raises:
        InvalidEndpoint: Not an endpoint that can be bound or connected to.
    """

    def _request(self, identity: bytes, parts: list[bytes]) -> Request:
        return self._split(identity, parts) or Request(tuple(parts), self, identity)
