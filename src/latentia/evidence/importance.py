"""Importance sampling of the evidence: L_K, streamed over samples in bounded memory.

K samples, B examples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..exact import Inference
from ..joint import Joint, Values, average
from ..noise import Source
from ..objectives.iwae import log_weights


def importance(
    p: Joint, q: Inference, values: Values, noise: Source, samples: int, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """L_K = log (1/K) sum_k w_k, w_k = p(x, z_k) / q(z_k | x), its error, and the effective sample size.

    All `[B]`. E[L_K] <= log p(x). The error is the delta method's, std(w) / (sqrt(K) mean(w)), and too small
    where the effective sample size (sum w)^2 / sum w^2 is. At most `chunk` samples live at a time.

    Burda et al. (2016), eq. 8; Owen (2013), ch. 2 and 9.
    """
    log_sum: Tensor | None = None
    log_squares: Tensor | None = None
    for start in range(0, samples, chunk):
        done = q.complete(values, noise, min(chunk, samples - start))
        log_w = log_weights(p, done)
        one, two = torch.logsumexp(log_w, 0), torch.logsumexp(2 * log_w, 0)
        log_sum = one if log_sum is None else torch.logaddexp(log_sum, one)
        log_squares = two if log_squares is None else torch.logaddexp(log_squares, two)
    if log_sum is None or log_squares is None:
        raise ValueError(f"samples must be at least 1, got {samples}")
    effective = torch.exp(2 * log_sum - log_squares)
    if samples == 1:
        return log_sum, torch.full_like(log_sum, math.nan), effective
    relative_variance = (samples / effective - 1).clamp(min=0)
    return log_sum - math.log(samples), (relative_variance / (samples - 1)).sqrt(), effective


def elbo_by_groups(
    p: Joint, q: Inference, values: Values, noise: Source, samples: int, groups: int = 10
) -> tuple[Tensor, Tensor, dict[str, Tensor], str]:
    """The ELBO of each example by `samples` draws, its error by groups of draws, its terms, its direction."""
    from ..objectives.elbo import elbo

    sizes = [samples // groups + (i < samples % groups) for i in range(min(groups, samples))]
    bounds = [elbo(p, q, values, noise, samples=size) for size in sizes if size]
    stacked = torch.stack([b.value for b in bounds])
    weights = stacked.new_tensor(sizes).unsqueeze(-1) / samples
    mean = (weights * stacked).sum(0)
    parts = {name: torch.stack([b.terms[name] for b in bounds]) for name in bounds[0].terms}
    terms = {name: average(part, weights.log()) for name, part in parts.items()}
    if len(sizes) == 1:
        return mean, torch.full_like(mean, math.nan), terms, bounds[0].direction
    spread = (weights * (stacked - mean).square()).sum(0) / (len(sizes) - 1)
    return mean, spread.sqrt(), terms, bounds[0].direction
