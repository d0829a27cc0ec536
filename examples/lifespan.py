"""A lifespan: what the handlers need is opened before the first call, and closed after the last.

Prints:

    the database is open
    Ada
    NotFound: no user 3
    the database is closed
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiozpat


@dataclass
class Database:
    """A pretend one."""

    users: dict[int, str] = field(default_factory=lambda: {1: "Ada", 2: "Grace"})

    async def user(self, number: int) -> str | None:
        """A query."""
        return self.users.get(number)


@contextlib.asynccontextmanager
async def lifespan() -> AsyncIterator[Database]:
    """Entered once for each server, so no global has to hold the database, and no import opens it.

    Should it fail, the server does not open. Closing waits for the drain: no handler sees a closed database.
    """
    print("the database is open")
    try:
        yield Database()
    finally:
        print("the database is closed")


users = aiozpat.Service("users", lifespan=lifespan)


@users.method(idempotent=True)
async def name(number: int) -> str:
    """A user's name."""
    database: Database = aiozpat.current_call().state
    found = await database.user(number)
    if found is None:
        raise aiozpat.errors.NotFound(f"no user {number}")
    return found


async def main() -> None:
    """Serve, and ask twice."""
    async with (
        aiozpat.Server(users, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint) as client,
    ):
        print(await client.call("users.name", 1, result_type=str))
        try:
            await client.call("users.name", 3)
        except aiozpat.errors.NotFound as error:
            print(f"NotFound: {error}")


if __name__ == "__main__":
    aiozpat.run(main())
