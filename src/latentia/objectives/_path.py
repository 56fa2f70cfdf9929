"""Gradients along the path alone: from the draws of q on, without what its parameters do at fixed draws.

S samples, B examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.func import functional_call

from ..exact import Inference
from ..factor import Factor
from ..factors.gaussian import DiagonalNormal, FullNormal, IndependentNormal, LowRankNormal
from ..factors.relaxed import Relaxed
from ..joint import MASK, Completion, Joint, Values


def checked_gradient(gradient: str, known: Sequence[str]) -> None:
    """Raise ValueError for an estimator of the gradient that the objective does not have."""
    if gradient not in known:
        raise ValueError(f"gradient {gradient!r} is unknown: use {' or '.join(map(repr, known))}")


def path_log_q(q: Inference, values: Values, done: Completion, at: Values | None = None) -> dict[str, Tensor]:
    """log q(v | parents) at the draws, `[*lead, B]` each, with the parameters of q's factors stopped.

    Values and parents keep their gradients, so that the one that is left is that of the path from parameters
    to draws: the score, whose mean is zero, is gone. Enumerated variables keep theirs.

    values  what was observed, with its masks
    at      the draws, where they are not those of `done`

    Raises ValueError where q has no parameters of its own, or draws a relaxed value, whose score has another
    mean. Roeder, Wu & Duvenaud (2017).
    """
    if not isinstance(q, Joint):
        raise ValueError(
            "the path gradient stops the parameters of q, and the exact posterior has none of its own: use "
            "gradient='standard'"
        )
    at = done.values if at is None else at
    drawn = {name for name in done.log_q if name not in done.enumerated}
    result = {}
    for name in done.log_q:
        factor, observed = q[name], values.get(name + MASK)
        if name not in drawn:
            result[name] = done.log_q[name]
            continue
        if isinstance(factor, Relaxed):
            raise ValueError(
                f"the path gradient is for continuous latents, and q draws {name!r} from "
                f"{type(factor).__name__}: use gradient='standard'"
            )
        known = done.distributions.get(name)
        stopped = None if known is None or q.ancestors(name) & drawn else _stopped(known)
        if stopped is not None:
            log_q = stopped.log_prob(at[name])
        else:
            weights = {f"factor.{leaf}": weight.detach() for leaf, weight in factor.named_parameters()}
            arguments = (at[name], *q.parents(name, at))
            log_q = functional_call(_Density(factor), weights, arguments)
        result[name] = log_q if observed is None else torch.where(observed, torch.zeros_like(log_q), log_q)
    return result


class _Density(nn.Module):
    """A factor's log_prob as a module's forward, which torch can call with other parameters."""

    def __init__(self, factor: Factor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, value: Tensor, *parents: Tensor) -> Tensor:
        log_p: Tensor = self.factor.log_prob(value, *parents)
        return log_p


def _stopped(distribution: Distribution) -> Distribution | None:
    """A Gaussian with its parameters stopped; None for another family."""
    if isinstance(distribution, Independent) and isinstance(distribution.base_dist, DiagonalNormal):
        base = distribution.base_dist
        stopped = DiagonalNormal(base.loc.detach(), base._narrow_scale.detach())
        return IndependentNormal(stopped, distribution.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(distribution, FullNormal):
        return FullNormal(distribution.loc.detach(), distribution.scale_tril.detach())
    if isinstance(distribution, LowRankNormal):
        loc, factor, scale = distribution.loc, distribution.factor, distribution.scale
        return LowRankNormal(loc.detach(), factor.detach(), scale.detach())
    return None


class Weighed:
    """Draws whose gradient on its way back to q is multiplied by weights that are known only later.

    copies  the draws `[S, B, *event]`, to be used in their place
    weight  `[S, B]`; to be set before the backward pass
    """

    def __init__(self, draws: Values) -> None:
        self.weight: Tensor | None = None
        self.copies = {name: draw.view_as(draw) for name, draw in draws.items()}
        for copy in self.copies.values():
            if copy.requires_grad:
                copy.register_hook(self._times)  # type: ignore[no-untyped-call]

    def _times(self, gradient: Tensor) -> Tensor:
        if self.weight is None:
            raise RuntimeError("the weights of the draws were not set before the backward pass")
        return gradient * self.weight.reshape(*self.weight.shape, *(1,) * (gradient.ndim - self.weight.ndim))
