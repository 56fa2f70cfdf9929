"""The command: `python -m benchmarks.speed [TASK ...]`."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from .contestants import CONTESTANTS, TASKS, contestants_of
from .measure import measure, table
from .tasks import images


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument(
        "tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)}; all of them by default"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="interleaved rounds; medians are taken over them"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of every contestant")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="what is measured: time, or the processor's, where other work shares the machine",
    )
    parser.add_argument("--steps", type=int, help="steps of one measurement, if not the task's own number")
    parser.add_argument("--only", action="append", metavar="NAME", help="a contestant; repeatable")
    parser.add_argument(
        "--peers-python",
        default=os.environ.get("LATENTIA_PEERS_PYTHON", sys.executable),
        help="interpreter with the peers; $LATENTIA_PEERS_PYTHON, else this one",
    )
    parser.add_argument("--verbose", action="store_true", help="show what the contestants print")
    options = parser.parse_args()
    everybody = dict.fromkeys(name for kind in CONTESTANTS.values() for name in kind)
    for chosen, known in ((options.tasks, TASKS), (options.only or [], everybody)):
        for name in chosen:
            if name not in known:
                parser.error(f"{name!r} is unknown: choose among {', '.join(known)}")
    pythons = {False: sys.executable, True: options.peers_python}
    given = [argument.replace(options.peers_python, "PYTHON") for argument in sys.argv[1:]]
    print(shlex.join(["python", "-m", "benchmarks.speed", *given]))
    machine = f"{_processor()}, {os.cpu_count()} cores, threads used: {options.threads}"
    rounds = f"{options.rounds} rounds, {options.clock} time"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {rounds}, {images()[1]}")
    versions: dict[str, str] = {}
    for task in [TASKS[name] for name in options.tasks or TASKS]:
        steps = options.steps or task.steps
        names = [name for name in contestants_of(task) if options.only is None or name in options.only]
        print(f"\n{task.name}: {task.title}; {steps} steps a measurement", flush=True)
        results, found = measure(
            task,
            names,
            pythons,
            options.rounds,
            options.threads,
            steps,
            options.clock,
            quiet=not options.verbose,
        )
        versions |= found
        print(table(task, results, steps), flush=True)
        if hasattr(os, "getloadavg"):
            print(f"load {os.getloadavg()[1]:.1f} over the last five minutes", flush=True)
    python = platform.python_version()
    print(f"\nPython {python}, " + ", ".join(f"{library} {version}" for library, version in versions.items()))
    return 0


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


if __name__ == "__main__":
    raise SystemExit(main())
