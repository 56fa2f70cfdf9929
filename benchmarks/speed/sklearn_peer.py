"""scikit-learn's mixtures, factor analysis and PCA."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from .contestants import Run
from .exact_tasks import FLOOR, FactorsFit, Linear, Mixture, mixture_start, pixels
from .tasks import Task


def build(task: Task, svd_solver: str = "auto") -> Run:
    warnings.simplefilter("ignore", ConvergenceWarning)
    if isinstance(task, Mixture):
        return _mixture(task)
    if not isinstance(task, Linear):
        raise TypeError(f"no model for {task}")
    x = pixels(task.dtype)
    if task.kind == "linear":
        return _pca(task, svd_solver)

    def run(steps: int) -> Callable[[], float]:
        iterations = task.iterations if isinstance(task, FactorsFit) else steps
        model = factor_analysis(task, iterations).fit(x)
        return lambda: float(model.score(x))

    return run


def factor_analysis(task: Linear, iterations: int) -> FactorAnalysis:
    """Of so many iterations, by the randomised singular values that are the default."""
    return FactorAnalysis(task.latent, max_iter=iterations, tol=0.0, random_state=0)


def _mixture(task: Mixture) -> Run:
    start = mixture_start(task)
    weights, means, covariances = start.moments(task.components)
    model = GaussianMixture(
        task.components,
        weights_init=weights,
        means_init=means,
        precisions_init=np.linalg.inv(covariances),
        reg_covar=FLOOR,
        tol=0.0,
        warm_start=True,
    )

    def run(steps: int) -> float:
        model.set_params(max_iter=steps).fit(start.x)
        return float(model.lower_bounds_[-1])

    return run


def _pca(task: Linear, svd_solver: str) -> Run:
    x = pixels(task.dtype)

    def run(steps: int) -> Callable[[], float]:
        for _ in range(steps):
            model = PCA(task.latent, svd_solver=svd_solver).fit(x)
        return lambda: float(model.score(x))

    return run
