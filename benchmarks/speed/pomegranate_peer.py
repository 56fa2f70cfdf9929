"""pomegranate's GeneralMixtureModel of Normals."""

from __future__ import annotations

import torch
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

from .contestants import Run
from .exact_tasks import Mixture, mixture_start


def build(task: Mixture) -> Run:
    start = mixture_start(task)
    x = torch.from_numpy(start.x)
    weights, means, covariances = (torch.from_numpy(part) for part in start.moments(task.components))
    normals = [Normal(mean, covariance) for mean, covariance in zip(means, covariances, strict=True)]
    model = GeneralMixtureModel(normals, priors=weights, tol=-float("inf"))

    def run(steps: int) -> float:
        model.max_iter = steps
        model.fit(x)
        return float(model.log_probability(x[:1000]).mean())

    return run
