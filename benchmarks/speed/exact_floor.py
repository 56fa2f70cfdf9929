"""The floor of models with exact posteriors: their bare matrix products, each of the best shape for BLAS.

A mixture's iteration multiplies every row by K matrices, and every component's weighed rows by the rows. Half
of either may be left out, as the matrices are triangular or symmetric; nothing is left out here. An iteration
of factor analysis multiplies the covariance and the map, and a closed form needs one covariance.
"""

from __future__ import annotations

import math

import torch

from .contestants import Run
from .exact_tasks import Factors, Linear, Mixture, pixels
from .tasks import Task

CHUNK = 1000  # rows


def build(task: Task) -> Run:
    if isinstance(task, Mixture):
        return _mixture(task)
    if isinstance(task, Linear):
        return _linear(task)
    raise TypeError(f"no floor for {task}")


def _mixture(task: Mixture) -> Run:
    rows, entries = (60_000, 50) if task.rows == "mnist" else (1_000_000, 10)
    kind = getattr(torch, task.dtype)
    x = torch.randn(CHUNK, entries, dtype=kind)
    maps = torch.randn(task.components * entries, entries, dtype=kind)
    whitened = torch.randn(task.components * entries, CHUNK, dtype=kind)
    scatter = torch.empty_like(maps)

    def run(steps: int) -> float:
        for _ in range(steps * rows // CHUNK):
            torch.mm(maps, x.mT, out=whitened)
            torch.mm(whitened, x, out=scatter)
        return math.nan

    return run


def _linear(task: Linear) -> Run:
    x = torch.from_numpy(pixels(task.dtype))
    covariance = torch.empty(x.shape[1], x.shape[1], dtype=x.dtype)
    map_ = torch.randn(x.shape[1], task.latent, dtype=x.dtype)

    def run(steps: int) -> float:
        for _ in range(steps):
            if isinstance(task, Factors):
                torch.mm(covariance, map_)
            else:
                torch.mm(x.mT, x, out=covariance)
        return math.nan

    return run
