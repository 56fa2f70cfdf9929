"""Information criteria: the evidence of the training rows, less a price for each free parameter."""

from __future__ import annotations

import math

from ..joint import Joint
from .estimate import Estimate


def free_parameters(p: Joint) -> int:
    """How many numbers can be chosen in p, k of the criteria: those that change nothing are not counted."""
    return sum(p[name].free_parameters for name in p)


def bic(evidence: Estimate, parameters: int) -> float:
    """The Bayesian information criterion, -2 sum_n log p(x_n) + k log N of N training rows; lower is better.

    evidence: exact, of the rows that the model was fitted to. Differences between models of the same data are
    about twice the log of their Bayes factor. Schwarz (1978), "Estimating the dimension of a model".
    """
    count = len(evidence.values)
    return -2 * count * evidence.mean + parameters * math.log(count)


def aic(evidence: Estimate, parameters: int) -> float:
    """Akaike's information criterion, -2 sum_n log p(x_n) + 2 k over the training rows; lower is better.

    Akaike (1974), "A new look at the statistical model identification".
    """
    return -2 * len(evidence.values) * evidence.mean + 2 * parameters
