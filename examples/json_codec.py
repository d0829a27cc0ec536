"""Values in JSON in the place of MessagePack, and by a codec of one's own; clients of all kinds share one server.

Prints:

    msgpack: meeting at 2026-11-22T10:00:00+00:00
    json: meeting at 2026-11-22T10:00:00+00:00
    json+zlib: meeting at 2026-11-22T10:00:00+00:00
    the server speaks msgpack, json, json+zlib
"""

import json
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiozpat

MOST = 4 * 1024 * 1024  # bytes


@dataclass
class Event:
    """Codecs see a dict with text in it; the annotations make this class of it again."""

    what: str
    at: datetime


class Zipped:
    """A codec for a slow line: JSON, compressed."""

    name = "json+zlib"
    natives = ()  # none but JSON's own: times come as text, bytes as Base64

    def encode(self, value: Any) -> bytes:
        """The bytes of a value."""
        return zlib.compress(json.dumps(value).encode())

    def decode(self, data: bytes) -> Any:
        """The value of bytes, which a stranger may have sent: a few of them can unpack to gigabytes."""
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(data, MOST)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        return json.loads(text)  # cut off at MOST it is no JSON, and a ValueError


calendar = aiozpat.Service("calendar")


@calendar.method
async def show(event: Event) -> str:
    """Handlers know nothing of codecs."""
    return f"{event.what} at {event.at.isoformat()}"


async def main() -> None:
    """Call with each codec; every server knows MessagePack and JSON, others are given to it."""
    meeting = Event("meeting", datetime(2026, 11, 22, 10, tzinfo=UTC))
    codecs: dict[str, aiozpat.Codec | None] = {"msgpack": None, "json": aiozpat.JSON(), "json+zlib": Zipped()}
    async with aiozpat.Server(calendar, bind="tcp://127.0.0.1:*", codecs=[Zipped()]) as server:
        for name, codec in codecs.items():
            async with aiozpat.Client(server.endpoint, codec=codec) as client:
                print(f"{name}:", await client.call("calendar.show", meeting, result_type=str))
        async with aiozpat.Client(server.endpoint) as client:
            info = await client.call("aiozpat.info")
            print("the server speaks", ", ".join(info["codecs"]))


if __name__ == "__main__":
    aiozpat.run(main())
