"""fit: train a model on data by the method that suits it."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import archive
from ..data import Data, Rows
from ..errors import Interrupted, UsageError
from ..factor import CannotMarginaliseError
from ..model import Model
from ..objectives.elbo import elbo
from ..schedules import Schedule, learning_rate
from . import checkpoint
from .ascent import Plan, Progress, ascend
from .engine import Engine, Objective, build_engine
from .folder import append_metrics, open_run, read_metrics, write_config
from .progress_bar import progress_bar
from .run import Run
from .signals import noted_signals

LONG = 20_000  # steps from which a compiled step pays for its compilation
METHODS = ("ascent", "likelihood")


def fit(
    model: Model,
    data: Any,
    objective: Objective | None = None,
    method: str | None = None,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer] = "adam",
    lr: float = 1e-3,
    schedule: str | Mapping[int, float] | Schedule = "constant",
    clip: float | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    compile: bool | str = "auto",  # torch's word
    alternate: bool = False,
    valid_every: int | None = None,
    patience: int | None = 10,
    checkpoint_every: int | None = None,
    report_every: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    warm_start: bool = False,
    progress: bool = True,
    config: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Run:
    """Train `model` in place by minibatch stochastic gradient ascent of a bound; returns the Run.

    data         Data from `load_data`; an array, tensor or dict of them is taken whole for training
    objective    a function (p, q, values, noise, **keywords) -> Bound; the ELBO by default
    method       "likelihood" (default when nothing is latent) or "ascent"
    steps, epochs   length of the run, one of the two; 10,000 steps by default
    batch        rows per step, drawn without replacement in a new order each epoch; 128, or all rows if fewer
    optimizer    "adam", "adamw", "rmsprop", "sgd", or a function of the parameters
    schedule     factor on lr: "constant", "cosine", "linear", {step: factor}, or a function of the step
    clip         largest norm of the gradient; a step whose gradient is not finite is skipped and counted
    precision    "fp32" (the model's own type) or "bf16" (networks in bfloat16, densities in float32)
    compile      "auto" compiles runs of 20,000 steps or more, never convolutions on a CPU
    alternate    variational EM: q is updated at even steps, p at odd ones
    valid_every, patience   the validation bound is measured every so many steps (default: an epoch, at least
                 100), and the run stops after `patience` of them without a better one; None never stops
                 early. The model then holds the best weights; the last are in `checkpoints/`
    out          run folder: metrics.jsonl, checkpoints/, config.toml and the model are written there
    resume       go on from the newest checkpoint in `out`; the weights end bit-equal to an unbroken run's
    overwrite    replace an existing run in `out`
    warm_start   train a fitted model further, with a fresh optimiser
    keywords     go to the objective (samples=, beta=, ...); a function of the step becomes a schedule

    Raises UsageError for options that do not fit, DataError for data that do not, DivergedError after many
    steps that were not finite, and Interrupted on SIGINT or SIGTERM, once the state is saved.
    """
    objective, method = _chosen(model, objective, method)
    keywords = _checked(objective, keywords)
    if model.fitted and not (resume or warm_start):
        raise UsageError(
            "this model is already fitted: pass warm_start=True to train it further, or build a new one"
        )
    if resume and out is None:
        raise UsageError("resume needs the run folder: pass out=")
    if precision not in ("fp32", "bf16"):
        raise UsageError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if lr <= 0:
        raise UsageError(f"the learning rate must be positive, got {lr}")
    if device is not None:
        model.to(_device(device))
    train, valid = _rows(model, data)
    plan = _plan(len(train), steps, epochs, batch, valid_every, report_every, patience)
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
    name = getattr(objective, "__name__", type(objective).__name__)
    run = Run(model, None, name, method, _follows(name, valid, patience), "eager")
    settings = {
        "objective": name,
        "keywords": {k: repr(v) for k, v in keywords.items()},
        "batch": plan.batch,
        "optimizer": optimizer if isinstance(optimizer, str) else repr(type(engine.optimiser).__name__),
        "lr": engine.learning_rate,
        "clip": clip,
        "seed": seed,
        "precision": precision,
        "alternate": alternate,
        "rows": len(train),
    }
    if out is not None:
        run.folder = open_run(Path(out), resume=resume, overwrite=overwrite)
        write_config(run.folder, config if config is not None else {"fit": settings | {"steps": plan.steps}})
    _choose_executor(engine, train, plan, compile, run)
    state = _restored(engine, run, settings) if resume else Progress()
    if progress:
        print(f"{_describe(model, run)}", file=sys.stderr)
    _train(engine, train, valid, plan, state, run, settings, checkpoint_every or plan.valid_every, progress)
    model.fitted = True
    if run.folder is not None:
        archive.save(model, run.folder / "model")
    return run


def _train(
    engine: Engine,
    train: Rows,
    valid: Rows | None,
    plan: Plan,
    state: Progress,
    run: Run,
    settings: Mapping[str, Any],
    checkpoint_every: int,
    show: bool,
) -> None:
    """Drive the ascent: write what it tells, save its state, keep the best weights, end on a signal."""
    checkpoints = None if run.folder is None else run.folder / "checkpoints"
    best = checkpoint.load_best(checkpoints, state.best_step) if checkpoints is not None else None
    with noted_signals() as arrived, progress_bar(plan.steps, state.step, show) as tell:
        for records in ascend(engine, train, valid, plan, state):
            run.history += records
            if run.folder is not None:
                append_metrics(run.folder, records)
            if state.best_step == state.step:
                best = checkpoint.clone_state(engine.step_module)
                if checkpoints is not None:
                    checkpoint.save_best(checkpoints, best, state.step)
            due = state.step % checkpoint_every == 0 or bool(state.stopped) or arrived.signal is not None
            if due and checkpoints is not None:
                checkpoint.save_checkpoint(checkpoints, engine, state, settings)
            tell(state.step, records)
            if arrived.signal is not None and not state.stopped:
                saved = (
                    "the state is saved: go on with resume"
                    if checkpoints is not None
                    else "there is no run folder to resume"
                )
                raise Interrupted(f"interrupted after step {state.step:,}; {saved}", arrived.signal)
    if best is not None:
        engine.step_module.load_state_dict(best)
    run.steps, run.best_step, run.best_value = state.step, state.best_step, state.best_value
    run.stopped, run.skipped, run.seconds = state.stopped, state.skipped, state.seconds


def _chosen(model: Model, objective: Objective | None, method: str | None) -> tuple[Objective, str]:
    usual = "ascent" if model.latent or model.q is not None else "likelihood"
    method = usual if method is None else method
    if method not in METHODS:
        raise UsageError(f"method {method!r} is unknown: use {' or '.join(METHODS)}")
    if method == "likelihood" and model.q is not None:
        raise UsageError(
            f"method 'likelihood' needs a model without latent variables; "
            f"{', '.join(model.latent)} is latent here"
        )
    return elbo if objective is None else objective, method


def _checked(objective: Objective, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The objective's keywords, each one it knows. Raises UsageError with the nearest name otherwise."""
    call = objective.forward if isinstance(objective, nn.Module) else objective
    parameters = inspect.signature(call).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(keywords)
    for name in keywords:
        if name not in own:
            options = [*own, *(p for p in inspect.signature(fit).parameters if p != "keywords")]
            close = difflib.get_close_matches(name, options, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(own) or 'none'}"
            raise UsageError(
                f"{getattr(objective, '__name__', 'the objective')} has no option {name!r}{hint}"
            )
    return dict(keywords)


def _device(device: str | torch.device) -> torch.device:
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available: use device='cpu'")
    return chosen


def _rows(model: Model, data: Any) -> tuple[Rows, Rows | None]:
    """Training and validation rows on the model's device, checked against the graphs.

    The schema is attached to the model.
    """
    valid: Rows | None = None
    if isinstance(data, Data):
        train, valid = data.train, data.valid if len(data.valid) else None
    else:
        train = model.rows(data)
    schema = train.schema
    if len(train) == 0:
        raise UsageError("there are no training rows")
    if model.schema is None:
        model.schema = schema
    for rows in (train, valid):
        if rows is None:
            continue
        model.check(rows.tensors)
        sample = model.batch(rows, slice(0, 4096))
        for name in model.p:
            if name in sample:
                model.p[name].check(name, sample[name])
    return train.to(model.device), None if valid is None else valid.to(model.device)


def _plan(
    count: int,
    steps: int | None,
    epochs: int | None,
    batch: int | None,
    valid_every: int | None,
    report_every: int | None,
    patience: int | None,
) -> Plan:
    if steps is not None and epochs is not None:
        raise UsageError("say steps or epochs, not both")
    for name, number in {
        "steps": steps,
        "epochs": epochs,
        "batch": batch,
        "valid_every": valid_every,
        "patience": patience,
    }.items():
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, got {number}")
    if batch is not None and batch > count:
        raise UsageError(
            f"a batch of {batch:,} is larger than the {count:,} training rows: use batch={count} or less"
        )
    batch = min(128, count) if batch is None else batch
    per_epoch = count // batch
    steps = epochs * per_epoch if epochs is not None else 10_000 if steps is None else steps
    valid_every = min(steps, max(100, per_epoch)) if valid_every is None else valid_every
    return Plan(
        steps, batch, valid_every, min(100, valid_every) if report_every is None else report_every, patience
    )


def _follows(objective: str, valid: Rows | None, patience: int | None) -> str:
    if valid is None:
        return "no validation rows: the last weights are kept"
    number = f"the mean {objective} of {len(valid):,} validation rows"
    return f"{number}; the best weights are kept" if patience is None else number


def _choose_executor(engine: Engine, train: Rows, plan: Plan, choice: bool | str, run: Run) -> None:
    """Probe the objective on one batch, then stay eager or compile."""
    if choice not in (True, False, "auto"):
        raise UsageError(f"compile must be True, False or 'auto', got {choice!r}")
    values = engine.model.batch(train, torch.arange(plan.batch, device=engine.model.device))
    try:
        replayable = engine.probe(values)
    except CannotMarginaliseError as error:
        raise UsageError(f"{error}; {engine.model.holes(train.tensors)}") from None
    modules = list(engine.model.modules())
    convolutions = (
        any(isinstance(m, nn.modules.conv._ConvNd) for m in modules) and engine.model.device.type == "cpu"
    )
    if choice is False or (choice == "auto" and (plan.steps < LONG or convolutions or not replayable)):
        return
    if not replayable:
        run.notes.append("a family here draws without given noise, so the step runs eagerly")
        return
    reason = engine.compile(values)
    if reason is not None:
        run.notes.append(f"the step runs eagerly, since it could not be compiled ({reason})")
    run.executor = engine.executor


def _restored(engine: Engine, run: Run, settings: Mapping[str, Any]) -> Progress:
    """The state of the newest checkpoint. Raises UsageError where the run there was another one."""
    if run.folder is None:
        return Progress()
    found = checkpoint.load_checkpoint(run.folder / "checkpoints", engine)
    if found is None:
        run.notes.append("there was no checkpoint yet: the run starts anew")
        read_metrics(run.folder, upto=0)
        return Progress()
    state, old = found
    for name, value in settings.items():
        if old.get(name) != value:
            raise UsageError(f"cannot resume: {name} was {old.get(name)} and is now {value}")
    run.history = read_metrics(run.folder, upto=state.step)
    run.notes.append(f"resumed after step {state.step:,}")
    if state.stopped == "steps":
        state.stopped = ""
    return state


def _describe(model: Model, run: Run) -> str:
    ways = {"ascent": "stochastic gradient ascent", "likelihood": "maximum likelihood by gradient ascent"}
    lines = [f"{ways[run.method]} of {run.objective}, {run.executor}; early stopping follows {run.follows}"]
    return "\n".join([*lines, *run.notes])
