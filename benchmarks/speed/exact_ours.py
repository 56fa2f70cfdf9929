"""Latentia on models with exact posteriors: `fit` as a user calls it, from the same start as the others."""

from __future__ import annotations

import torch
from torch import Tensor

import latentia as lt

from .contestants import Run
from .exact_tasks import FLOOR, Factors, FactorsFit, Linear, Mixture, mixture_start, pixels
from .tasks import Task

ENOUGH = 10_000  # iterations


def build(task: Task, alone: bool = False) -> Run:
    if isinstance(task, Mixture):
        return _mixture(task)
    if isinstance(task, Factors):
        return _iterations(task)
    if isinstance(task, FactorsFit):
        return _factors(task)
    if isinstance(task, Linear):
        return _axes(task) if alone else _ppca(task)
    raise TypeError(f"no model for {task}")


def _mixture(task: Mixture) -> Run:
    start = mixture_start(task)
    x, labels = torch.from_numpy(start.x), torch.from_numpy(start.labels)
    model = lt.models.gaussian_mixture(x.shape[1], task.components, floor=FLOOR**0.5).to(x.dtype)
    states = torch.arange(task.components).unsqueeze(1)
    weight = (states == labels).to(x.dtype)
    model.p["x"].maximize(model.p["x"].statistics(x, states, weight=weight))
    model.p["k"].maximize(model.p["k"].statistics(states, weight=weight))
    return _em(model, x)


def _iterations(task: Factors) -> Run:
    x = torch.from_numpy(pixels(task.dtype))
    model = lt.models.factor_analysis(x.shape[1], task.latent, floor=FLOOR**0.5).to(x.dtype)
    lt.fit(model, x, steps=1, tol=0.0, progress=False)
    return _em(model, x)


def _em(model: lt.Model, x: Tensor) -> Run:
    """Iterations of EM that go on where the last ones ended."""

    def run(steps: int) -> float:
        made = lt.fit(model, x, start="model", steps=steps, tol=0.0, warm_start=True, progress=False)
        return float(made.history[-1]["bound"])

    return run


def _factors(task: FactorsFit) -> Run:
    """A whole fit, of as many iterations as bring the log-likelihood that scikit-learn has."""
    from .sklearn_peer import factor_analysis

    x = torch.from_numpy(pixels(task.dtype))
    peer = factor_analysis(task, task.iterations).fit(x.numpy())
    goal = float(peer.score(x.numpy()))

    def fitted(steps: int, **options: object) -> tuple[lt.Model, lt.Run]:
        model = lt.models.factor_analysis(x.shape[1], task.latent, floor=FLOOR**0.5).to(x.dtype)
        return model, lt.fit(model, x, steps=steps, progress=False, **options)

    _, made = fitted(ENOUGH)
    enough = next(number for number, record in enumerate(made.history) if record["bound"] >= goal)

    def run(steps: int) -> float:
        for _ in range(steps):
            _, made = fitted(enough, tol=0.0)
        return float(made.history[-1]["bound"])

    return run


def _ppca(task: Linear) -> Run:
    x = torch.from_numpy(pixels(task.dtype))

    def run(steps: int) -> float:
        for _ in range(steps):
            model = lt.models.ppca(x.shape[1], task.latent).to(x.dtype)
            made = lt.fit(model, x, progress=False)
        return float(made.history[-1]["bound"])

    return run


def _axes(task: Linear) -> Run:
    """The factor's closed form, without a model around it."""
    x = torch.from_numpy(pixels(task.dtype))

    def run(steps: int) -> float:
        for _ in range(steps):
            factor = lt.LinearNormal(x.shape[1], task.latent).to(x.dtype)
            factor.start(x)
        return float("nan")

    return run
