"""The importance-weighted bound, and its gradients.

K samples, B examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..exact import Inference
from ..factors.relaxed import set_temperature
from ..joint import Completion, Joint, Values, names_given, total
from ..noise import Source
from ._path import Weighed, checked_gradient, path_log_q
from .bound import Bound, Direction
from .elbo import direction_of, require_pathwise


def iwae(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    *,
    samples: int = 5,
    gradient: str = "standard",
    temperature: float | Tensor | None = None,
    enumerate: Sequence[str] = (),
) -> Bound:
    """L_K(x) = E[log (1/K) sum_k w_k], w_k = p(x, z_k) / q(z_k | x), z_k ~ q(z | x), K = `samples`.

    gradient   "standard", by reparametrisation, whose signal for q drowns in its noise as K grows; for
               continuous latents "dreg", the doubly reparametrised gradient, which has the same mean and
               whose signal grows; or "stl", sticking the landing, which is biased for K > 1. That of p is
               the standard one with each
    temperature   of the relaxed factors in q (`Concrete`, `StraightThrough`) from this step on; a 0-d tensor
               where it changes during a run (`exponential_decay`)
    enumerate  discrete latents summed over exactly instead of drawn, by name; not with "dreg"

    It is at most log p(x) and never decreases in K. With K = 1 it is the ELBO by Monte Carlo. At relaxed
    values it is on neither side, direction none. Raises ValueError where q cannot be reparameterised.

    Burda, Grosse & Salakhutdinov (2016), eq. 8; stl: Roeder, Wu & Duvenaud (2017); dreg: Tucker, Lawson, Gu &
    Maddison (2019); signal and noise: Rainforth et al. (2018).
    """
    checked_gradient(gradient, ("standard", "stl", "dreg"))
    q, done, direction = weighed_draws(p, q, values, noise, samples, temperature, enumerate)
    if not done.log_q:
        value = p.log_prob(done.values)
        return Bound(value, value, {}, direction)
    if gradient == "dreg":
        value, surrogate = _doubly_reparameterised(p, q, values, done)
        return Bound(value, surrogate, {}, direction)
    if gradient == "stl":
        log_w = p.log_prob(done.values) - total(path_log_q(q, values, done).values())
    else:
        log_w = log_weights(p, done)
    weights = log_w + done.log_weight
    value = torch.logsumexp(weights.flatten(0, weights.ndim - 2), dim=0)
    return Bound(value, value, {}, direction)


def weighed_draws(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    samples: int,
    temperature: float | Tensor | None,
    enumerate: Sequence[str],
) -> tuple[Inference, Completion, Direction]:
    """q, draws from it whose weights have a pathwise gradient, and how a bound by them stands to log p(x).

    Raises ValueError without a q, and for one that cannot be reparameterised.
    """
    if q is None:
        raise ValueError("nothing is latent, so there is nothing to weigh: elbo is exact here")
    if temperature is not None:
        set_temperature(q, temperature)
    done = q.complete(values, noise, samples, enumerate=names_given(enumerate))
    require_pathwise(q, done)
    return q, done, direction_of(p, q, values, done.enumerated)


def log_weights(p: Joint, done: Completion) -> Tensor:
    """log w_k = log p(x, z_k) - log q(z_k | x), `[*lead, B]`."""
    return p.log_prob(done.values) - total(done.log_q[name] for name in done.log_q)


def _doubly_reparameterised(
    p: Joint, q: Inference, values: Values, done: Completion
) -> tuple[Tensor, Tensor]:
    """L_K `[B]`, and a surrogate `[B]` with the gradients, for v_k = w_k / sum_j w_j,

        E[sum_k v_k^2 d log w_k / dz_k dz_k / d phi] for q, E[sum_k v_k d log p(x, z_k) / d theta] for p.

    One factor v_k weighs the surrogate's terms, the other what comes back to the draws. All latents of q
    together are one z_k, so that a draw's gradient is weighed once, however many latents hang on it.

    Tucker et al. (2019); with several layers of latents: Bauer & Mnih (2021).
    """
    if done.enumerated:
        raise ValueError(
            f"gradient='dreg' draws every latent, and {', '.join(map(repr, done.enumerated))} would be "
            f"enumerated: use gradient='standard', or leave out enumerate="
        )
    drawn = Weighed({name: done.values[name] for name in done.log_q})
    given = {name: done.values[name] for name in done.values if name in values}
    at = q.computed({**given, **drawn.copies}) if isinstance(q, Joint) else done.values
    log_w = p.log_prob(at) - total(path_log_q(q, values, done, at).values())
    drawn.weight = torch.softmax(log_w.detach(), dim=0)
    value = torch.logsumexp(log_w + done.log_weight, dim=0)
    return value, (drawn.weight * log_w).sum(0)
