"""fit: train a model on data by the method that suits it."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import archive
from .._door import holes, refuse_codes, rows_of, takes_row
from ..data import Data, Rows
from ..errors import DivergedError, Interrupted, UsageError
from ..factor import CannotMarginaliseError
from ..model import Model
from ..schedules import Schedule, learning_rate
from . import checkpoint
from .ascent import Plan, Progress, ascend
from .engine import Engine, Objective, build_engine
from .folder import append_metrics, check_run, open_run, read_metrics, write_config
from .options import checked_device, checked_keywords, chosen, described, fingerprint, make_plan, name_of
from .progress_bar import progress_bar
from .run import Run
from .signals import noted_signals

LONG = 20_000  # steps from which a compiled step pays for its compilation


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
    objective, method = chosen(model, objective, method)
    others = [name for name in inspect.signature(fit).parameters if name != "keywords"]
    keywords = checked_keywords(objective, keywords, others)
    if model.fitted and not (resume or warm_start):
        raise UsageError(
            "this model is already fitted: pass warm_start=True to train it further, or build a new one"
        )
    if precision not in ("fp32", "bf16"):
        raise UsageError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if not lr > 0 or (clip is not None and not clip > 0):
        raise UsageError(f"lr and clip must be positive, got lr={lr}, clip={clip}")
    if not isinstance(seed, int):
        raise UsageError(f"the seed must be a whole number, got {seed!r}")
    if alternate and model.q is None:
        raise UsageError("alternate=True updates q and p in turn, and this model has no q")
    check_run(out, resume=resume, overwrite=overwrite)
    place = model.device if device is None else checked_device(device)
    train, valid, notes = _rows(model, data)
    plan = make_plan(
        len(train),
        steps=steps,
        epochs=epochs,
        batch=batch,
        valid_every=valid_every,
        report_every=report_every,
        checkpoint_every=checkpoint_every,
        patience=patience,
    )
    before = model.schema
    model.schema = train.schema
    model.to(place)
    train, valid = train.to(place), None if valid is None else valid.to(place)
    state = Progress()
    try:
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
        run = Run(model, None, name, method, _follows(name, valid, patience), "eager", notes=notes)
        settings = {
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
            "data": fingerprint(train),
            "validation": None if valid is None else fingerprint(valid),
        }
        replayable = _probed(engine, train, plan)
        if resume and out is not None:
            state, compile = _restored(engine, Path(out), plan, settings, run, compile)
        _choose_executor(engine, train, plan, compile, replayable, run)
    except Exception:
        model.schema = before
        raise
    settings["executor"] = run.executor
    if out is not None:
        run.folder = open_run(Path(out), overwrite=overwrite, upto=state.step if resume else None)
        run.history = read_metrics(run.folder)
        write_config(run.folder, config if config is not None else {"fit": settings | {"steps": plan.steps}})
    if progress:
        print(_describe(run), file=sys.stderr)
    try:
        _train(engine, train, valid, plan, state, run, settings, progress)
    finally:
        model.eval()
    model.fitted = True
    if run.folder is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            archive.save(model, run.folder / "model")
        run.notes += [str(warning.message) for warning in caught]
    return run


def _train(
    engine: Engine,
    train: Rows,
    valid: Rows | None,
    plan: Plan,
    state: Progress,
    run: Run,
    settings: Mapping[str, Any],
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
            due = state.step % plan.checkpoint_every == 0 or state.stopped or arrived.signal is not None
            if due and checkpoints is not None:
                checkpoint.save_checkpoint(checkpoints, engine, state, settings)
            tell(state.step, records)
            if arrived.signal is not None and not state.stopped:
                rest = (
                    "there is no run folder to resume"
                    if checkpoints is None
                    else "the state is saved: resume"
                )
                raise Interrupted(f"interrupted after step {state.step:,}; {rest}", arrived.signal)
    if best is not None:
        engine.step_module.load_state_dict(best)
    run.steps, run.best_step, run.best_value = state.step, state.best_step, state.best_value
    run.stopped, run.skipped, run.seconds = state.stopped, state.skipped, state.seconds
    if valid is not None and state.best_value is None:
        raise DivergedError("no validation gave a finite bound: look for extreme validation rows")
    if state.unfinite:
        run.notes.append(
            f"{state.unfinite:,} validations gave a bound that is not finite; they were left out"
        )


def _rows(model: Model, data: Any) -> tuple[Rows, Rows | None, list[str]]:
    """Training and validation rows, checked against the graphs and the likelihood, and what to say of them.

    Raises UsageError where the model has another schema.
    """
    if isinstance(data, Data):
        train, valid = data.train, data.valid if len(data.valid) else None
    else:
        train, valid = rows_of(model, data, numbering=True), None
    if len(train) == 0:
        raise UsageError("there are no training rows")
    if model.schema is not None and model.schema != train.schema:
        raise UsageError(
            "the model was built for data read another way (other columns, scaling or binarisation): build "
            "a new model for these data, or read them as the others were"
        )
    notes = []
    if takes_row(model) and valid is not None:
        valid = None
        notes.append("q has a posterior for each training row and none for others: no validation")
    refuse_codes(model, train.schema)
    train, valid = rows_of(model, train), None if valid is None else rows_of(model, valid)
    pseudo = set()
    for rows in (train, valid):
        if rows is None:
            continue
        for start in range(0, len(rows), 8192):
            values = model.batch(rows, slice(start, start + 8192))
            for name in model.p:
                if name in values:
                    model.p[name].check(name, values[name])
                    pseudo |= set() if model.p[name].measures(values[name]) else {name}
    notes += [
        f"{name!r}: {type(model.p[name]).__name__} is no density of such values: no evidence"
        for name in pseudo
    ]
    return train, valid, notes


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


def _restored(
    engine: Engine, folder: Path, plan: Plan, settings: Mapping[str, Any], run: Run, compile: bool | str
) -> tuple[Progress, bool | str]:
    """The state of the newest checkpoint, and whether its run was compiled.

    Raises UsageError where that run was another one, or none of its checkpoints can be read.
    """
    found, damaged = checkpoint.load_checkpoint(folder / "checkpoints", engine)
    if damaged:
        run.notes.append(f"damaged and passed over: {', '.join(path.name for path in damaged)}")
    if found is None and damaged:
        raise UsageError(f"none of the checkpoints in {folder} can be read: start again with overwrite")
    if found is None:
        run.notes.append("there was no checkpoint yet: the run starts anew")
        return Progress(), compile
    state, old = found
    for name, value in settings.items():
        if old.get(name) != value:
            raise UsageError(f"cannot resume: {name} was {old.get(name)} and is now {value}")
    run.notes.append(f"resumed after step {state.step:,}")
    patient = plan.patience is None or state.waited < plan.patience
    if state.stopped == "steps" or (state.stopped == "patience" and patient):
        state.stopped = ""
    return state, old.get("executor") == "compiled"


def _describe(run: Run) -> str:
    ways = {"ascent": "stochastic gradient ascent", "likelihood": "maximum likelihood by gradient ascent"}
    lines = [f"{ways[run.method]} of {run.objective}, {run.executor}; it follows {run.follows}"]
    return "\n".join([*lines, *run.notes])
