"""`aiozpat` and `python -m aiozpat`: which command, with what arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import aiozpat
from aiozpat.cli import demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What stands behind the program's name; the process's own by default.

    Returns:
        The exit status: 0 if all went well.
    """
    parser = argparse.ArgumentParser(prog="aiozpat", description="Messaging for asyncio services over ZeroMQ.")
    parser.add_argument("--version", action="version", version=f"aiozpat {aiozpat.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo.add_arguments(commands.add_parser("demo", help=demo.SUMMARY, description=demo.DESCRIPTION))
    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        return 130
    except aiozpat.AiozpatError as error:
        print(f"aiozpat: {error}", file=sys.stderr)
        return 1
