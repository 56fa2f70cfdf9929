"""Reweighted wake-sleep: the wake phase at importance-weighted draws.

K samples, B examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..exact import Inference
from ..joint import Joint, Values, average, total
from ..noise import Source
from ._draws import constant_draws, has_draws
from .bound import Bound
from .elbo import direction_of, elbo
from .wake_sleep import sleep_phase

Q_UPDATES = ("wake", "sleep", "both")


def rws(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    *,
    samples: int = 10,
    q_update: str = "wake",
    enumerate: Sequence[str] = (),
) -> Bound:
    """p climbs sum_k w_k log p(x, z_k), q the wake phase's sum_k w_k log q(z_k | x) or the sleep phase.

    z_k ~ q(z | x) held fixed, w_k = p(x, z_k) / q(z_k | x) normalised over the K = `samples` draws.

    q_update   "wake": towards the posterior of the data, KL(p(z | x) || q(z | x)); "sleep": of dreams, one
               for each example; "both": the sum of the two
    enumerate  discrete latents summed over exactly instead of drawn, by name

    The value is L_K, at most log p(x). The normalised weights make both wake gradients biased; they tend to
    those of log p(x) and of the KL as K grows. Terms: "wake p", "wake q" and "sleep q", the objectives.

    Bornschein & Bengio (2015), "Reweighted wake-sleep", section 2 and algorithm 1.
    """
    if q_update not in Q_UPDATES:
        raise ValueError(f"q_update must be {', '.join(map(repr, Q_UPDATES))}, got {q_update!r}")
    if not has_draws(q, values):
        return elbo(p, q, values, noise, samples=samples)
    wakes, sleeps = q_update != "sleep", q_update != "wake"
    with torch.set_grad_enabled(wakes and torch.is_grad_enabled()):
        done = constant_draws(q, values, noise, samples, enumerate)
        log_q = total(done.log_q.values())
    log_p = p.log_prob(done.values)
    with torch.no_grad():
        log_w = log_p - log_q + done.log_weight
        value = torch.logsumexp(log_w.flatten(0, log_w.ndim - 2), dim=0)
        weight = log_w - value  # log w_k, normalised
    terms = {"wake p": average(log_p, weight)}
    if wakes:
        terms["wake q"] = average(log_q, weight)
    if sleeps:
        terms["sleep q"] = sleep_phase(p, q, values, noise)
    return Bound(value, total(terms.values()), terms, direction_of(p, q, values))
