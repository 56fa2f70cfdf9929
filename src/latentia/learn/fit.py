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
from ..errors import UsageError
from ..joint import names_given
from ..model import Model
from ..schedules import Schedule
from .driver import drive, training_rows
from .engine import Objective
from .fit_ascent import ascent_work
from .fit_em import em_work
from .folder import check_run, open_run, read_metrics, write_config
from .options import (
    ASCENT_ONLY,
    checked_device,
    checked_keywords,
    chosen,
    make_plan,
    name_of,
    refuse_ascent_options,
)
from .run import Run


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
    objective    a function (p, q, values, noise, **keywords) -> Bound; by default the ELBO, and rws
                 (reweighted wake-sleep) where q draws discrete latents, which the ELBO cannot train
    method       "em" (expectation-maximisation; default when q is Exact and no objective is given),
                 "likelihood" (default when nothing is latent) or "ascent"
    steps, epochs   length of the run, one of the two; 10,000 steps by default. Of EM, the most iterations of
                 a start, 1,000 by default; it stops earlier when it has converged
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

    EM takes these keywords instead, and none of the options of gradient ascent:

    start        "kmeans" (default): the first posterior weights from k-means, linear maps from principal
                 axes; "random": from rows drawn at random, and random linear maps; "model": the parameters as
                 they are
    starts       how many starts, each with its own seed; the one with the best objective is kept, with
                 sampled E-steps the one with the best log p(x)
    tol          converged when the objective per example changes by at most `tol` (1e-7) times its size, or 1
    estep        "exact" (default): log p(x) never falls; "hard", the most probable latents: log p(x, z) never
                 does; "sampled", one draw of them: each M-step maximises log p(x, z) at its draws, as a wake
                 phase does, and no objective need rise
    priors       conjugate priors by variable, such as {"k": Dirichlet(2.0)}: the estimate is then the MAP
    chunk        rows held at a time; by default as many as keep the memory small
    climbs       L-BFGS iterations (20) in an M-step without closed form, as a network's; all rows' posteriors
                 are then held at once

    Raises UsageError for options that do not fit, DataError for data that do not, DivergedError after many
    steps that were not finite, and Interrupted on SIGINT or SIGTERM, once the state is saved.
    """
    objective, method = chosen(model, objective, method, names_given(keywords.get("enumerate", ())))
    call = inspect.signature(fit)
    others = [name for name in call.parameters if name != "keywords"]
    takes, who = (em_work, "method 'em'") if method == "em" else (objective, name_of(objective))
    keywords = checked_keywords(takes, keywords, others, who)
    if model.fitted and not (resume or warm_start):
        raise UsageError(
            "this model is already fitted: pass warm_start=True to train it further, or build a new one"
        )
    if not isinstance(seed, int):
        raise UsageError(f"the seed must be a whole number, got {seed!r}")
    if method == "em":
        given = locals()
        refuse_ascent_options({name: (given[name], call.parameters[name].default) for name in ASCENT_ONLY})
    check_run(out, resume=resume, overwrite=overwrite)
    place = model.device if device is None else checked_device(device)
    train, valid, notes = training_rows(model, data)
    before = model.schema
    model.schema = train.schema
    model.to(place)
    train, valid = train.to(place), None if valid is None else valid.to(place)
    resumed = Path(out) if resume and out is not None else None
    try:
        if method == "em":
            work = em_work(
                model,
                train,
                valid,
                notes,
                resumed,
                out is not None,
                steps=steps,
                seed=seed,
                checkpoint_every=checkpoint_every,
                **keywords,
            )
        else:
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
            work = ascent_work(
                model,
                train,
                valid,
                notes,
                objective,
                method,
                keywords,
                plan,
                optimizer=optimizer,
                lr=lr,
                schedule=schedule,
                clip=clip,
                alternate=alternate,
                precision=precision,
                compile=compile,
                seed=seed,
                resumed=resumed,
                kept=out is not None,
            )
    except Exception:
        model.schema = before
        raise
    run = work.run
    if out is not None:
        run.folder = open_run(Path(out), overwrite=overwrite, upto=work.state.step if resume else None)
        run.history = read_metrics(run.folder)
        described_run = {"fit": {**work.settings, "steps": work.length}}
        write_config(run.folder, config if config is not None else described_run)
    if progress:
        print("\n".join([work.describe(), *run.notes]), file=sys.stderr)
    try:
        drive(work, show=progress)
    finally:
        model.eval()
    model.fitted = True
    if run.folder is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            archive.save(model, run.folder / "model")
        run.notes += [str(warning.message) for warning in caught]
    return run
