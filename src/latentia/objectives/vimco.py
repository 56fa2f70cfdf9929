"""VIMCO: the importance-weighted bound for latents that cannot be reparameterised.

K samples, B examples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..exact import Inference
from ..joint import Joint, Values, total
from ..noise import Source
from ._draws import has_draws, scored_in
from .bound import Bound
from .elbo import direction_of, elbo


def vimco(p: Joint, q: Inference | None, values: Values, noise: Source, *, samples: int = 5) -> Bound:
    """L_K(x) = E[log (1/K) sum_k w_k], w_k = p(x, z_k) / q(z_k | x), K = `samples`: its unbiased gradient.

    Each draw z_k has a learning signal of its own, what it adds to the bound: L_K less L_K with w_k put at
    the geometric mean of the other weights,

        grad L_K = E[sum_k (L - L_-k) grad log q(z_k | x) + sum_k w_k / sum_j w_j grad log w_k].

    Latents that can be reparameterised keep their pathwise gradient. Raises ValueError for K = 1, which
    leaves no other weight, and for a q without discrete latents.

    Mnih & Rezende (2016), "Variational inference for Monte Carlo objectives", eqs. 7 to 9.
    """
    if samples == 1:
        raise ValueError(
            "vimco compares each draw with the others, so it needs samples=2 or more; for one use nvil"
        )
    if not has_draws(q, values):
        return elbo(p, q, values, noise, samples=samples)
    done = q.complete(values, noise, samples)
    log_w = p.log_prob(done.values) - total(done.log_q.values())
    value = torch.logsumexp(log_w, dim=0) - math.log(samples)
    direction = direction_of(p, q, values)
    scored = scored_in(q, done, "vimco")
    if not scored:
        return Bound(value, value, {}, direction)
    score = total(done.log_q[name] for name in scored)
    surrogate = value + (learning_signals(log_w) * score).sum(0)
    return Bound(value, surrogate, {}, direction)


@torch.no_grad()
def learning_signals(log_w: Tensor) -> Tensor:
    """L - L_-k, `[K, B]`: L_-k is the bound with log w_k replaced by the mean of the other log weights.

    Weights of zero are left out of that mean, and where all others are zero it is 0: any number will do that
    does not depend on draw k. Sums of the weights before and after k, never a difference of sums: one weight
    may outweigh all others.
    """
    there = ~log_w.isneginf()
    known = torch.where(there, log_w, torch.zeros_like(log_w))
    others = (known.sum(0) - known) / (there.sum(0) - there.long()).clamp(min=1)
    none = torch.full_like(log_w[:1], -math.inf)
    before = torch.cat([none, torch.logcumsumexp(log_w, 0)[:-1]])
    after = torch.cat([torch.logcumsumexp(log_w.flip(0), 0)[:-1].flip(0), none])
    return torch.logsumexp(log_w, 0) - torch.logaddexp(torch.logaddexp(before, after), others)
