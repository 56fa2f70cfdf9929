"""Importance sampling of the evidence: L_K and naive Monte Carlo, streamed over samples in bounded memory.

K samples, B examples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..exact import Inference
from ..joint import Joint, Values, average
from ..noise import Source
from ..objectives.iwae import log_weights
from .pareto import pareto_k, tail_size


class Weighed(NamedTuple):
    """What K importance weights say of each example, all `[B]`.

    value      log (1/K) sum_k w_k, nats
    error      its standard error by the delta method, std(w) / (sqrt(K) mean(w)); too small where k-hat is
               large
    bias       E[value] - log p by the delta method, -var(w) / (2 K mean(w)^2)
    effective  the effective sample size (sum w)^2 / sum w^2
    k_hat      the Pareto shape of the weights' tail
    """

    value: Tensor
    error: Tensor
    bias: Tensor
    effective: Tensor
    k_hat: Tensor


def importance(p: Joint, q: Inference, values: Values, noise: Source, samples: int, chunk: int) -> Weighed:
    """L_K = log (1/K) sum_k w_k, w_k = p(x, z_k) / q(z_k | x), z_k ~ q(z | x). E[L_K] <= log p(x).

    With q = p the draws come from the prior and w_k = p(x | z_k): naive Monte Carlo. At most `chunk` samples
    live at a time.

    Burda et al. (2016), eq. 8; Owen (2013), ch. 2 and 9.
    """
    stream = Stream(samples)
    for start in range(0, samples, chunk):
        done = q.complete(values, noise, min(chunk, samples - start))
        stream.add(log_weights(p, done))
    return stream.weighed()


class Stream:
    """Sums over log weights that arrive in pieces, and the largest of them."""

    def __init__(self, samples: int) -> None:
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        self.samples = samples
        self.log_sum: Tensor | None = None
        self.log_squares: Tensor | None = None
        self.largest: Tensor | None = None

    def add(self, log_w: Tensor) -> None:
        """Take in log weights `[S, B]`."""
        one, two = torch.logsumexp(log_w, 0), torch.logsumexp(2 * log_w, 0)
        keep = tail_size(self.samples) + 1
        if self.log_sum is None or self.log_squares is None or self.largest is None:
            self.log_sum, self.log_squares, pool = one, two, log_w
        else:
            self.log_sum = torch.logaddexp(self.log_sum, one)
            self.log_squares = torch.logaddexp(self.log_squares, two)
            pool = torch.cat([self.largest, log_w])
        self.largest = pool.topk(min(keep, len(pool)), dim=0, sorted=False).values

    def weighed(self) -> Weighed:
        """What they say of each example."""
        if self.log_sum is None or self.log_squares is None or self.largest is None:
            raise ValueError("no weights were given")
        effective = torch.exp(2 * self.log_sum - self.log_squares)
        value = self.log_sum - math.log(self.samples)
        if self.samples == 1:
            unknown = torch.full_like(value, math.nan)
            return Weighed(value, unknown, unknown, effective, unknown)
        variance = (self.samples / effective - 1).clamp(min=0) / (self.samples - 1)  # of mean(w) / E[w]
        return Weighed(value, variance.sqrt(), -variance / 2, effective, pareto_k(self.largest).to(value))


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
