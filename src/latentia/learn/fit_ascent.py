"""Stochastic gradient ascent as a method of fit: its engine, its executor, what it can resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._door import holes
from ..data import Rows
from ..errors import DivergedError, UsageError
from ..factor import CannotMarginaliseError
from ..model import Model
from ..schedules import Schedule, learning_rate
from .ascent import Plan, Progress, ascend
from .driver import Work, restored
from .engine import Engine, Objective, build_engine
from .options import described, fingerprints, name_of
from .run import Run

LONG = 20_000  # steps from which a compiled step pays for its compilation
WAYS = {"ascent": "stochastic gradient ascent", "likelihood": "maximum likelihood by gradient ascent"}


def ascent_work(
    model: Model,
    train: Rows,
    valid: Rows | None,
    notes: list[str],
    objective: Objective,
    method: str,
    keywords: Mapping[str, Any],
    plan: Plan,
    *,
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    lr: float,
    schedule: str | Mapping[int, float] | Schedule,
    clip: float | None,
    alternate: bool,
    precision: str,
    compile: bool | str,  # torch's word
    seed: int,
    resumed: Path | None,
    kept: bool,
) -> Work:
    """Everything ready to ascend. The options are fit's; kept: whether the run has a folder."""
    if precision not in ("fp32", "bf16"):
        raise UsageError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if not lr > 0 or (clip is not None and not clip > 0):
        raise UsageError(f"lr and clip must be positive, got lr={lr}, clip={clip}")
    if alternate and (model.q is None or model.q.exact):
        raise UsageError("alternate=True updates q and p in turn, and this model's q has no parameters")
    engine = build_engine(
        model,
        objective,
        keywords,
        optimizer=optimizer,
        lr=lr,
        schedule=learning_rate(schedule, plan.steps),
        clip=clip,
        alternate=alternate,
        bf16=precision == "bf16",
        seed=seed,
    )
    name = name_of(objective)
    run = Run(model, None, name, method, _follows(name, valid, plan.patience), "eager", notes=notes)
    settings: dict[str, Any] = {
        "objective": name,
        "keywords": {keyword: described(value) for keyword, value in keywords.items()},
        "batch": plan.batch,
        "optimizer": described(optimizer),
        "lr": engine.rates,
        "schedule": described(schedule),
        "clip": clip,
        "seed": seed,
        "precision": precision,
        "alternate": alternate,
        **(fingerprints(train, valid) if kept else {}),
    }
    replayable, state = _probed(engine, train, plan), Progress()
    if resumed is not None:
        found = restored(engine, resumed, settings, run, state)
        if found is not None:
            state, compile = _unstopped(found[0], plan), found[1].get("executor") == "compiled"
    _choose_executor(engine, train, plan, compile, replayable, run)
    settings["executor"] = run.executor

    def finished() -> None:
        if valid is not None and state.best_value is None:
            raise DivergedError("no validation gave a finite bound: look for extreme validation rows")

    return Work(
        engine,
        ascend(engine, train, valid, plan, state),
        state,
        run,
        settings,
        length=plan.steps,
        checkpoint_every=plan.checkpoint_every,
        way=f"{run.executor} {WAYS[method]}",
        finished=finished,
    )


def _follows(objective: str, valid: Rows | None, patience: int | None) -> str:
    if valid is None:
        return "no validation rows, so the last weights are kept"
    stops = "; it never stops early" if patience is None else ""
    return f"the mean {objective} of {len(valid):,} validation rows, whose best weights are kept{stops}"


def _probed(engine: Engine, train: Rows, plan: Plan) -> bool:
    """Try the objective on one batch. Returns whether its noise can be given, as a compiled step needs."""
    values = engine.model.batch(train, torch.arange(plan.batch, device=engine.device))
    try:
        return engine.probe(values)
    except CannotMarginaliseError as error:
        raise UsageError(f"{error}; {holes(train.schema, train.tensors)}") from None


def _choose_executor(
    engine: Engine, train: Rows, plan: Plan, choice: bool | str, replayable: bool, run: Run
) -> None:
    """Stay eager or compile."""
    if choice not in (True, False, "auto"):
        raise UsageError(f"compile must be True, False or 'auto', got {choice!r}")
    convolution = nn.modules.conv._ConvNd
    slow = engine.device.type == "cpu" and any(isinstance(m, convolution) for m in engine.model.modules())
    if choice is False or (choice == "auto" and (plan.steps < LONG or slow or not replayable)):
        return
    if not replayable:
        run.notes.append("a part of this model draws its own random numbers, so the step runs eagerly")
        return
    reason = engine.compile(engine.model.batch(train, torch.arange(plan.batch, device=engine.device)))
    if reason is not None:
        run.notes.append(f"the step runs eagerly, since it could not be compiled ({reason})")
    run.executor = engine.executor


def _unstopped(state: Progress, plan: Plan) -> Progress:
    """A run that came to its end goes on where the new plan is longer, or more patient."""
    patient = plan.patience is None or state.waited < plan.patience
    if state.stopped == "steps" or (state.stopped == "patience" and patient):
        state.stopped = ""
    return state
