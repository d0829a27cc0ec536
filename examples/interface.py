"""One interface class: the server's object is checked against it, and the client's stub has its types.

The class would be in a module that both sides import. Type checkers know what each call takes and gives: `await
library.find(1)` is an error before anything runs.

Prints:

    Book(title='Emma', copies=2)
    ['Emma', 'Persuasion']
    3 books came back
    Careless.find does not match Library.find: it gives Book, the interface __main__.Book | None
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiozpat


@dataclass
class Book:
    """Dataclasses travel as they are."""

    title: str
    copies: int = 1


class Library:
    """The interface: a plain class, no Protocol and no ABC; its methods say what they take and give, and do nothing."""

    @aiozpat.method(idempotent=True)
    async def find(self, title: str) -> Book | None:
        """One result: `async def`."""
        raise NotImplementedError

    def titles(self) -> AsyncIterator[str]:
        """A stream: plain `def`, since calling an async generator gives the iterator at once."""
        raise NotImplementedError

    async def give_back(self, titles: AsyncIterator[str]) -> int:
        """A stream from the client."""
        raise NotImplementedError


class Shelf(Library):
    """The implementation, which needs not be a subclass; being one, type checkers compare them too."""

    def __init__(self, *books: Book) -> None:
        self._books = {book.title: book for book in books}

    async def find(self, title: str) -> Book | None:
        """A book, if it is here."""
        return self._books.get(title)

    async def titles(self) -> AsyncIterator[str]:
        """All of them."""
        for title in sorted(self._books):
            yield title

    async def give_back(self, titles: AsyncIterator[str]) -> int:
        """Put books back."""
        return len([title async for title in titles])


class Careless:
    """An implementation that has lost touch with its interface."""

    async def find(self, title: str) -> Book:
        """A book, also if there is none."""
        return Book(title)


async def pile() -> AsyncIterator[str]:
    """What comes back."""
    for title in ("Emma", "Emma", "Persuasion"):
        yield title


async def main() -> None:
    """Serve a shelf, and call it by a stub."""
    service = aiozpat.Service("library", Shelf(Book("Persuasion"), Book("Emma", 2)), interface=Library)
    async with (
        aiozpat.Server(service, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint) as client,
    ):
        library = client.stub(Library)
        print(await library.find("Emma"))
        print([title async for title in library.titles()])  # a `break` would end it on the server too
        print(await library.give_back(pile()), "books came back")

    try:
        aiozpat.Service("library", Careless(), interface=Library)
    except aiozpat.errors.UsageError as error:  # at registration, not at the first call in the night
        print(error)


if __name__ == "__main__":
    aiozpat.run(main())
