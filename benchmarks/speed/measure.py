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

from .contestants import CONTESTANTS
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
        """Run that many steps; returns seconds, bound and versions, or what is missing.

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

    first  seconds of the round before them, with imports, building and compilation
    """

    first: float
    milliseconds: list[float] = field(default_factory=list)
    bound: float = math.nan


def measure(
    task: Task, names: list[str], pythons: dict[bool, str], rounds: int, threads: int, steps: int, quiet: bool
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Run every contestant once, then go round A B C ... A B C ...; returns the rounds and library versions.

    pythons: the interpreter of our own contestants (False) and of the peers (True).
    """
    cpus = sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else []
    workers: dict[str, Worker] = {}
    results: dict[str, Measured] = {}
    versions: dict[str, str] = {}
    try:
        for name in names:
            worker = Worker(name, task, pythons[CONTESTANTS[name].peer], threads, cpus, quiet)
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
            for name, worker in workers.items():
                answer = worker.ask(steps)
                results[name].milliseconds.append(1e3 * answer["seconds"] / steps)
                results[name].bound = answer["bound"]
    finally:
        for worker in workers.values():
            worker.close()
    return results, versions


def ratios(results: dict[str, Measured], name: str, base: str = "floor") -> float:
    """The median over rounds of the ratio to `base` in the same round."""
    pairs = zip(results[name].milliseconds, results[base].milliseconds, strict=True)
    return median(own / floor for own, floor in pairs)


def table(task: Task, results: dict[str, Measured], steps: int) -> str:
    """A line per contestant: time, ratio and its target, the bound reached, and what starting it took."""
    lines = [f"{'':20}{'ms a step':>10}{'s':>8}{'/ floor':>9}{'target':>9}{'bound':>9}{'start s':>9}"]
    for name, result in results.items():
        step, ratio = median(result.milliseconds), ratios(results, name) if "floor" in results else math.nan
        seconds = step * steps / 1e3
        start = max(0.0, result.first - seconds)
        target = task.targets.get(name)
        wanted = "" if target is None else f"{target:g} {'yes' if ratio <= target else 'NO'}"
        bound = "" if math.isnan(result.bound) else f"{result.bound:.2f}"
        numbers = f"{step:10.2f}{seconds:8.2f}{ratio:9.2f}{wanted:>9}{bound:>9}{start:9.1f}"
        lines.append(f"{name:20}{numbers}")
    return "\n".join(lines)
