"""What the estimators for discrete latents ask of the draws from q.

S samples, B examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from ..exact import Inference, is_discrete
from ..factors.relaxed import Relaxed
from ..joint import MASK, Completion, Densities, Joint, Values, average, is_latent, names_given, total
from ..noise import Source


def has_draws(q: Inference | None, values: Values) -> TypeGuard[Joint]:
    """Whether q draws anything: not where it is p's own posterior, nor where each of its variables is given.

    There the ELBO has the gradient that an estimator would estimate. Raises ValueError without a q, and for
    relaxed draws.
    """
    if q is None:
        raise ValueError("nothing is latent, so no gradient is to be estimated: elbo is exact here")
    latents = latent_in(q, values) if isinstance(q, Joint) else []
    for name in latents:
        factor = q[name]
        if isinstance(factor, Relaxed) and factor.relaxes:
            raise ValueError(
                f"q draws {name!r} from {type(factor).__name__}, whose draws have a gradient of their own, "
                f"and this objective is for discrete draws: use elbo or iwae, or leave out the relaxation"
            )
    return bool(latents)


def latent_in(q: Joint, values: Values) -> list[str]:
    """The variables that q draws in some of the rows."""
    return [name for name in q.variables if q[name].has_density and is_latent(name, values)]


def drawn_without_gradient(done: Completion) -> list[str]:
    """The variables whose draw has no gradient although parameters decide it, as all discrete ones."""
    drawn = (name for name in done.log_q if name not in done.enumerated)
    return [name for name in drawn if not done.values[name].requires_grad and done.log_q[name].requires_grad]


def scored_in(q: Joint, done: Completion, who: str) -> list[str]:
    """The variables whose gradient is estimated: those drawn without one.

    who: the estimator. Raises ValueError where q has no discrete latent at all, so that it has nothing to do.
    """
    scored = drawn_without_gradient(done)
    drawn = (q[name] for name in q.variables if q[name].has_density)
    if not scored and torch.is_grad_enabled() and not any(is_discrete(factor) for factor in drawn):
        raise ValueError(
            f"{who} estimates gradients that discrete draws lack, and each latent of this q has one of its "
            f"own: use elbo or iwae"
        )
    return scored


def constant_draws(
    q: Joint, values: Values, noise: Source, samples: int, enumerate: Sequence[str] = ()
) -> Completion:
    """q.complete with every draw a constant: log q(z | x) has a gradient at fixed z.

    One pass where q's draws carry no gradient of their own, two where some do.
    """
    done = q.complete(values, noise, samples, enumerate=names_given(enumerate))
    if not any(done.values[name].requires_grad for name in done.log_q):
        return done
    fixed = {name: value.detach() for name, value in done.values.items() if name in done.log_q}
    given = {name: value for name, value in done.values.items() if name in values and name not in fixed}
    known, log_q = q.computed(given | fixed), Densities()
    for name in fixed:
        term, observed = q.log_prob_of(name, known), values.get(name + MASK)
        if observed is not None:
            term = torch.where(observed, torch.zeros_like(term), term)
        log_q.add(name, term)
    return done._replace(values=known, log_q=log_q)


def evidence_terms(done: Completion, log_p: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ELBO's two terms at the draws, constants `[B]`: reconstruction less kl is the value."""
    log_q = list(done.log_q.values())  # worked out with their gradient, which others need
    prior = [term for name, term in log_p.items() if name in done.log_q]
    with torch.no_grad():
        likelihood = total(term for name, term in log_p.items() if name not in done.log_q)
        kl = total(log_q) - total(prior) if prior else total(log_q)
        terms = {"reconstruction": likelihood, "kl": kl}
        return {name: average(term, done.log_weight) for name, term in terms.items()}
