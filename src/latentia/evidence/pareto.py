"""The Pareto shape of importance weights: whether their mean can be trusted.

K samples, B examples, M of the largest weights of each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEW = 16  # examples whose tails are fitted together
TRUSTED = 0.7
"""Above it neither the mean of the weights nor its error is to be trusted, however many samples."""


def tail_size(samples: int) -> int:
    """How many of the largest weights make the tail: min(K / 5, 3 sqrt(K)), Vehtari et al. (2024)."""
    return min(samples // 5, math.ceil(3 * math.sqrt(samples)))


def threshold(samples: int) -> float:
    """The k-hat up to which an estimate by K samples is reliable: min(1 - 1 / log10(K), 0.7)."""
    return min(1 - 1 / math.log10(samples), TRUSTED) if samples > 10 else 0.0


def pareto_k(largest: Tensor) -> Tensor:
    """k-hat of each example, `[B]`: the shape of a generalised Pareto distribution fitted to the tail.

    largest: the M + 1 largest log weights `[M + 1, B]`, in any order; the smallest of them is the cut-off.
    Below 1/2 the weights have a variance, below 1 a mean. NaN where the tail is too short (M < 5) or all of
    it is one value; -inf where the weights do not vary at all.

    Zhang & Stephens (2009), eqs. 4-6, with the weak prior of Vehtari, Simpson, Gelman, Yao & Gabry (2024),
    appendix C.
    """
    ordered = largest.double().sort(dim=0).values
    size = len(ordered) - 1
    if size < 5:
        return torch.full_like(ordered[0], math.nan)
    top = ordered[-1]
    excess = torch.exp(ordered[1:] - top) - torch.exp(ordered[:1] - top)  # [M, B], ascending
    constant = excess[-1] <= 0
    excess = torch.where(constant, torch.linspace(0.1, 1.0, size).to(excess).unsqueeze(-1), excess)
    points = 30 + int(math.sqrt(size))
    places = torch.arange(1, points + 1, dtype=torch.float64, device=excess.device).unsqueeze(-1)
    quartile = excess[int(size / 4 + 0.5) - 1].clamp(min=torch.finfo(torch.float64).tiny)
    theta = 1 / excess[-1] + (1 - (points / (places - 0.5)).sqrt()) / (3 * quartile)  # [P, B]
    # [P, M, B] at a time for a few examples
    pieces = [
        torch.log1p(-t.unsqueeze(1) * e).mean(1)
        for t, e in zip(torch.split(theta, FEW, 1), torch.split(excess, FEW, 1), strict=True)
    ]
    shape = torch.cat(pieces, 1)  # [P, B]
    profile = size * ((-theta / shape).log() - shape - 1)
    best = (torch.softmax(profile.nan_to_num(-math.inf), 0) * theta).sum(0)
    k = torch.log1p(-best * excess).mean(0)
    k = (k * size + 0.5 * 10) / (size + 10)
    return torch.where(constant, -math.inf, k)
