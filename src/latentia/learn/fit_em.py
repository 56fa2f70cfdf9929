"""Expectation-maximisation as a method of fit: its options, checked, and what is said at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._door import given_masks
from .._words import did_you_mean
from ..data import Rows
from ..errors import UsageError
from ..exact import Exact
from ..model import Model
from .driver import Work, restored
from .em import EM, ESTEPS, EMProgress, maximise
from .options import fingerprints
from .run import Run
from .starts import STARTS, check_start, compressed, first_weights

OBJECTIVES = {"exact": "log p(x)", "hard": "log p(x, z)", "sampled": "log p(x, z)"}
ITERATIONS = 1000
CHUNK = 2**24  # numbers that a chunk holds at a time: rows, times states, times entries,
MOST_ROWS = 2**15  # and rows: more of them save nothing


def em_work(
    model: Model,
    train: Rows,
    valid: Rows | None,
    notes: list[str],
    resumed: Path | None = None,
    kept: bool = True,
    /,
    *,
    start: str = "kmeans",
    starts: int = 1,
    tol: float = 1e-7,
    estep: str = "exact",
    priors: Mapping[str, object] | None = None,
    chunk: int | None = None,
    climbs: int = 20,
    steps: int | None = None,
    seed: int = 0,
    checkpoint_every: int | None = None,
) -> Work:
    """Everything ready for EM; the options are those of `fit`. Raises UsageError for ones that do not fit.

    kept: whether the run has a folder, from which it may be resumed with the same data.
    """
    if not isinstance(model.q, Exact):
        raise UsageError("method 'em' needs the exact posterior: build the model as Model(p, Exact(p))")
    for name, value, known in (("start", start, STARTS), ("estep", estep, ESTEPS)):
        if value not in known:
            hint = did_you_mean(str(value), known)
            raise UsageError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}{hint}")
    numbers = {"starts": starts, "chunk": chunk, "climbs": climbs, "steps": steps}
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, got {number}")
    if not tol >= 0:
        raise UsageError(f"tol must not be negative, got {tol}")
    priors = dict(priors or {})
    for name in priors:
        if name not in model.p:
            raise UsageError(f"priors name {name!r}, which {model.p.equation()} does not: is it misspelt?")
    points = compressed(model, train) if estep == "exact" else None
    if points is not None:
        count = len(points["weight"])
        notes.append(f"EM runs on {count:,} points with the mean and covariance of the {len(train):,} rows")
    chunk = max(64, min(MOST_ROWS, CHUNK // _width(model, train))) if chunk is None else chunk
    em = EM(model, train if points is None else points, model.q, estep, priors, chunk, seed, climbs, starts)
    check_start(em, start)
    em.check()
    length = ITERATIONS if steps is None else steps
    follows = f"{'log p(x)' if estep == 'sampled' else 'the objective'} of the {len(train):,} training rows"
    bayesian = any(model.p[name].is_bayesian for name in model.p)
    objective = "the variational bound" if bayesian and estep == "exact" else OBJECTIVES[estep]
    run = Run(model, None, objective, "em", follows, "eager", notes=notes)
    settings: dict[str, Any] = {
        "method": "em",
        "start": start,
        "starts": starts,
        "tol": tol,
        "estep": estep,
        "priors": {name: repr(prior) for name, prior in priors.items()},
        "chunk": chunk,
        "climbs": climbs,
        "seed": seed,
        **(fingerprints(train, valid) if kept else {}),
    }
    state = EMProgress()
    if resumed is not None:
        found = restored(em, resumed, settings, run, state)
        if found is not None and isinstance(found[0], EMProgress):
            state = found[0]
            state.stopped = "" if state.stopped == "steps" and state.iteration < length else state.stopped

    def finished() -> None:
        if state.verdict == "steps" and estep != "sampled":
            change = f"the objective still changed by {state.change:.2g} nats per example; "
            still = change if starts == 1 and math.isfinite(state.change) else ""
            best = "" if starts == 1 else "the best start was "
            iterations = f"{min(length, state.step):,} iterations"
            run.notes.append(f"{best}not converged after {iterations}: {still}raise steps, or tol")
        run.notes.extend(em.troubles())

    return Work(
        em,
        maximise(em, valid, first_weights(start), length, tol, state),
        state,
        run,
        settings,
        length=length * starts,
        checkpoint_every=checkpoint_every or 10,
        way=f"expectation-maximisation by {estep} E-steps",
        finished=finished,
    )


def _width(model: Model, rows: Rows) -> int:
    """How many numbers an E-step holds for a row: with holes, covariances that differ by row."""
    entries = max(math.prod(model.p[name].event) for name in model.p)
    return model.widest * (entries if given_masks(rows.tensors) else 1)
