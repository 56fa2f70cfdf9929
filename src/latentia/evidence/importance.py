"""Importance sampling of the evidence: L_K and naive Monte Carlo, streamed over samples in bounded memory.

K samples, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._compiling import Compiled
from ..exact import Inference
from ..joint import Completion, Joint, Values, average, total
from ..noise import GivenNoise, Noise, Request, Source
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
    weigh: Callable[[Values, Noise, int], Tensor] | None = None,
) -> Stream:
    """L_K = log (1/K) sum_k w_k, w_k = p(x, z_k) / q(z_k | x), z_k ~ q(z | x). E[L_K] <= log p(x).

    With q = p the draws come from the prior and w_k = p(x | z_k): naive Monte Carlo. At most `chunk` samples
    are drawn at a time; the stream that took in all K tells L_K and its errors by `weighed`. weigh: a
    `Weigher` that is kept from batch to batch, so that it may compile.

    Burda et al. (2016), eq. 8; Owen (2013), ch. 2 and 9.
    """
    weigh = weigh or Weigher(p, q)
    stream = Stream(samples)
    even = math.ceil(samples / math.ceil(samples / chunk))  # as few shapes as can be
    for start in range(0, samples, even):
        stream.add(weigh(values, noise, min(even, samples - start)))
    return stream


class Weigher:
    """log w of so many fresh draws, `[S, B]`; compiled for the shape of the first call where asked.

    enumerate   discrete latents summed over, w = sum_k p(x, k, z_k) / q(z_k | k, x) with a draw of z for each
    live        S times B of which p is evaluated at a time, in one piece after the other
    """

    def __init__(
        self,
        p: Joint,
        q: Inference,
        compile: bool = False,
        enumerate: Sequence[str] = (),
        live: int | None = None,
    ) -> None:
        self.p, self.q, self.compile, self.enumerate, self.live = p, q, compile, tuple(enumerate), live
        self.requests: dict[str, Request] | None = None
        self.shape = (0, 0)
        self.execute: Callable[..., Tensor] = self._weights

    def __call__(self, values: Values, noise: Noise, samples: int) -> Tensor:
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

    def _weights(self, values: Values, noise: Source, samples: int) -> Tensor:
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


class Stream:
    """Sums over log weights that arrive in pieces, and the largest of them.

    sums      log sum_k w_k and log sum_k w_k^2, `[2, B]`
    largest   those that make the tail and one more, `[M + 1, B]`
    """

    def __init__(self, samples: int) -> None:
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        self.samples = samples
        self.sums: Tensor | None = None
        self.largest: Tensor | None = None

    def add(self, log_w: Tensor) -> None:
        """Take in log weights `[S, B]`."""
        sums, pool = torch.stack([torch.logsumexp(log_w, 0), torch.logsumexp(2 * log_w, 0)]), log_w
        if self.sums is not None and self.largest is not None:
            sums, pool = torch.logaddexp(self.sums, sums), torch.cat([self.largest, pool])
        keep = min(tail_size(self.samples) + 1, len(pool))
        self.sums, self.largest = sums, pool.topk(keep, dim=0, sorted=False).values

    def taken(self) -> tuple[Tensor, Tensor]:
        """The sums and the largest. Raises ValueError where no weights were given."""
        if self.sums is None or self.largest is None:
            raise ValueError("no weights were given")
        return self.sums, self.largest

    def weighed(self) -> Weighed:
        """What they say of each example."""
        (log_sum, log_squares), largest = self.taken()
        effective = torch.exp(2 * log_sum - log_squares)
        value = log_sum - math.log(self.samples)
        if self.samples == 1:
            unknown = torch.full_like(value, math.nan)
            return Weighed(value, unknown, unknown, effective, unknown)
        variance = (self.samples / effective - 1).clamp(min=0) / (self.samples - 1)  # of mean(w) / E[w]
        return Weighed(value, variance.sqrt(), -variance / 2, effective, pareto_k(largest).to(value))


def joined(streams: Sequence[Stream]) -> Stream:
    """The streams of some examples after one another, of as many samples each."""
    whole = Stream(streams[0].samples)
    sums, largest = zip(*(stream.taken() for stream in streams), strict=True)
    whole.sums, whole.largest = torch.cat(sums, -1), torch.cat(largest, -1)
    return whole


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
