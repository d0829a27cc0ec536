"""A pipeline over image files: paths are pushed to workers that shrink them in threads, a sink collects thumbnails.

It needs `pip install '.[examples]'`.

Prints:

    blue.png: 64 x 48, JPEG
    broken.png: not an image
    green.png: 48 x 64, JPEG
    red.png: 64 x 64, JPEG
"""

import asyncio
import io
import tempfile
from pathlib import Path

from PIL import Image

from aiozpat import Puller, Pusher, run

SIZES = {"blue": (640, 480), "green": (480, 640), "red": (800, 800)}


def make_images(folder: str) -> list[str]:
    """Write a few images, and a file that is none."""
    for colour, size in SIZES.items():
        Image.new("RGB", size, colour).save(Path(folder, f"{colour}.png"))
    Path(folder, "broken.png").write_text("no image")
    return [str(path) for path in Path(folder).glob("*.png")]


def thumbnail(path: str) -> bytes:
    """Shrink one image; nothing if it can't be read."""
    result = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.thumbnail((64, 64))
            image.convert("RGB").save(result, "JPEG")  # which knows no transparency
    except OSError:  # as UnidentifiedImageError is: one bad file must not end the worker
        return b""
    return result.getvalue()


async def work(jobs: str, results: str) -> None:
    """A worker; in a process of its own it would be no different."""
    # Jobs take long and differ: with a prefetch of 1 few of them wait here while another worker is idle.
    async with Puller(connect=jobs, prefetch=1) as todo, Pusher(connect=results) as done:
        async for job in todo:
            await done.send(Path(job.text()).name, await asyncio.to_thread(thumbnail, job.text()))


def describe(content: bytes) -> str:
    """What a thumbnail is."""
    if not content:
        return "not an image"
    with Image.open(io.BytesIO(content)) as image:
        return f"{image.width} x {image.height}, {image.format}"


async def main() -> None:
    """Push all paths to 2 workers, and wait for as many results."""
    with tempfile.TemporaryDirectory() as folder:
        paths = await asyncio.to_thread(make_images, folder)
        async with (
            Pusher(bind="tcp://127.0.0.1:*", prefetch=1) as jobs,
            Puller(bind="tcp://127.0.0.1:*") as results,
            asyncio.TaskGroup() as group,
        ):
            workers = [group.create_task(work(jobs.endpoint, results.endpoint)) for _ in range(2)]
            await jobs.send_many(paths)  # waits for workers that have room
            thumbnails = [(await results.recv(timeout=10)).frames for _ in paths]
            for worker in workers:
                worker.cancel()  # every result is here: they have nothing to do any more
        for name, content in sorted(thumbnails):
            print(f"{name.decode()}: {describe(content)}")


if __name__ == "__main__":
    run(main())
