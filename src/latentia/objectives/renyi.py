"""The variational Renyi bound.

K samples, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..exact import Inference
from ..joint import Joint, Values, average
from ..noise import Source
from .bound import Bound
from .iwae import log_weights, weighed_draws


def renyi(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    *,
    samples: int = 5,
    alpha: float = 0.5,
    temperature: float | Tensor | None = None,
    enumerate: Sequence[str] = (),
) -> Bound:
    """L_alpha(x) = 1 / (1 - alpha) log E_q[(p(x, z) / q(z | x))^(1 - alpha)], the mean being that of K draws.

    samples    K, draws of z per example
    alpha      1 is the ELBO, 0 the importance-weighted bound L_K; the larger, the lower the bound. As alpha
               grows q seeks one mode of the posterior, as it falls q covers all
    temperature   of the relaxed factors in q, as in `iwae`
    enumerate  discrete latents summed over exactly instead of drawn, by name

    For the same draws it never increases in alpha, so for alpha >= 0 its mean is at most E[L_K] and a lower
    bound; for alpha < 0 it is an estimate: the limit in K is above log p(x), and at small K it may be below.
    With K = 1 each alpha gives the ELBO. Raises ValueError where q cannot be reparameterised, and unless
    alpha is a finite number.

    Li & Turner (2016), theorems 1 and 2.
    """
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ValueError(f"alpha must be a finite number, the same at each step, got {alpha}")
    q, done, direction = weighed_draws(p, q, values, noise, samples, temperature, enumerate)
    if not done.log_q:
        value = p.log_prob(done.values)
        return Bound(value, value, {}, direction)
    if direction == "lower" and alpha < 0:
        direction = "estimate"
    log_w = log_weights(p, done)
    if alpha == 1:
        value = average(log_w, done.log_weight)
    else:
        powers = (1 - alpha) * log_w + done.log_weight
        value = torch.logsumexp(powers.flatten(0, powers.ndim - 2), dim=0) / (1 - alpha)
    return Bound(value, value, {}, direction)
