"""The importance-weighted bound.

K samples, B examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..exact import Inference
from ..joint import Completion, Joint, Values, names_given, total
from ..noise import Source
from .bound import Bound
from .elbo import direction_of, require_pathwise


def iwae(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    *,
    samples: int = 5,
    enumerate: Sequence[str] = (),
) -> Bound:
    """L_K(x) = E[log (1/K) sum_k p(x, z_k) / q(z_k | x)], z_k ~ q(z | x), K = `samples`.

    enumerate: discrete latents summed over exactly instead of drawn, by name.

    It is at most log p(x) and never decreases in K. With K = 1 it is the ELBO by Monte Carlo. Raises
    ValueError where q cannot be reparameterised.

    Burda, Grosse & Salakhutdinov (2016), eq. 8.
    """
    if q is None:
        raise ValueError("nothing is latent, so there is nothing to weigh: elbo is exact here")
    done = q.complete(values, noise, samples, enumerate=names_given(enumerate))
    require_pathwise(q, done)
    direction = direction_of(p, q, values)
    if not done.log_q:
        value = p.log_prob(done.values)
        return Bound(value, value, {}, direction)
    weights = log_weights(p, done) + done.log_weight
    value = torch.logsumexp(weights.flatten(0, weights.ndim - 2), dim=0)
    return Bound(value, value, {}, direction)


def log_weights(p: Joint, done: Completion) -> Tensor:
    """log w_k = log p(x, z_k) - log q(z_k | x), `[*lead, B]`."""
    return p.log_prob(done.values) - total(done.log_q[name] for name in done.log_q)
