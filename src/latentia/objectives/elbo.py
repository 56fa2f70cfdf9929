"""The evidence lower bound.

S samples, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..exact import Exact, Inference
from ..factor import Factor, NotEnumerableError
from ..factors.kl import closed_kl, closed_kl_entries, has_closed_kl
from ..factors.relaxed import Concrete, Relaxed, set_temperature
from ..joint import (
    MASK,
    Completion,
    Densities,
    Joint,
    Values,
    average,
    is_latent,
    names_given,
    names_of,
    total,
)
from ..noise import Source
from ._path import checked_gradient, path_log_q
from .bound import Bound, Direction


def elbo(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    *,
    samples: int = 1,
    beta: float | Tensor = 1.0,
    free_bits: float = 0.0,
    analytic: bool = True,
    gradient: str = "standard",
    temperature: float | Tensor | None = None,
    enumerate: Sequence[str] = (),
) -> Bound:
    """ELBO(x) = E_q(z|x)[log p(x | z)] - KL(q(z | x) || p(z)) <= log p(x), by reparametrised draws of z.

    samples    draws of z per example
    beta       weight of the KL in the surrogate; a 0-d tensor where it changes during a run (`linear_warmup`)
    free_bits  nats per latent dimension: a dimension whose KL, averaged over the batch, is smaller is not
               penalised
    analytic   use the closed-form KL where it is exact (see `analytic_latents`); otherwise log q - log p at
               the draws
    gradient   "standard", or "stl" for continuous latents, sticking the landing: what q's parameters do to
               log q at fixed draws, whose mean is zero, is left out, so that at q = p(z | x) the gradient
               for q has no variance. It needs log q - log p at the draws, so nothing is analytic then
    temperature   of the relaxed factors in q (`Concrete`, `StraightThrough`) from this step on; a 0-d tensor
               where it changes during a run (`exponential_decay`)
    enumerate  discrete latents summed over exactly instead of drawn, by name

    Terms: "reconstruction" and "kl" (and "kl(z)" for each of several latents). The value never holds beta or
    free bits. With nothing latent it is log p(x), direction exact; with a Deterministic z in q it is
    log p(x | z(x)), direction none; so is that at relaxed values. Raises ValueError where q would have to be
    differentiated through draws that do not depend on its parameters.

    Kingma & Welling (2014), eq. 3; beta: Higgins et al. (2017); free bits: Kingma et al. (2016), eq. 15;
    stl: Roeder, Wu & Duvenaud (2017).
    """
    checked_gradient(gradient, ("standard", "stl"))
    if free_bits < 0 or (isinstance(beta, float | int) and beta < 0):
        raise ValueError(f"beta and free_bits must not be negative, got beta={beta}, free_bits={free_bits}")
    if temperature is not None:
        set_temperature(q, temperature)
    if q is None:
        done = Completion(dict(values), 0.0, Densities(), {})
    else:
        done = q.complete(values, noise, samples, enumerate=names_given(enumerate))
        require_pathwise(q, done)
    closed = analytic_kl(p, q, done) if q is not None and analytic and gradient == "standard" else {}
    log_p = p.log_probs(done.values, without=closed)
    observed = [name for name in log_p if name not in done.log_q]
    if not observed:
        raise ValueError(f"{p.equation()}: nothing is observed, so there is no evidence to bound")
    reconstruction = average(total(log_p[name] for name in observed), done.log_weight)
    log_q = done.log_q if q is None or gradient == "standard" else path_log_q(q, values, done)
    ratios = {name: log_q[name] - log_p[name] for name in done.log_q if name not in closed}
    ratios |= {name: closed_kl(*pair) for name, pair in closed.items()}
    kls = {name: average(ratio, done.log_weight).expand_as(reconstruction) for name, ratio in ratios.items()}
    if not kls:
        terms = {"reconstruction": reconstruction} if q is not None else {}
        return Bound(reconstruction, reconstruction, terms, direction_of(p, q, values, done.enumerated))
    kl = total(kls.values())
    penalty = kl
    if free_bits != 0:
        penalty = total(_at_least(free_bits, kls[name], closed.get(name), p, name) for name in kls)
    terms = {"reconstruction": reconstruction, "kl": kl}
    if len(kls) > 1:
        terms |= {f"kl({name})": term for name, term in kls.items()}
    value = reconstruction - kl
    plain = penalty is kl and isinstance(beta, float | int) and beta == 1
    surrogate = value if plain else reconstruction - beta * penalty
    return Bound(value, surrogate, terms, direction_of(p, q, values, done.enumerated))


def analytic_kl(p: Joint, q: Inference, done: Completion) -> dict[str, tuple[Distribution, Distribution]]:
    """The pairs (q(v | .), p(v | .)) whose KL is used in closed form.

    Those where v was drawn, none of its parents in p is a descendant of it in q, and the families have one.
    """
    pairs = {}
    for name, q_v in done.distributions.items():
        if name not in p or not p[name].has_density or set(p[name].given) & q.descendants(name):
            continue
        if any(parent not in done.values for parent in p[name].given) or name + MASK in done.values:
            continue
        if type(p[name]).distribution is Factor.distribution:  # a density without a closed distribution
            continue
        p_v = p[name].distribution(*p.parents(name, done.values))
        if has_closed_kl(q_v, p_v):
            pairs[name] = (q_v, p_v)
    return pairs


def direction_of(p: Joint, q: Inference | None, values: Values, enumerated: Sequence[str] = ()) -> Direction:
    """How a bound built on (p, q) at these observed values stands to log p(x).

    enumerated: latents that are summed over, not drawn.
    """
    if isinstance(q, Exact) and q.p is p:
        return "exact"
    absent = [name for name in p.variables if name not in values or name + MASK in values]
    if q is None:
        return "exact"
    needed = {*p.variables, *p.inputs} - set(names_of(values))
    if any(name in q and not q[name].has_density for name in needed):
        return "none"
    drawn = (q[name] for name in q.variables if is_latent(name, values) and name not in enumerated)
    if any(isinstance(factor, Concrete) and factor.relaxes for factor in drawn):
        return "none"
    return "lower" if any(name in q and q[name].has_density for name in absent) else "exact"


def require_pathwise(q: Inference, done: Completion) -> None:
    """Refuse to train what a draw depends on, itself or through parents, where the draw has no gradient."""
    if not torch.is_grad_enabled():
        return
    for name in done.log_q:
        if name in done.enumerated:
            continue
        if not done.values[name].requires_grad and done.log_q[name].requires_grad:
            if isinstance(q[name], Relaxed):
                raise ValueError(
                    f"q draws {name!r} from {type(q[name]).__name__} in evaluation mode, where it is "
                    f"discrete and its draws have no gradient: call model.train() to learn, or use "
                    f"torch.no_grad() to evaluate"
                )
            few = f"enumerate {name!r}, " if _can_be_listed(q[name]) else ""
            raise ValueError(
                f"q draws {name!r} from {type(q[name]).__name__}, which cannot be reparameterised, so this "
                f"objective would train it with a biased gradient: {few}use an objective for discrete "
                f"latents (vimco, wake_sleep), or a relaxed factor"
            )


def _can_be_listed(factor: Factor) -> bool:
    try:
        factor.support()
    except NotEnumerableError:
        return False
    return True


def _at_least(
    floor: float, kl: Tensor, pair: tuple[Distribution, Distribution] | None, p: Joint, name: str
) -> Tensor:
    """sum_d max(floor, KL_d averaged over the batch): no gradient from dimensions below the floor."""
    entries = closed_kl_entries(*pair) if pair is not None else None
    event = p[name].event
    if entries is None:
        groups, floor = kl.unsqueeze(-1), floor * math.prod(event)
    else:
        groups = entries.flatten(-len(event)) if event else entries.unsqueeze(-1)
        groups = groups.mean(0) if groups.ndim > 2 else groups.expand(len(kl), groups.shape[-1])
    return torch.where(groups.mean(0) > floor, groups, torch.full_like(groups, floor)).sum(-1)
