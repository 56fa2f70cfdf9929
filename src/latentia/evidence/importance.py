"""Importance sampling of the evidence: L_K and naive Monte Carlo, streamed over samples in bounded memory.

K samples, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from .._compiling import Compiled
from ..exact import Inference
from ..joint import Completion, Joint, Values, average, total
from ..noise import GivenNoise, Noise, Request, Source
from ..numerics import logsumexp
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


def streamed(
    p: Joint,
    q: Inference,
    values: Values,
    noise: Noise,
    samples: int,
    chunk: int,
    weigh: Callable[[Values, Noise, int], Weights] | None = None,
) -> Weights:
    """L_K = log (1/K) sum_k w_k, w_k = p(x, z_k) / q(z_k | x), z_k ~ q(z | x). E[L_K] <= log p(x).

    With q = p the draws come from the prior and w_k = p(x | z_k): naive Monte Carlo. At most `chunk` samples
    are drawn at a time; L_K and its errors are what all K say, by `weighed`. weigh: a `Weigher` that is kept
    from batch to batch, so that it may compile. Raises ValueError for fewer than one sample.

    Burda et al. (2016), eq. 8; Owen (2013), ch. 2 and 9.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    weigh = weigh or Weigher(p, q, samples)
    even = math.ceil(samples / math.ceil(samples / chunk))  # as few shapes as can be
    pieces = (weigh(values, noise, min(even, samples - start)) for start in range(0, samples, even))
    return reduce(Weights.and_more, pieces)


class Weigher:
    """What is kept of the weights of so many fresh draws; compiled for the shape of the first call if asked.

    total       K, how many draws there will be in all
    enumerate   discrete latents summed over, w = sum_k p(x, k, z_k) / q(z_k | k, x) with a draw of z for each
    live        S times B of which p is evaluated at a time, in one piece after the other
    """

    def __init__(
        self,
        p: Joint,
        q: Inference,
        total: int,
        compile: bool = False,
        enumerate: Sequence[str] = (),
        live: int | None = None,
    ) -> None:
        self.p, self.q, self.total = p, q, total
        self.compile, self.enumerate, self.live = compile, tuple(enumerate), live
        self.requests: dict[str, Request] | None = None
        self.shape = (0, 0)
        self.execute: Callable[..., Weights] = self._weights

    def __call__(self, values: Values, noise: Noise, samples: int) -> Weights:
        shape = samples, len(next(iter(values.values())))
        if self.compile and self.requests is None:  # what noise is asked for is known once it has been drawn
            found = self._weights(values, noise, samples)
            self.compile, self.requests, self.shape = noise.replayable, dict(noise.requests), shape
            self.execute = Compiled(self._weights)
            return found
        if not self.compile or self.requests is None or shape != self.shape:
            return self._weights(values, noise, samples)
        drawn = {key: noise.take(key, request) for key, request in self.requests.items()}
        return self.execute(values, GivenNoise(drawn), samples)

    def _weights(self, values: Values, noise: Source, samples: int) -> Weights:
        return Weights.of(self.log_weights(values, noise, samples), self.total)

    def log_weights(self, values: Values, noise: Source, samples: int) -> Tensor:
        """log w of so many fresh draws, `[S, B]`."""
        done = self.q.complete(values, noise, samples, enumerate=self.enumerate)
        log_p = torch.cat([self.p.log_prob(part) for part in self._pieces(done, samples)], -2)
        log_w = log_p - total(done.log_q.values())  # [*enumerated, S, B]
        if not done.enumerated:
            return log_w
        log_w = log_w + done.log_weight + math.log(samples)
        return torch.logsumexp(log_w.flatten(0, log_w.ndim - 3), 0)

    def _pieces(self, done: Completion, samples: int) -> list[dict[str, Tensor]]:
        """The values, some of the samples at a time."""
        rows = next(iter(done.log_q.values())).shape[-1]
        if self.live is None or done.enumerated or samples * rows <= self.live:
            return [done.values]
        count = math.ceil(samples / max(1, self.live // rows))
        drawn = {name: value for name, value in done.values.items() if self._has_samples(name, value)}
        parts = zip(*(value.chunk(count) for value in drawn.values()), strict=True)
        return [done.values | dict(zip(drawn, part, strict=True)) for part in parts]

    def _has_samples(self, name: str, value: Tensor) -> bool:
        return name in self.q and value.ndim > 1 + len(self.q[name].event)


class Weights(NamedTuple):
    """What is kept of K log weights of each example, which come in pieces.

    total     K
    sums      log sum_k w_k and log sum_k w_k^2, `[2, B]`
    largest   those that make the tail and one more, `[M + 1, B]`
    """

    total: int
    sums: Tensor
    largest: Tensor

    @staticmethod
    def of(log_w: Tensor, total: int) -> Weights:
        """Of log weights `[S, B]`, a piece of the K."""
        sums = torch.stack([logsumexp(log_w, (0,)), logsumexp(2 * log_w, (0,))])
        return Weights(total, sums, _largest(log_w, total))

    def and_more(self, other: Weights) -> Weights:
        """Together with another piece."""
        largest = _largest(torch.cat([self.largest, other.largest]), self.total)
        return Weights(self.total, torch.logaddexp(self.sums, other.sums), largest)

    def weighed(self) -> Weighed:
        """What all K say of each example."""
        log_sum, log_squares = self.sums
        effective = torch.exp(2 * log_sum - log_squares)
        value = log_sum - math.log(self.total)
        if self.total == 1:
            unknown = torch.full_like(value, math.nan)
            return Weighed(value, unknown, unknown, effective, unknown)
        variance = (self.total / effective - 1).clamp(min=0) / (self.total - 1)  # of mean(w) / E[w]
        return Weighed(value, variance.sqrt(), -variance / 2, effective, pareto_k(self.largest).to(value))


def _largest(log_w: Tensor, total: int) -> Tensor:
    count = min(tail_size(total) + 1, len(log_w))
    return log_w.topk(count, dim=0, sorted=False).values


def joined(parts: Sequence[Weights]) -> Weights:
    """Those of some examples after one another, of as many samples each."""
    totals, sums, largest = zip(*parts, strict=True)
    return Weights(totals[0], torch.cat(sums, -1), torch.cat(largest, -1))


def elbo_by_groups(
    p: Joint,
    q: Inference,
    values: Values,
    noise: Source,
    samples: int,
    groups: int = 10,
    enumerate: Sequence[str] = (),
) -> tuple[Tensor, Tensor, dict[str, Tensor], str]:
    """The ELBO of each example by `samples` draws, its error by groups of draws, its terms, its direction."""
    from ..objectives.elbo import elbo

    sizes = [samples // groups + (i < samples % groups) for i in range(min(groups, samples))]
    bounds = [elbo(p, q, values, noise, samples=size, enumerate=enumerate) for size in sizes]
    stacked = torch.stack([b.value for b in bounds])
    weights = stacked.new_tensor(sizes).unsqueeze(-1) / samples
    mean = (weights * stacked).sum(0)
    parts = {name: torch.stack([b.terms[name] for b in bounds]) for name in bounds[0].terms}
    terms = {name: average(part, weights.log()) for name, part in parts.items()}
    if len(sizes) == 1:
        return mean, torch.full_like(mean, math.nan), terms, bounds[0].direction
    spread = (weights * (stacked - mean).square()).sum(0) / (len(sizes) - 1)
    return mean, spread.sqrt(), terms, bounds[0].direction
