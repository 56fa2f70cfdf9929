"""Log-linear models with hidden classes: what has features in common is said once, for all classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..exact import Exact
from ..factors import Categorical, LogLinear
from ..factors.features import FeatureFunction
from ..joint import Joint
from ..model import Model
from ._build import seeded
from ._likelihoods import suited

if TYPE_CHECKING:
    from ..data import Data


@seeded
def log_linear(
    event: int | Sequence[int] | None = None,
    classes: int = 2,
    *,
    features: str | Sequence[str] | Tensor | FeatureFunction = ("unary", "pairwise"),
    support: Tensor | None = None,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(z) p(x | z), p(x | z) = exp(w . f(x, z)) / sum_x' exp(w . f(x', z)), z one of a few hidden classes.

    event     shape of one example, of up to 20 binary columns; taken from `data` where that is given
    classes   number of values of z
    features  "unary", x_d for each class: the mixture of Bernoullis; with "pairwise", x_d x_e shared by all
              classes: the columns depend on each other beyond the class. Or f as a tensor `[X, Z, F]` or a
              function (see `LogLinear`)
    support   the values that x can take, `[X, *event]`, where they are not all binary vectors
    data      chooses the event as the command line does; the model takes its schema

    The weights start at random, so that the classes differ. Raises ValueError for sizes below 1, more columns
    or values than can be enumerated, features of another shape and data that are not binary. After Schulz &
    Aziz (2018), "Variational inference and deep generative models"; Dempster, Laird & Rubin (1977).
    """
    if classes < 1:
        raise ValueError(f"a log-linear model needs at least 1 class, got classes={classes}")
    if support is None:
        event, likelihood, _ = suited(event, None, False, data)
        if data is not None and likelihood != "bernoulli":
            raise ValueError(
                "a log-linear model is for binary columns, and the data hold others: binarise them, or list "
                "the values that x can take in support="
            )
    x = LogLinear(features, support, given="z", states=classes, event=event)
    x.weights.data.normal_(std=0.5)  # EM that starts where all classes are alike stays there for long
    p = Joint(z=Categorical(classes), x=x)
    return Model(p, Exact(p), data.schema if data is not None else None)
