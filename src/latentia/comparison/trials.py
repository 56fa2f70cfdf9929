"""compare: which model makes rows that none has seen the most probable, and how sure is that?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .._words import did_you_mean
from ..data import Data, load_data
from ..errors import ArchiveError, Interrupted, LatentiaError, UsageError
from ..evidence import Estimate, log_evidence
from ..evidence.ais import Annealing
from ..evidence.criteria import free_parameters
from ..evidence.methods import METHODS, default_method
from ..model import Model
from .budget import Budget, Fitted
from .candidates import suited_models
from .entries import Entry, NotComparableError, entry_of, held_out, require_comparable
from .result import Compared, Comparison, in_order
from .words import number_words

DEFAULT_SEEDS = (0, 1, 2)


def compare(
    data: Any,
    entries: Mapping[str, Any] | None = None,
    *,
    updates: int | None = None,
    seconds: float | None = None,
    evaluations: int | None = None,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    method: str | None = None,
    samples: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Comparison:
    """Fit models to the same training rows, and compare the evidence of the same test rows.

    data      Data, or what `load_data` takes
    entries   {name: what to compare}; None takes those of `suited_models`. Each is one of

                  a function of the seed that returns a model, built anew for each seed
                  a model that is not fitted: a copy of it is fitted for each seed, from the same weights, so
                  that seeds differ in the order of rows, the noise and the starts of EM
                  (model or function, objective) or (.., objective or None, {options of `fit`}); a function
                  may return such a tuple itself
                  a fitted model, which is only evaluated, and taken at its word that it has not seen the test
                  rows
                  a run folder or a model folder, which is loaded and evaluated; a run that was fitted to
                  other training rows is listed and not ranked

    updates, seconds, evaluations   the budget of each fit at each seed, one of the three: gradient steps or
              iterations of EM; wall time; evaluations of an example (steps times batch, iterations times
              rows). As long as `fit` goes by default otherwise
    seeds     of model functions and of `fit`; the mean over seeds is compared
    method, samples, options   of `log_evidence`, for models whose evidence is not exact

    One that fails is listed with its reason, and the others go on. Models given are left as they are.

    Returns a Comparison, in nats per example and the data's own units. Raises UsageError (a ValueError) where
    there are no test rows and for entries and options that do not fit, and its NotComparableError for models
    of data that were read in another way (other columns, another binarisation).
    """
    budget = Budget(updates, seconds, evaluations)
    seeds = _checked_seeds(seeds)
    _check_evidence(method, samples, options)
    data = data if isinstance(data, Data) else load_data(data)
    for which, rows in (("training", data.train), ("test", data.test)):
        if not len(rows):
            raise UsageError(
                f"{data.name} has no {which} rows: a comparison needs both; read it with a split such as "
                f"split=(0.8, 0.1, 0.1), or name a file for them"
            )
    entries = suited_models(data) if entries is None else entries
    if not entries:
        raise UsageError("there is nothing to compare: pass {name: model, ...}")
    evidence = {"method": method, "samples": samples, **options}
    found = []
    for entry in [entry_of(name, given, data) for name, given in entries.items()]:
        trials = []
        for seed in seeds if entry.recipe is not None else seeds[:1]:
            trials.append(_tried(entry, data, budget, seed, evidence))
            if progress:
                _tell(entry, seed, trials[-1])
        found.append(_compared(entry, trials))
    schema = data.schema
    return Comparison(
        in_order(found), data.name, len(data.test), schema.units, schema.comparable, str(budget)
    )


@dataclass(frozen=True)
class Trial:
    """One fit and its evaluation; a sentence where it failed."""

    model: Model | None = None
    estimate: Estimate | None = None
    run: Fitted | None = None
    fit_seconds: float | None = None
    evaluation_seconds: float | None = None
    failure: str = ""


def _tried(entry: Entry, data: Data, budget: Budget, seed: int, evidence: Mapping[str, Any]) -> Trial:
    """Fit, where there is something to fit, and evaluate.

    Whatever goes wrong is a failure of this model alone, but for an interruption, and for a model of other
    data.
    """
    try:
        if entry.failure:
            raise ArchiveError(entry.failure)
        recipe = None if entry.recipe is None else entry.recipe(seed)
        if recipe is None:
            model, run, fit_seconds = entry.model, None, entry.seconds
        else:
            require_comparable(entry.name, recipe.model, data)
            model, run = recipe.model, budget.fit(recipe, data, seed)
            fit_seconds = run.seconds
        begun = time.perf_counter()
        estimate = _evaluated(model, data, seed, evidence)
    except (Interrupted, NotComparableError):
        raise
    except Exception as error:
        return Trial(failure=_sentence(error))
    return Trial(model, estimate, run, fit_seconds, time.perf_counter() - begun)


def _evaluated(model: Model, data: Data, seed: int, evidence: Mapping[str, Any]) -> Estimate:
    """The evidence of the test rows: exact where it can be; where there is none, what the ELBO says."""
    rows = held_out(model, data)
    if default_method(model) == "exact":
        return log_evidence(model, rows)
    try:
        model.require_density()
    except ValueError:
        return log_evidence(model, rows, "elbo", seed=seed)
    return log_evidence(model, rows, seed=seed, **evidence)


def _compared(entry: Entry, trials: Sequence[Trial]) -> Compared:
    """The trials of all seeds as one row."""
    done = [trial for trial in trials if trial.estimate is not None]
    runs = [trial.run for trial in done if trial.run is not None]
    model = done[0].model if done else None
    return Compared(
        entry.name,
        tuple(trial.estimate for trial in done if trial.estimate is not None),
        tuple(trial.model for trial in done if trial.model is not None),
        tuple(trial.failure for trial in trials if trial.failure),
        None if model is None else free_parameters(model.p),
        _mean([trial.fit_seconds for trial in done]),
        _mean([trial.evaluation_seconds for trial in done]),
        _mean([run.updates for run in runs]) if runs else entry.updates,
        tuple(dict.fromkeys(run.stopped for run in runs)),
        entry.doubt,
        (entry.note,) if entry.note else (),
    )


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return fmean(known) if known else None


def _sentence(error: Exception) -> str:
    """Why it failed; the kind of error where it is not one that is meant for people."""
    text = " ".join(str(error).split())
    meant = isinstance(error, LatentiaError | ValueError) and text
    return text if meant else f"{type(error).__name__}: {text}".removesuffix(": ")


def _tell(entry: Entry, seed: int, trial: Trial) -> None:
    which = entry.name if entry.recipe is None else f"{entry.name}, seed {seed}"
    if trial.estimate is None:
        print(f"{which}: failed: {trial.failure}", file=sys.stderr)
        return
    told = f"{which}: {number_words(Compared(entry.name, (trial.estimate,)))} nats per row"
    if trial.run is not None:
        told += f", {trial.run.updates:,} updates in {trial.run.seconds:.2g} s"
    print(told, file=sys.stderr)


def _checked_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds, whole numbers that differ. Raises UsageError otherwise."""
    given = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    if not given or not all(isinstance(seed, int) for seed in given) or len(set(given)) < len(given):
        raise UsageError(f"seeds are different whole numbers, such as (0, 1, 2); got {seeds!r}")
    return given


def _check_evidence(method: str | None, samples: int | None, options: Mapping[str, Any]) -> None:
    """Raise UsageError for what log_evidence would refuse after every fit."""
    if method is not None and method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        raise UsageError(f"method {method!r} is unknown: use {', '.join(map(repr, METHODS))}{hint}")
    if samples is not None and not (isinstance(samples, int) and samples >= 1):
        raise UsageError(f"samples must be at least 1, got {samples}")
    taken = [name for name in (*Annealing.__dataclass_fields__, "start") if name != "chains"]
    for name in options:
        if method != "ais" or name not in taken:
            hint = did_you_mean(name, ["updates", "seconds", "evaluations", "seeds", "samples", *taken])
            raise UsageError(f"compare has no option {name!r}{hint}")
