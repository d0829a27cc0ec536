"""`python -m benchmarks`: pick a suite; `python -m benchmarks request-reply --help` explains one."""

from __future__ import annotations

import argparse
import sys

from benchmarks import fan_out, large, one_way, request_reply, streams, threads

_SUITES = {
    "request-reply": request_reply,
    "streams": streams,
    "large": large,
    "one-way": one_way,
    "fan-out": fan_out,
    "threads": threads,
}


def main() -> int:
    """Run the suite named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    suites = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name, module in _SUITES.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(suites.add_parser(name, help=summary, description=module.__doc__))
    arguments = parser.parse_args()
    result: int = _SUITES[arguments.suite].run(arguments)
    return result


if __name__ == "__main__":
    sys.exit(main())
