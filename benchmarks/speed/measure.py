"""Interleaved rounds over worker processes, and the table of medians and ratios to the floor."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .contestants import contestants_of
from .tasks import Task


def environment(threads: int) -> dict[str, str]:
    """Threads and their waiting, set before any library is imported: waiting threads must not spin."""
    count = str(threads)
    eigen = "true" if threads > 1 else "false"
    return os.environ | {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_PROC_BIND": "true",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={count}",
        "JAX_PLATFORMS": "cpu",
    }


class Worker:
    """A contestant's process, kept alive between rounds and pinned to `cpus`."""

    def __init__(
        self, name: str, task: Task, python: str, threads: int, cpus: Iterable[int], quiet: bool
    ) -> None:
        chosen = set(cpus)
        self.name = name
        self.process = subprocess.Popen(
            [python, "-m", f"{__package__}.worker", name, task.name],
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, chosen) if hasattr(os, "sched_setaffinity") else None,
        )

    def ask(self, steps: int) -> dict[str, Any]:
        """Run that many steps; returns seconds a step, bound, memory and versions, or what is missing.

        Raises RuntimeError where the process has ended.
        """
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError(f"{self.name}: the worker has no pipes")
        with contextlib.suppress(BrokenPipeError):
            print(steps, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: the worker stopped with exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=30)


@dataclass
class Measured:
    """One contestant's rounds: milliseconds a step, and the bound of the last one.

    first      seconds of the round before them, with imports, building and compilation
    megabytes  the most memory that a round took beside what was held before it
    """

    first: float
    milliseconds: list[float] = field(default_factory=list)
    bound: float = math.nan
    megabytes: float = 0.0


def measure(
    task: Task,
    names: list[str],
    pythons: dict[bool, str],
    rounds: int,
    threads: int,
    steps: int,
    clock: str,
    quiet: bool,
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Run every contestant once, then go round A B C ... A B C ...; returns the rounds and library versions.

    pythons: the interpreter of our own contestants (False) and of the peers (True). clock: "wall" or "cpu".
    """
    contestants = contestants_of(task)
    cpus = sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else []
    workers: dict[str, Worker] = {}
    results: dict[str, Measured] = {}
    versions: dict[str, str] = {}
    try:
        for name in names:
            worker = Worker(name, task, pythons[contestants[name].peer], threads, cpus, quiet)
            start = time.perf_counter()
            try:
                answer = worker.ask(steps)
            except RuntimeError as failure:
                print(f"  {failure}: left out (--verbose shows why)", file=sys.stderr)
                continue
            if "missing" in answer:
                print(f"  {name} is left out: {answer['missing']} is not installed", file=sys.stderr)
                continue
            workers[name], results[name] = worker, Measured(time.perf_counter() - start)
            versions |= answer["versions"]
        for _ in range(rounds):
            for name, worker in list(workers.items()):
                try:
                    answer = worker.ask(steps)
                except RuntimeError as failure:
                    print(f"  {failure}: left out (--verbose shows why)", file=sys.stderr)
                    del workers[name], results[name]
                    continue
                result = results[name]
                result.milliseconds.append(1e3 * answer["seconds_a_step"][clock])
                result.bound, result.megabytes = answer["bound"], max(result.megabytes, answer["megabytes"])
    finally:
        for worker in workers.values():
            worker.close()
    return results, versions


def ratios(results: dict[str, Measured], name: str, base: str) -> float:
    """The median over rounds of the ratio to `base` in the same round; nan where it did not take part."""
    if base not in results:
        return math.nan
    pairs = zip(results[name].milliseconds, results[base].milliseconds, strict=True)
    return median(own / other for own, other in pairs)


def table(task: Task, results: dict[str, Measured], steps: int) -> str:
    """A line per contestant: time, ratios and their target, the bound reached, memory, what starting took."""
    faster = "" if task.peer is None else f"{'speed-up':>10}"
    titles = ("ms a step", 10), ("s", 8), ("/ floor", 9)
    first = "".join(f"{title:>{width}}" for title, width in titles)
    lines = [f"{'':20}{first}{faster}{'target':>9}{'bound':>9}{'MB':>7}{'start s':>9}"]
    for name, result in results.items():
        step, ratio = median(result.milliseconds), ratios(results, name, "floor")
        seconds = step * steps / 1e3
        start = max(0.0, result.first - seconds)
        reached, speed_up = "", 1.0
        if task.peer is not None:
            speed_up = 1 / ratios(results, name, task.peer)
            reached = f"{speed_up:10.2f}"
        target = task.targets.get(name)
        met = target is not None and (ratio <= target if task.peer is None else speed_up >= target)
        wanted = "" if target is None else f"{target:g} {'yes' if met else 'NO'}"
        bound = "" if math.isnan(result.bound) else f"{result.bound:.2f}"
        numbers = f"{step:10.2f}{seconds:8.2f}{ratio:9.2f}{reached}{wanted:>9}{bound:>9}"
        lines.append(f"{name:20}{numbers}{result.megabytes:7.0f}{start:9.1f}")
    return "\n".join(lines)
