"""Random loads between real processes, with faults, for as long as one likes.

Each seed stands for a plan: a server with some limits, one to six clients in another process, what they do (calls
alone and in bursts, streams both ways, conversations, notifications; cancelled, timed out, left half-read) and what
happens to the processes meanwhile. Every byte that comes back is checked. Now and then all of it comes to rest, and
lone calls must be quick then. At the end nothing may be left: no call, no stream, no session, no task, no object.

A finding is printed, with the seed; the exit code is 1 if there was any.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time

from tests.stress.plan import FAULTS, LOOPS, Plan, make_plan
from tests.stress.run import Outcome, Run

_EPILOG = """\
examples:
  python -m tests.stress
      twelve seeds, about three minutes
  python -m tests.stress --seeds 100-100000 --minutes 60 --jobs 2
      as many as an hour holds, two at a time
  python -m tests.stress --seeds 7 --seconds 60 --fault none
      one of them for longer, without faults

A seed fixes what is tried, not when the processes get to it: a finding may need several runs to come again.
"""


def main() -> int:
    """Run the seeds; 1 if there was a finding."""
    arguments = _parser().parse_args()
    return asyncio.run(_all(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=_range, default=range(1, 13), metavar="A-B", help="default: 1-12")
    parser.add_argument("--seconds", type=_positive, default=10.0, help="of load for each seed (default: 10)")
    parser.add_argument("--minutes", type=_positive, help="begin no more seeds after that")
    parser.add_argument("--jobs", type=int, choices=range(1, 17), default=1, metavar="N", help="seeds at a time")
    parser.add_argument("--loop", choices=LOOPS, help="by default the seed decides")
    parser.add_argument("--fault", choices=FAULTS, help="by default the seed decides")
    return parser


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of numbers such as 1-12") from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} has no numbers in it")
    return seeds


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


async def _all(arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that the processes are ended
    end = time.monotonic() + arguments.minutes * 60 if arguments.minutes else float("inf")
    seeds = iter(arguments.seeds)
    runs = found = 0

    async def lane() -> None:
        nonlocal runs, found
        for seed in seeds:
            if time.monotonic() > end:
                return
            plan = make_plan(seed, arguments.seconds, arguments.loop, arguments.fault)
            outcome = await Run(plan).outcome()
            print(_told(plan, outcome), flush=True)
            runs += 1
            found += bool(outcome.findings)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(arguments.jobs):
            lanes.create_task(lane())
    print(f"{runs} runs, {found} with findings")
    return 1 if found else 0


def _told(plan: Plan, outcome: Outcome) -> str:
    tally = outcome.report.tally if outcome.report is not None else {}
    counts = ", ".join(f"{tally.get(what, 0):,} {what}" for what in ("calls", "streams", "items", "cancelled"))
    head = f"seed {plan.seed}: {plan.loop}, {len(plan.clients)} clients, {outcome.faults} faults ({plan.fault}), "
    lines = [f"{head}{outcome.seconds:.0f} s: {counts}: {'FINDINGS' if outcome.findings else 'well'}"]
    if outcome.findings:
        lines += [f"  {finding}" for finding in outcome.findings]
        lines.append(
            f"  errors, as allowed or not: {outcome.report.errors if outcome.report is not None else 'unknown'}"
        )
        lines.append(f"  plan: {plan}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
