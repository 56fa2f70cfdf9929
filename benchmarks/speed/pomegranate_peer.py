"""pomegranate's GeneralMixtureModel of Normals.

Every measurement begins anew: in float32 its covariances soon lose their positive definiteness.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

from .contestants import Run
from .exact_tasks import Mixture, mixture_start


def build(task: Mixture) -> Run:
    start = mixture_start(task)
    x, moments = torch.from_numpy(start.x), start.moments(task.components)

    def run(steps: int) -> Callable[[], float]:
        weights, means, covariances = (torch.tensor(part) for part in moments)
        normals = [Normal(mean, covariance) for mean, covariance in zip(means, covariances, strict=True)]
        model = GeneralMixtureModel(normals, priors=weights, max_iter=steps, tol=-math.inf)
        model.fit(x)
        return lambda: float(model.log_probability(x).mean())

    return run
