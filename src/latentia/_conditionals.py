"""p(x_missing | x_observed) of one variable, in each state of the discrete latents and over all of them.

B rows, K states of the discrete latents together (`*lead`: of each), D entries of an event, M of the Gaussian
latents, X values of a list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from ._entries import Units, entries_of, expected, listed, mixture
from .exact import Exact, NotExactError, Posterior
from .factor import Factor
from .factors.columns import ColumnsDistribution
from .factors.gaussian import FullNormal, LowRankNormal
from .factors.log_linear import SMALLEST_RATIO, Enumerated
from .joint import MASK
from .linear_gaussian import flattened
from .model import Model
from .noise import Noise


class Listed(NamedTuple):
    """Values `[X, *event]` and their probabilities in each row, `[B, X]`."""

    values: Tensor
    probabilities: Tensor


class Known(NamedTuple):
    """What is known of some rows.

    given      their values in model units, as observed
    values     the same, with every state of the discrete latents and what is computed from them
    posterior  of the latents
    """

    given: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    posterior: Posterior

    @property
    def lead(self) -> tuple[int, ...]:
        """How many states each discrete latent has."""
        return tuple(self.posterior.log_weights.shape[:-1])

    def average(self, tensor: Tensor, dims: int) -> Tensor:
        """The mean over the states of `[*lead, B, ...]`, which has `dims` dimensions of its own."""
        if not self.lead:
            return tensor
        weights = self.posterior.log_weights.exp()
        return (weights.reshape(*weights.shape, *(1,) * dims) * tensor).sum(tuple(range(len(self.lead))))

    def by_row(self, tensor: Tensor, dims: int) -> Tensor:
        """`[*lead, B, ...]`, or what broadcasts to it, as `[B, K, ...]`; without states `[B, ...]`."""
        rows = self.posterior.log_weights.shape[-1]
        own = tensor.shape[tensor.ndim - dims :]
        whole = tensor.expand(*self.lead, rows, *own)
        return whole.flatten(0, len(self.lead) - 1).movedim(0, 1) if self.lead else whole


def known_of(model: Model, given: Mapping[str, Tensor]) -> Known:
    """What is known of rows given in model units; nothing is latent where q is None."""
    if not isinstance(model.q, Exact):
        return _without_latents(model, given, model.p.log_prob(given))
    found = model.q.posterior(given)
    kept = {name: value for name, value in given.items() if name.removesuffix(MASK) not in found.states}
    return Known(given, model.p.computed(kept | found.states), found)


def _without_latents(model: Model, given: Mapping[str, Tensor], log_evidence: Tensor) -> Known:
    nothing = Posterior(log_evidence, {}, torch.zeros_like(log_evidence), None, {})
    return Known(given, model.p.computed(given), nothing)


def conditional(model: Model, known: Known, name: str) -> Distribution | Listed:
    """p(x | x_observed) of all entries in each state, batch `[*lead, B]` or what broadcasts to it.

    Where entries are dependent the event is flat, and those observed are at their value, with unit variance.
    Of listed values it is the mixture over all states.
    """
    factor, values = model.p[name], known.values
    observed = values[name + MASK]
    gaussian = [parent for parent in factor.given if parent in known.posterior.places]
    if gaussian:
        return _integrated(model, known, name, gaussian)
    parents = model.p.parents(name, values)
    distribution = factor.distribution(*parents)
    if isinstance(distribution, Enumerated):
        return _agreeing(distribution, values[name], observed, known)
    filled = factor.fill(values[name], *parents, observed=observed)
    if filled is not None:
        seen = torch.diag_embed(observed.to(filled.mean))
        return FullNormal(filled.mean, torch.linalg.cholesky(filled.covariance + seen))
    if factor.event and not isinstance(distribution, Independent | ColumnsDistribution):
        raise NotExactError(
            f"{name!r}: {type(factor).__name__} has dependent entries, and what is missing of them given the "
            f"others is not known in closed form"
        )
    return distribution


def _integrated(model: Model, known: Known, name: str, gaussian: list[str]) -> LowRankNormal:
    """x = W u + b + noise with u ~ N(m, L L^T): N(W m + b, (W L)(W L)^T + R), `[*lead, B]`."""
    factor, posterior = model.p[name], known.posterior
    if posterior.gaussian is None:
        raise ValueError("there is no Gaussian latent")
    parents = [None if v in gaussian else model.p.feature(name, v, known.values) for v in factor.given]
    affine = factor.affine(*parents)
    if affine is None or affine.full:
        raise NotExactError(
            f"the missing entries of {name!r} have no conditional distribution in closed form"
        )
    mean, scale = flattened(affine, len(factor.event))
    spread = mean.new_zeros(())
    for weight, parent in zip(affine.weights, gaussian, strict=True):
        place = posterior.places[parent]
        mean = mean + (weight @ posterior.gaussian.loc[..., place].unsqueeze(-1)).squeeze(-1)
        spread = spread + weight @ posterior.gaussian.scale_tril[..., place, :]
    return LowRankNormal(mean, spread, scale)


def _agreeing(own: Enumerated, value: Tensor, observed: Tensor, known: Known) -> Listed:
    """The probabilities of the listed values that agree with what was observed, summed over the states."""
    flat = own.flat(value)
    seen = own.flat(observed.reshape(value.shape))
    agree = own.lookup.agreeing(flat, seen).double()  # [B, X]
    ratios = (own.log_p - own.log_p.amax(0)).exp().clamp(min=SMALLEST_RATIO)  # [X, Z]
    mass = agree @ ratios  # [B, Z]
    weights = known.by_row(known.posterior.log_weights.exp(), 0).reshape(len(flat), -1)  # [B, K]
    codes = known.by_row(own.codes, 0).reshape(len(flat), -1)
    share = torch.zeros_like(mass).scatter_add_(1, codes, weights / mass.gather(1, codes))
    values = own.lookup.values.reshape(-1, *own.event_shape)
    return Listed(values, agree * (share @ ratios.mT))


def mean_of(factor: Factor, found: Distribution | Listed, known: Known, most_probable: bool) -> Tensor:
    """E[x | x_observed], `[B, *event]` or `[B, D]`; of codes the most probable, of listed values if asked."""
    if isinstance(found, Listed):
        values, probabilities = found
        if most_probable or not values.is_floating_point():
            return values[probabilities.argmax(1)]
        return (probabilities @ values.flatten(1).to(probabilities)).reshape(-1, *values.shape[1:])
    rows = len(known.posterior.log_evidence)
    return expected(found, factor.mean(found), known.average).expand(rows, *found.event_shape)


def drawn_latents(model: Model, known: Known, draws: int, noise: Noise) -> Known:
    """n draws of all latents from their posterior, as n B rows in which they are known."""
    posterior, generator = known.posterior, noise.generator
    rows, states = len(posterior.log_evidence), max(1, math.prod(known.lead))
    row = torch.arange(rows, device=generator.device).repeat(draws)
    own = posterior.states
    values = {name: v[row] for name, v in known.given.items() if name.removesuffix(MASK) not in own}
    state = torch.zeros_like(row)
    if known.lead:
        weights = known.by_row(posterior.log_weights.exp(), 0)
        state = torch.multinomial(weights, draws, replacement=True, generator=generator).mT.flatten()
        for name, code in zip(own, torch.unravel_index(state, known.lead), strict=True):
            values[name] = own[name].reshape(-1, *model.p[name].event)[code]
    if posterior.gaussian is not None:
        loc = known.by_row(posterior.gaussian.loc, 1).reshape(rows, states, -1)[row, state]
        tril = known.by_row(posterior.gaussian.scale_tril, 2)
        tril = tril.reshape(rows, states, *tril.shape[-2:])[row, state]
        epsilon = torch.randn(loc.shape, generator=generator, dtype=loc.dtype, device=loc.device)
        stack = FullNormal(loc, tril).transform(epsilon)
        for name, place in posterior.places.items():
            values[name] = stack[:, place].reshape(-1, *model.p[name].event)
    return _without_latents(model, values, posterior.log_evidence[row])


def draw_of(found: Distribution | Listed, rows: int, noise: Noise) -> Tensor:
    """One draw for each row, `[B, *event]`, given latents that were drawn."""
    if isinstance(found, Listed):
        place = torch.multinomial(found.probabilities, 1, generator=noise.generator).squeeze(1)
        return found.values[place]
    return noise.sample(found.expand(torch.Size((rows,))))


def of_entries(
    found: Distribution | Listed, known: Known, places: Tensor, units: Units, row: int | None = None
) -> Distribution:
    """p(x_places | x_observed) of the flattened event's entries at `places`: batch `[B]`, or one row's."""

    def arranged(tensor: Tensor, dims: int) -> Tensor:
        by_row = known.by_row(tensor, dims)
        return by_row if row is None else by_row[row]

    if isinstance(found, Listed):
        return listed(found.values, found.probabilities, places, row)
    part = entries_of(found, places, units.at(places), arranged)
    return mixture(arranged(known.posterior.log_weights, 0) if known.lead else None, part)
