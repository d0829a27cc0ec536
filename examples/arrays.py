"""NumPy arrays as params, results and items; large ones travel apart from the call, and arrive without a copy.

It needs `pip install '.[examples]'`.

Prints:

    [[2.0, 4.0], [6.0, 8.0]]
    the mean of 1000000 numbers is 0.5, without a copy
    frame 0: 480 x 640, uint8
    frame 1: 480 x 640, uint8
    InvalidArgument: maths.scale(matrix, by): expected an array of float64, got int64 - at `$.matrix`
"""

from collections.abc import AsyncIterator

import numpy
from numpy.typing import NDArray

import aiozpat

Matrix = NDArray[numpy.float64]
Frame = NDArray[numpy.uint8]

maths = aiozpat.Service("maths")


@maths.method
async def scale(matrix: Matrix, by: float) -> Matrix:
    """The annotation names the type of the numbers; an array of others is refused before this runs."""
    return matrix * by


@maths.method
def mean(numbers: Matrix) -> tuple[float, bool]:
    """A plain function, since it computes: a thread leaves the loop free, and NumPy leaves the thread free.

    What came from the network is the message's own memory (so it is read-only: `.copy()` to change it).
    """
    return float(numbers.mean()), not numbers.flags.owndata


@maths.method
async def film(frames: int) -> AsyncIterator[Frame]:
    """A stream: few of the frames are on their way at once, since large items use up more of its window."""
    image = numpy.zeros((480, 640), numpy.uint8)
    for number in range(frames):
        image[:] = number
        yield image  # it may be filled again afterwards


async def main() -> None:
    """Send arrays, and get some."""
    async with (
        aiozpat.Server(maths, bind="tcp://127.0.0.1:*") as server,
        aiozpat.Client(server.endpoint) as client,
    ):
        small = numpy.array([[1.0, 2.0], [3.0, 4.0]])
        result = await client.call("maths.scale", small, 2.0, result_type=Matrix)
        print(result.tolist())

        # 8 MB; one array may have 16 MiB, more with SocketOptions(max_message_bytes=...) at both sides.
        large = numpy.linspace(0.0, 1.0, 1_000_000)
        average, shared = await client.call("maths.mean", large, result_type=tuple[float, bool])
        print(f"the mean of {large.size} numbers is {average:.1f}, {'without' if shared else 'with'} a copy")

        async with client.stream("maths.film", 2, item_type=Frame) as frames:
            async for frame in frames:
                print(f"frame {frame[0, 0]}: {' x '.join(map(str, frame.shape))}, {frame.dtype}")

        try:
            await client.call("maths.scale", numpy.array([1, 2], numpy.int64), 2.0)
        except aiozpat.InvalidArgument as error:
            print(f"InvalidArgument: {error}")


if __name__ == "__main__":
    aiozpat.run(main())
