"""Sending to one user only: users tell a Router their names, and a RoutingTable keeps where each of them is.

Prints:

    told anna: True, ben: True, carla: False
    anna got: your parcel has arrived
    ben got: your tea is ready
"""

import asyncio

import aiozpat


class Desk:
    """A server that knows its users by name."""

    def __init__(self, router: aiozpat.Router) -> None:
        self._router = router
        self._users = aiozpat.RoutingTable(expiry=30.0)  # seconds of silence, after which a user is forgotten

    async def register(self, message: aiozpat.Request) -> str:
        """Note that a user with this name can be reached where the message came from."""
        self._users.add(message.text(), message.identity)
        return "welcome"

    async def tell(self, name: str, text: str) -> bool:
        """Send to one user, and to nobody else; False if that user is not there."""
        if (identity := self._users.identity(name)) is None:
            return False
        try:
            await self._router.send(identity, text, timeout=5)
        except aiozpat.PeerUnreachable:  # gone without a word
            self._users.remove(name)
            return False
        return True


async def enter(user: aiozpat.Dealer, name: str) -> None:
    """Register a user, and wait until that is done."""
    await user.send(name)
    await user.recv(timeout=10)


async def main() -> None:
    """Two users; each gets what is for that one."""
    async with asyncio.TaskGroup() as group, aiozpat.Router(bind="tcp://127.0.0.1:*") as router:
        desk = Desk(router)
        group.create_task(router.serve(desk.register))
        async with aiozpat.Dealer(connect=router.endpoint) as anna, aiozpat.Dealer(connect=router.endpoint) as ben:
            await asyncio.gather(enter(anna, "anna"), enter(ben, "ben"))
            told = {"anna": "your parcel has arrived", "ben": "your tea is ready", "carla": "nobody will read this"}
            print("told", ", ".join([f"{name}: {await desk.tell(name, text)}" for name, text in told.items()]))
            for name, user in (("anna", anna), ("ben", ben)):
                print(f"{name} got:", (await user.recv(timeout=10)).text())


if __name__ == "__main__":
    aiozpat.run(main())
