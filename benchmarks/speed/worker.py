"""One contestant in a process of its own: reads a number of steps a line, answers with a line of JSON.

python -m benchmarks.speed.worker CONTESTANT TASK
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import math
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from .contestants import TASKS, Run, contestants_of

LIBRARIES = {
    "torch": "torch",
    "jax": "jax",
    "numpyro": "numpyro",
    "pythae": "pythae",
    "numpy": "numpy",
    "sklearn": "scikit-learn",
    "pomegranate": "pomegranate",
    "latentia": "latentia",
}


def serve(name: str, task_name: str) -> None:
    """Warm up, which includes compilation, then time what is asked for until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the libraries print is not an answer

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    task = TASKS[task_name]
    contestant = contestants_of(task)[name]
    if importlib.util.find_spec(contestant.needs) is None:
        return answer(missing=contestant.needs)
    run = contestant.build(task)
    for line in sys.stdin:
        steps = int(line) * contestant.times
        before, _ = timed(run, 1) if task.difference else ({"wall": 0.0, "cpu": 0.0}, math.nan)
        held = peak_memory(reset=True)
        after, bound = timed(run, steps + task.difference)
        used = peak_memory() - held
        clocks = {clock: (after[clock] - before[clock]) / steps for clock in after}
        answer(seconds_a_step=clocks, bound=bound, megabytes=used, versions=_versions())


def timed(run: Run, steps: int) -> tuple[dict[str, float], float]:
    """Seconds by the wall's clock and of the processor, and the bound."""
    wall, cpu = time.perf_counter(), time.process_time()
    bound = run(steps)
    clocks = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return clocks, bound() if callable(bound) else bound


def peak_memory(reset: bool = False) -> float:
    """The most memory that the process has held, in MB; after a reset, what it holds now. nan off Linux."""
    status, references = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not references.exists():
        return math.nan
    if reset:
        ctypes.CDLL(None).malloc_trim(0)
        references.write_text("5")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for module, name in LIBRARIES.items() if module in sys.modules}


if __name__ == "__main__":
    serve(*sys.argv[1:])
