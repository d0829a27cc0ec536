"""A service and a client in one program: the shortest way to see a call.

Prints:

    add(1, 2) = 3
    add(a=40, b=2) = 42
    InvalidArgument: calc.add(a, b): Expected `int`, got `str` - at `$.a`
"""

import aiozpat

calc = aiozpat.Service("calc", version="1.0.0")


@calc.method
async def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


async def main() -> None:
    """Serve and call."""
    async with (
        aiozpat.Server(calc, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint, timeout=5.0) as client,
    ):
        print("add(1, 2) =", await client.call("calc.add", 1, 2, result_type=int))
        print("add(a=40, b=2) =", await client.call("calc.add", params={"a": 40, "b": 2}))
        try:
            await client.call("calc.add", "one")
        except aiozpat.InvalidArgument as error:
            print(f"InvalidArgument: {error}")


if __name__ == "__main__":
    aiozpat.run(main())
