"""Stochastic gradient ascent of a bound: a generator that trains and tells, and prints nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DivergedError
from .engine import Engine, batches

if TYPE_CHECKING:
    from ..data import Rows

HOPELESS = 200  # steps skipped in a row before a run counts as diverged

Record = dict[str, Any]


@dataclass
class Progress:
    """Where a run stands: what a checkpoint holds beside the tensors.

    waited    validations since the best one
    skipped   steps left out because their gradient was not finite
    unfinite  validations whose bound was not finite
    """

    step: int = 0
    best_step: int = 0
    best_value: float | None = None
    waited: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    unfinite: int = 0
    seconds: float = 0.0
    stopped: str = ""


@dataclass(frozen=True)
class Plan:
    """How long a run goes on and how often it looks, in steps.

    patience  in validations; None never stops early
    """

    steps: int
    batch: int
    valid_every: int
    report_every: int
    checkpoint_every: int
    patience: int | None


def ascend(
    engine: Engine, train: Rows, valid: Rows | None, plan: Plan, progress: Progress
) -> Iterator[list[Record]]:
    """Train from `progress.step` to the plan's end, yielding after every step the records it has to tell,
    mostly none.

    A record is a line of metrics.jsonl. At each yield the state is consistent, so the caller may save it or
    stop. Early stopping follows the mean bound of the validation rows. Raises DivergedError when every recent
    step was not finite.
    """
    device = engine.model.device
    per_epoch = len(train) // plan.batch
    told: list[tuple[Tensor, Tensor]] = []
    seconds_before, clock = progress.seconds, time.perf_counter()
    interval_start = clock
    for index in batches(len(train), plan.batch, engine.seed, progress.step, device):
        if progress.stopped or progress.step >= plan.steps:
            progress.stopped = progress.stopped or "steps"
            return
        told.append(engine.advance(train, index, progress.step))
        progress.step += 1
        last = progress.step >= plan.steps
        records: list[Record] = []
        at = {"step": progress.step, "epoch": progress.step / per_epoch}
        if progress.step % plan.report_every == 0 or last:
            report, bad = _summary(told)
            now = time.perf_counter()
            progress.seconds = seconds_before + now - clock
            speed = len(told) * plan.batch / max(1e-9, now - interval_start)
            _count_skips(engine, progress, len(told), bad, last)
            if bad < len(told):
                pace = {
                    "examples_per_second": speed,
                    "skipped": progress.skipped,
                    "lr": engine.rate(progress.step - 1),
                }
                records.append(at | _told("train", progress.seconds, engine.named(report)) | pace)
            told, interval_start = [], now
        if valid is not None and (progress.step % plan.valid_every == 0 or last):
            numbers = engine.evaluate(valid, progress.step)
            progress.seconds = seconds_before + time.perf_counter() - clock
            _follow(progress, numbers["bound"], plan.patience)
            if math.isfinite(numbers["bound"]):
                records.append(at | _told("valid", progress.seconds, numbers))
        if last and not progress.stopped:
            progress.stopped = "steps"
        yield records


def _summary(told: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, int]:
    """The mean report `[1 + T]` of the steps that were not skipped, and how many were."""
    reports, skipped = (torch.stack(column).double() for column in zip(*told, strict=True))
    kept = torch.where(skipped.unsqueeze(-1) > 0, torch.zeros_like(reports), reports)
    bad = int(skipped.sum())
    return kept.sum(0) / max(1, len(told) - bad), bad


def _told(split: str, seconds: float, numbers: dict[str, float]) -> Record:
    terms = {name: value for name, value in numbers.items() if name != "bound"}
    return {"seconds": seconds, "split": split, "bound": numbers["bound"], "terms": terms}


def _follow(progress: Progress, value: float, patience: int | None) -> None:
    """Keep the best validation bound, and stop after `patience` validations without a better one."""
    if math.isfinite(value) and (progress.best_value is None or value > progress.best_value):
        progress.best_value, progress.best_step, progress.waited = value, progress.step, 0
        return
    progress.waited += 1
    progress.unfinite += not math.isfinite(value)
    if patience is not None and progress.waited >= patience:
        progress.stopped = "patience"


def _count_skips(engine: Engine, progress: Progress, counted: int, bad: int, last: bool) -> None:
    progress.skipped += bad
    progress.skipped_in_a_row = progress.skipped_in_a_row + counted if bad == counted else 0
    if progress.skipped_in_a_row >= HOPELESS or (last and progress.skipped == progress.step):
        culprits = engine.culprits()
        where = (
            f"; not finite: {', '.join(culprits[:3])}" if culprits else "; the parameters are still finite"
        )
        raise DivergedError(
            f"the gradients of the last {progress.skipped_in_a_row:,} steps up to step {progress.step:,} "
            f"were not finite, and the steps were skipped{where}. Use a smaller learning rate, clip the "
            f"gradients, or look for extreme values in the data"
        )
