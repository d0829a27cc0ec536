"""Interceptors: the client adds a token to each call and caches answers, the server lets nobody in without one.

Prints:

    UNAUTHENTICATED: who are you?
    ada sees report 7
    ada sees report 7
    the server was asked 2 times
"""

from contextvars import ContextVar
from typing import Any

import aiozpat
from aiozpat import Call, ClientCall, ClientInterceptor, Proceed

TOKENS = {"open sesame": "ada"}  # in earnest signed ones; metadata travels in the clear: use a network that you trust

reports = aiozpat.Service("reports")
user: ContextVar[str] = ContextVar("user")
asked = 0


@reports.method
async def show(number: int) -> str:
    """Handlers run in the context of the server's interceptors, so what these set is here."""
    return f"{user.get()} sees report {number}"


async def check(call: Call, proceed: Proceed) -> Any:
    """On the server, around each call: what is raised before it proceeds is the answer, and no handler runs."""
    global asked
    asked += 1
    name = TOKENS.get(call.metadata.get("token", ""))
    if name is None:
        raise aiozpat.errors.Unauthenticated("who are you?")
    user.set(name)
    return await proceed()


def with_token(token: str) -> ClientInterceptor:
    """On the client: what is added to the metadata travels beside the params, and changes no method's signature."""

    async def sign(call: ClientCall, proceed: Proceed) -> Any:
        call.metadata["token"] = token
        return await proceed()

    return sign


def cached(*methods: str) -> ClientInterceptor:
    """On the client, too: who has the answer already need not proceed."""
    answers: dict[Any, Any] = {}

    async def look_up(call: ClientCall, proceed: Proceed) -> Any:
        if call.method not in methods:  # streams among them: their items pass by, they have no answer to keep
            return await proceed()
        key = (call.method, repr(call.params))
        if key not in answers:
            answers[key] = await proceed()
        return answers[key]

    return look_up


async def main() -> None:
    """Ask without a token, then twice with one."""
    async with aiozpat.Server(reports, bind="tcp://127.0.0.1:*", interceptors=[check]) as server:
        async with aiozpat.Client(server.endpoint) as stranger:
            try:
                await stranger.call("reports.show", 7)
            except aiozpat.RpcError as error:
                print(f"{error.code.name}: {error}")

        # The first one is outermost: an answer from the cache needs no token.
        interceptors = [cached("reports.show"), with_token("open sesame")]
        async with aiozpat.Client(server.endpoint, interceptors=interceptors) as client:
            for _ in range(2):
                print(await client.call("reports.show", 7, result_type=str))
    print(f"the server was asked {asked} times")


if __name__ == "__main__":
    aiozpat.run(main())
