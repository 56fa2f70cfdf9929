"""Maximum likelihood of a log-linear model by Newton's method: weights at which expected features match.

X values of the support, Z states of the parent, F features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .features import Features

STEPS = 100
LAST = 1e-13  # a step that promises no more nats per example is the last: features match to 1e-8 and better
NEAR = 1e-3  # within so many nats per example of the maximum, a Hessian serves for several steps
RIDGE = 1e-14
"""The precision, per example, of the prior on weights that were given none.

Where a feature never occurs, or always, the likelihood rises without bound in its weight, by less and
less. The ridge stops the weight near 28, where a probability of about 1e-12 is left; the other estimates it
moves by less than float64 can tell.
"""
FLAT = 1e-10  # a variance that directions which change no probability get, on a scale where features have 1


def maximised(features: Features, weights: Tensor, counts: Tensor, precision: float | None = None) -> Tensor:
    """argmax_w  sum_xz counts_xz log p(x | z, w) - precision / 2 |w|^2, float64 `[F]`, up from `weights`.

    The objective is concave: its gradient is sum_xz (counts_xz - N_z p(x | z)) f(x, z) - precision w, its
    Hessian minus the covariance of the features under the model. Newton's steps go as far as the objective
    rises, so that it never falls. counts: `[X, Z]`.
    """
    n = counts.sum(0)  # [Z]
    total = float(n.sum())
    precision = RIDGE * total if precision is None else precision
    logits = features.logits(weights)
    tril, before = None, math.inf
    for _ in range(STEPS if total > 0 else 0):
        p = torch.softmax(logits, 0)
        gradient = features.sums(counts - n * p) - precision * weights
        if tril is None:
            scale, tril = _factored(features.covariance(p, n), precision)
        step = scale * torch.cholesky_solve((scale * gradient).unsqueeze(-1), tril).squeeze(-1)
        promised = float(gradient @ step)
        change = features.logits(step)
        length = _length(promised, change - (p * change).sum(0), p, n, precision * float(step @ step))
        if length == 0:
            break
        weights, logits = weights + length * step, logits + length * change
        if promised <= LAST * total:
            break
        if promised > min(NEAR * total, 0.01 * before):
            tril = None
        before = promised
    return weights


def _factored(covariance: Tensor, precision: float) -> tuple[Tensor, Tensor]:
    """s and L with covariance + precision I = S^-1 L L^T S^-1, S = diag(s); L L^T has a unit diagonal."""
    variance = covariance.diagonal() + precision
    scale = variance.clamp(min=torch.finfo(variance.dtype).tiny).rsqrt()
    unit, flat = scale.unsqueeze(-1) * covariance * scale, FLAT
    unit.diagonal().fill_(1.0)
    tril, fault = torch.linalg.cholesky_ex(unit + flat * torch.eye(len(unit)).to(unit))
    while fault and flat < len(unit):
        flat *= 100
        tril, fault = torch.linalg.cholesky_ex(unit + flat * torch.eye(len(unit)).to(unit))
    return scale, tril


def _length(promised: float, change: Tensor, p: Tensor, n: Tensor, shrinkage: float) -> float:
    """The largest of 1, 1/2, 1/4 ... at which the objective gains a fair part of what is promised, else 0.

    The gain is t g.d - sum_z N_z log E_z[exp(t (d.f - E_z[d.f]))] - t^2 / 2 precision |d|^2, in which nothing
    large cancels: it is right to the last digit even where it is far below the rounding of the objective.
    """
    length = 1.0
    for _ in range(60):
        spread = torch.where(n > 0, n * torch.log1p((p * torch.expm1(length * change)).sum(0)), 0.0)
        gain = length * promised - float(spread.sum()) - length**2 / 2 * shrinkage
        if math.isfinite(gain) and gain >= 1e-4 * length * promised > 0:
            return length
        length /= 2
    return 0.0
