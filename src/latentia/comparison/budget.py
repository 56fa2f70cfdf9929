"""The budget of a comparison: how long each model may be fitted."""

from __future__ import annotations

import copy
import importlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..data import Data
from ..errors import UsageError
from ..learn import Run, fit
from ..learn.engine import Objective
from ..learn.options import chosen
from ..model import Model

OWN = ("seed", "progress", "out", "resume", "overwrite", "warm_start", "config")
LENGTHS = ("steps", "epochs")
FIRST = 5  # iterations of the first slice of EM, by which the next is measured
SHARE = 0.6  # of the time that is left, which the next slice is meant to take
REST = 0.05  # of the seconds: so little left is not worth another slice
FEW, MANY = 3, 20  # steps by which gradient ascent is timed, the latter where they are a small share


@dataclass(frozen=True)
class Recipe:
    """A model to fit, by which objective, with which options of `fit`."""

    model: Model
    objective: Objective | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return chosen(self.model, self.objective, self.options.get("method"))[1]


@dataclass(frozen=True)
class Fitted:
    """What a fit took, and why it ended: "converged", "patience" or "steps"."""

    updates: int
    seconds: float
    stopped: str

    @classmethod
    def of(cls, run: Run) -> Fitted:
        return cls(run.steps, run.seconds, run.stopped)


@dataclass(frozen=True)
class Budget:
    """How long each model may be fitted at each seed, by one of three measures; none: as long as `fit` does.

    updates      gradient steps, or iterations of EM
    seconds      of training, as wall time: EM ends with the first iterations that take longer, gradient
                 ascent takes as many steps as should fit in, by the pace of a few that are timed first
    evaluations  of an example: gradient steps times the batch, iterations of EM times the training rows

    Whatever converges, or finds no better validation bound for a while, stops before.
    """

    updates: int | None = None
    seconds: float | None = None
    evaluations: int | None = None

    def __post_init__(self) -> None:
        given = {name: number for name, number in vars(self).items() if number is not None}
        if len(given) > 1:
            raise UsageError(f"a budget has one measure: say {' or '.join(given)}, not both")
        for name, number in given.items():
            if not number > 0:
                raise UsageError(f"{name} must be above 0, got {number}")

    def __str__(self) -> str:
        if self.updates is not None:
            return f"at most {self.updates:,} updates a fit"
        if self.seconds is not None:
            return f"at most about {self.seconds:.3g} s of training a fit"
        if self.evaluations is not None:
            return f"at most {self.evaluations:,} evaluations of an example a fit"
        return "steps by default"

    @property
    def given(self) -> bool:
        return any(number is not None for number in vars(self).values())

    def fit(self, recipe: Recipe, data: Data, seed: int) -> Fitted:
        """Fit the recipe's model in place, within the budget.

        Raises UsageError for options that a comparison sets itself, for a budget that is not enough for one
        update, and what `fit` raises.
        """
        taken = [name for name in recipe.options if name in OWN or (self.given and name in LENGTHS)]
        if taken:
            raise UsageError(f"{taken[0]} is set by the comparison: leave it out")
        options = {**recipe.options, "seed": seed, "progress": False}
        if recipe.method == "em":
            importlib.import_module("sklearn.cluster")  # of k-means: the first fit should not pay for it
        if self.seconds is not None:
            fit_for = _em_for if recipe.method == "em" else _ascent_for
            return fit_for(self.seconds, recipe, data, options)
        steps = self._steps(recipe, len(data.train))
        if steps is not None:
            options["steps"] = steps
        return Fitted.of(fit(recipe.model, data, recipe.objective, **options))

    def _steps(self, recipe: Recipe, rows: int) -> int | None:
        """The length of a fit in its own steps."""
        em = recipe.method == "em"
        starts = int(recipe.options.get("starts", 1)) if em else 1
        if self.updates is not None:
            return max(1, self.updates // starts)
        if self.evaluations is None:
            return None
        each = rows * starts if em else int(recipe.options.get("batch") or min(128, rows))
        if self.evaluations < each:
            one = f"one iteration of EM over the {rows:,} training rows" if em else f"one batch of {each:,}"
            raise UsageError(f"{self.evaluations:,} evaluations are not enough for {one}")
        return self.evaluations // each


def _em_for(seconds: float, recipe: Recipe, data: Data, options: Mapping[str, Any]) -> Fitted:
    """EM in slices, each going on where the last one ended, until it converges or the time is over."""
    if options.get("starts", 1) != 1:
        raise UsageError("starts of EM cannot share a number of seconds: use updates=, or more seeds")
    spent, updates, length = 0.0, 0, FIRST
    while True:
        later = {"start": "model", "warm_start": True} if updates else {}
        run = fit(recipe.model, data, **{**options, **later, "steps": length})
        spent, updates = spent + run.seconds, updates + run.steps
        pace, left = run.seconds / run.steps, seconds - spent
        if run.stopped != "steps" or left < max(REST * seconds, 2 * pace):
            return Fitted(updates, spent, run.stopped)
        length = max(2, int(SHARE * left / pace))


def _ascent_for(seconds: float, recipe: Recipe, data: Data, options: Mapping[str, Any]) -> Fitted:
    """Gradient ascent in as many steps as the time is enough for, by the pace of a few steps of a copy."""
    options = {"compile": False, **options}
    pace = _pace(recipe, data, {**options, "steps": FEW})
    if MANY * pace < 0.2 * seconds:
        pace = _pace(recipe, data, {**options, "steps": MANY})
    steps = max(1, int(seconds / pace))
    return Fitted.of(fit(recipe.model, data, recipe.objective, **{**options, "steps": steps}))


def _pace(recipe: Recipe, data: Data, options: Mapping[str, Any]) -> float:
    """Seconds a step, the median of some steps of a copy, with its share of a validation."""
    model, objective = copy.deepcopy((recipe.model, recipe.objective))
    run = fit(model, data, objective, **{**options, "report_every": 1})
    told = [float(record["seconds"]) for record in run.history if record["split"] == "train"]
    batch = int(options.get("batch") or min(128, len(data.train)))
    every = int(options.get("valid_every") or max(100, len(data.train) // batch))
    steps = [after - before for before, after in itertools.pairwise(told)]
    return median(steps or told) + (run.seconds - told[-1]) / every
