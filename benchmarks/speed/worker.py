"""One contestant in a process of its own: reads a number of steps a line, answers with a line of JSON.

python -m benchmarks.speed.worker CONTESTANT TASK
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from importlib import metadata
from typing import Any

from .contestants import CONTESTANTS
from .tasks import TASKS

LIBRARIES = ("torch", "jax", "numpyro", "pythae", "latentia")


def serve(name: str, task_name: str) -> None:
    """Warm up, which includes compilation, then time what is asked for until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the libraries print is not an answer

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    contestant, task = CONTESTANTS[name], TASKS[task_name]
    if importlib.util.find_spec(contestant.needs) is None:
        return answer(missing=contestant.needs)
    run = contestant.build(task)
    for line in sys.stdin:
        steps = int(line)
        start = time.perf_counter()
        bound = run(steps)
        answer(seconds=time.perf_counter() - start, bound=bound, versions=_versions())


def _versions() -> dict[str, str]:
    loaded = [library for library in LIBRARIES if library in sys.modules]
    return {library: metadata.version(library) for library in loaded}


if __name__ == "__main__":
    serve(*sys.argv[1:])
