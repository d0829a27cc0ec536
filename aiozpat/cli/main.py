"""`aiozpat` and `python -m aiozpat`: which command, with what arguments."""

from __future__ import annotations

import argparse
import os
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
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo.add_arguments(commands.add_parser("demo", help=demo.SUMMARY, description=demo.DESCRIPTION))
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return _run(parsed)
    except KeyboardInterrupt:
        return 130
    except aiozpat.AiozpatError as error:
        print(f"aiozpat: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Who read our output has gone, as `head` does: no error of ours, and nothing more to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(parsed: argparse.Namespace) -> int:
    """Run a command; a broken pipe inside its task groups comes out as itself."""
    try:
        return int(parsed.run(parsed))
    except BaseExceptionGroup as group:
        if group.subgroup(BrokenPipeError) is not None:
            raise BrokenPipeError from None
        raise
