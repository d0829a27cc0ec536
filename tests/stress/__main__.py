"""Random loads between real processes, with faults, for as long as one likes.

Each seed stands for a plan. At level 2: a server with some limits, one to six clients in another process, and what
they do (calls alone and in bursts, streams both ways, conversations, notifications; cancelled, timed out, left half
read). At level 1: lanes of some patterns between two processes, whose messages are sent and received in every way there
is. The processes are stopped or killed meanwhile, and every byte is checked. Now and then all of it comes to rest, and
what is alone must be quick then. At the end nothing may be left: no call, stream or session, no task, no object.

A finding is printed, with the seed; the exit code is 1 if there was any. What hangs is told after two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time

from tests.stress.lanes.plan import LanesPlan
from tests.stress.lanes.plan import make_plan as make_lanes_plan
from tests.stress.lanes.run import LanesRun
from tests.stress.plan import FAULTS, LOOPS, Plan, make_plan
from tests.stress.run import CallsRun, Outcome, Run

_COUNTED = ("calls", "streams", "items", "messages", "replies", "cancelled")
_ENDING = (signal.SIGTERM, signal.SIGHUP)
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
    try:
        return asyncio.run(_all(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:  # by one of `_ENDING`
        return 128 + signal.SIGTERM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    seed_decides = "(default: the seed decides)"
    add("--seeds", type=_range, default=range(1, 13), metavar="A[-B]", help="default: 1-12")
    seconds = "of load for each seed; 3 to 10 more until all of it is over (default: 10)"
    add("--seconds", type=_positive, default=10.0, metavar="S", help=seconds)
    add("--minutes", type=_positive, metavar="M", help="begin no more seeds after that")
    jobs = "seeds at a time, 1 to 16 (default: 1)"
    add("--jobs", type=int, choices=range(1, 17), default=1, metavar="N", help=jobs)
    add("--loop", choices=LOOPS, help=f"of both processes; debug is asyncio's in debug mode {seed_decides}")
    level = "1: messages of every pattern, in lanes between two processes; 2: services (default: every third seed is 1)"
    add("--level", type=int, choices=(1, 2), help=level)
    fault = "stop: either process, for a moment; kill: the server, which is then started again"
    add("--fault", choices=FAULTS, help=f"{fault} {seed_decides}")
    return parser


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        seeds = range(int(first), int(last if dash else first) + 1)
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
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0, and below a million")
    return value


async def _all(arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in _ENDING:  # so that the processes are ended
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    end = time.monotonic() + arguments.minutes * 60 if arguments.minutes else float("inf")
    seeds = iter(arguments.seeds)
    runs = found = 0

    async def lane() -> None:
        nonlocal runs, found
        for seed in seeds:
            if time.monotonic() > end:
                return
            plan, run = _planned(seed, arguments)
            outcome = await run.outcome()
            print(_told(plan, outcome), flush=True)
            runs += 1
            found += bool(outcome.findings)

    try:
        async with asyncio.TaskGroup() as lanes:
            for _ in range(arguments.jobs):
                lanes.create_task(lane())
    finally:
        print(f"{runs} runs, {found} with findings")
    return 1 if found else 0


def _planned(seed: int, arguments: argparse.Namespace) -> tuple[Plan | LanesPlan, Run]:
    level = arguments.level or (1 if seed % 3 == 0 else 2)
    if level == 1:
        lanes = make_lanes_plan(seed, arguments.seconds, arguments.loop, arguments.fault)
        return lanes, LanesRun(lanes)
    plan = make_plan(seed, arguments.seconds, arguments.loop, arguments.fault)
    return plan, CallsRun(plan)


def _told(plan: Plan | LanesPlan, outcome: Outcome) -> str:
    counts = "it did not come to its end"
    if outcome.report is not None:
        tally = outcome.report.tally
        counts = ", ".join(f"{tally[what]:,} {what}" for what in _COUNTED if what in tally)
    head = f"seed {plan.seed}: {plan.loop}, {_parties(plan)}, {outcome.faults} faults ({plan.fault}), "
    lines = [f"{head}{outcome.seconds:.0f} s: {counts}: {'FINDINGS' if outcome.findings else 'well'}"]
    if outcome.findings:
        lines += [f"  {finding}" for finding in outcome.findings]
        if outcome.report is not None:
            lines.append(f"  errors, allowed or not: {outcome.report.errors}")
        lines.append(f"  plan: {plan}")
        level = 2 if isinstance(plan, Plan) else 1
        again = (
            f"--level {level} --seeds {plan.seed} --seconds {plan.seconds:g} --loop {plan.loop} --fault {plan.fault}"
        )
        lines.append(f"  again: python -m tests.stress {again}")
    return "\n".join(lines)


def _parties(plan: Plan | LanesPlan) -> str:
    if isinstance(plan, Plan):
        return f"{len(plan.clients)} clients"
    return f"lanes {' '.join(lane.kind for lane in plan.lanes)}"


if __name__ == "__main__":
    sys.exit(main())
