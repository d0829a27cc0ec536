"""In a web application: a Client opened by Starlette's lifespan, a Server beside it, all on one event loop.

Usage: `python examples/starlette_app.py` starts it on a free port and sends it three requests; to serve it for real,
`uvicorn --app-dir examples starlette_app:app`. It needs `pip install '.[examples]'`.

Prints:

    200 {"sum":3}
    422 {"error":"INVALID_ARGUMENT"}
    504 {"error":"DEADLINE_EXCEEDED"}
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import TypedDict

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import aiozpat

calc = aiozpat.Service("calc")
STATUS = {aiozpat.InvalidArgument: 422, aiozpat.DeadlineExceeded: 504, aiozpat.Unavailable: 503}


@calc.method
async def add(a: int, b: int) -> int:
    """Add two numbers; for large ones it thinks for a minute."""
    if a > 1000:
        await asyncio.sleep(60)
    return a + b


class State(TypedDict):
    """What requests find in `request.state`."""

    client: aiozpat.Client


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Open before the first request and close after the last; the server could as well run on another machine."""
    async with (
        aiozpat.Server(calc, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint) as client,
    ):
        yield {"client": client}


async def post_sum(request: Request) -> JSONResponse:
    """One HTTP request is one call; how the call ended becomes the HTTP status."""
    client: aiozpat.Client = request.state.client
    try:
        timeout = float(request.query_params.get("timeout", "5"))
        total = await client.call("calc.add", params=await request.json(), timeout=timeout, result_type=int)
    except aiozpat.RpcError as error:
        return JSONResponse({"error": error.code.name}, STATUS.get(type(error), 500))
    return JSONResponse({"sum": total})


app = Starlette(routes=[Route("/sum", post_sum, methods=["POST"])], lifespan=lifespan)


async def main() -> None:
    """Serve the application, and be its client."""
    with socket.create_server(("127.0.0.1", 0)) as listening:  # from here on requests may come
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="warning"))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listening]))
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as browser:
                for path, a, b in (("/sum", 1, 2), ("/sum", 1, "two"), ("/sum?timeout=0.1", 1001, 2)):
                    response = await browser.post(path, json={"a": a, "b": b})
                    print(response.status_code, response.text)
            server.should_exit = True


if __name__ == "__main__":
    aiozpat.run(main())
