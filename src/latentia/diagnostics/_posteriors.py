"""q(z | x) of given rows as a density of any z, its entries' marginals, and draws from it.

B rows of a batch, S draws for each, P points z; U units, the entries of all latent variables side by side. A
point's values are `[P, 1, *event]`, so that they meet every row; draws are `[S, B, *event]`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from .._conditionals import drawn_latents, known_of
from ..exact import Exact, is_discrete
from ..factor import Factor
from ..factors.gaussian import FullNormal, LowRankNormal
from ..joint import Joint, Values, total
from ..noise import BoundNoise, Noise

if TYPE_CHECKING:
    from ..model import Model

Latents = dict[str, Tensor]


class RowPosteriors:
    """q(z | x_1), ..., q(z | x_B), encoded once."""

    def __init__(self, model: Model, values: Values, names: tuple[str, ...]) -> None:
        self.model, self.values, self.names = model, values, names
        self.size = len(next(iter(values.values())))
        self.marginals: dict[str, Distribution] = {}  # q(v | x) of each variable that has one in closed form
        if isinstance(model.q, Exact):
            self.posterior = model.q.posterior(values)
            self.marginals = model.q.distributions(values)
        elif model.q is not None:
            for name in names:
                factor = model.q[name]
                closed = type(factor).distribution is not Factor.distribution
                if closed and not set(factor.given) & {*names} and not _computed(model, name):
                    self.marginals[name] = factor.distribution(*model.q.parents(name, values))

    def log_prob(self, latents: Latents) -> Tensor:
        """log q(z | x), `[P, B]` or `[S, B]`."""
        q, values = self.model.q, {**self.values, **latents}
        if not isinstance(q, Exact):
            if q is None:
                raise ValueError(f"{self.model.p.equation()} has no inference model")
            values = q.computed(values)
            return total(self._log_prob_of(q, name, latents, values) for name in self.names)
        found = self.posterior
        if not found.states and found.gaussian is not None:
            stacked = torch.cat([latents[name].flatten(2) for name in found.places], -1)
            return found.gaussian.log_prob(stacked)
        return q.p.log_prob(values) - found.log_evidence

    def _log_prob_of(self, q: Joint, name: str, latents: Latents, values: Values) -> Tensor:
        if name in self.marginals:
            log_q: Tensor = self.marginals[name].log_prob(latents[name])
            return log_q
        log_q = q.log_prob_of(name, values)
        return log_q.expand(*log_q.shape[:-1], self.size)

    def entries(self, latents: Latents) -> Tensor | None:
        """log q(u | x) of each unit's marginal, `[P, B, U]`; None where one has no closed form."""
        parts = []
        for name in self.names:
            part = None
            if name in self.marginals:
                dims = len(self.model.p[name].event)
                part = entry_log_probs(self.marginals[name], latents[name], dims)
            if part is None:
                return None
            parts.append(part.expand(-1, self.size, -1))
        return torch.cat(parts, -1)

    @property
    def width(self) -> int:
        """Numbers per point and row that the densities hold at a time."""
        full = [d.scale_tril for d in self.marginals.values() if isinstance(d, FullNormal)]
        squares = [math.prod(t.shape[-2:]) for t in full if t.ndim > 2 and t.shape[-3] > 1]
        own = sum(math.prod(self.model.p[name].event) for name in self.names)
        bayes = isinstance(self.model.q, Exact) and bool(self.posterior.states)
        known = not bayes and all(name in self.marginals for name in self.names)
        return max([own, *squares, *([] if known else [self.model.widest])])


def _computed(model: Model, name: str) -> bool:
    """Whether q's factor is given something that q computes."""
    q = model.q
    return q is not None and any(parent in q and not q[parent].has_density for parent in q[name].given)


def entry_log_probs(distribution: Distribution, value: Tensor, dims: int) -> Tensor | None:
    """log density of each entry's marginal, `[..., U]`, for events of `dims` dimensions; None if unknown."""
    if isinstance(distribution, Categorical):
        log_p: Tensor = distribution.log_prob(value)  # type: ignore[no-untyped-call]
        return log_p.unsqueeze(-1)
    if isinstance(distribution, Independent):
        if distribution.reinterpreted_batch_ndims != dims:
            return None
        entries: Tensor = distribution.base_dist.log_prob(value)
        return entries.flatten(-dims) if dims else entries.unsqueeze(-1)
    if isinstance(distribution, FullNormal | LowRankNormal):
        marginal = Normal(distribution.mean, distribution.variance.sqrt(), validate_args=False)
        log_q: Tensor = marginal.log_prob(value)  # type: ignore[no-untyped-call]
        return log_q
    if isinstance(distribution, MixtureSameFamily) and isinstance(
        distribution.component_distribution, FullNormal
    ):
        parts = entry_log_probs(distribution.component_distribution, value.unsqueeze(-2), dims)
        weights: Tensor = distribution.mixture_distribution.logits
        return None if parts is None else torch.logsumexp(parts + weights.unsqueeze(-1), -2)
    return None


def draw(model: Model, values: Values, names: tuple[str, ...], samples: int, noise: Noise) -> Latents:
    """Independent draws from q(z | x) of each row, `[S, B, *event]`."""
    if model.q is None:
        raise ValueError(f"{model.p.equation()} has no inference model: there is nothing to draw")
    if isinstance(model.q, Exact) and any(is_discrete(model.p[name]) for name in names):
        found = drawn_latents(model, known_of(model, values), samples, noise).given
        return {name: found[name].reshape(samples, -1, *model.p[name].event) for name in names}
    done = model.q.complete(values, noise, samples)
    size = len(next(iter(values.values())))
    return {name: done.values[name].expand(samples, size, *model.p[name].event) for name in names}


class Prior:
    """p(z) of the latent variables, without anything observed.

    Raises ValueError where p(z) depends on a variable that is not among them.
    """

    def __init__(self, model: Model, names: tuple[str, ...]) -> None:
        self.p, self.names = model.p, names
        for name in names:
            above = {name, *self.p.ancestors(name)}
            given = {parent for node in above for parent in self.p[node].given}
            strange = [v for v in given if v not in names and (v not in self.p or self.p[v].has_density)]
            if strange:
                raise ValueError(
                    f"p({name} | {', '.join(self.p[name].given)}) depends on {strange[0]!r}, which is no "
                    f"latent variable here, so there is no prior p({', '.join(names)}) to compare q(z) with"
                )

    def sample(self, count: int, noise: Noise) -> Latents:
        """Draws from p(z), `[P, *event]`."""
        values: Latents = {}
        for name in self.p.variables:
            if name in self.names:
                parents = self.p.parents(name, self.p.computed(values))
                values[name] = self.p[name].draw(BoundNoise(noise, name, (count,)), *parents).value
        return values

    def log_prob(self, latents: Latents) -> Tensor:
        """log p(z), `[P]`, of values `[P, *event]`."""
        values, size = self.p.computed(latents), len(next(iter(latents.values())))
        return total(self.p.log_prob_of(name, values) for name in self.names).expand(size)

    def entries(self, latents: Latents) -> Tensor | None:
        """log p(u) of each unit's marginal, `[P, U]`; None where one has no closed form."""
        parts = []
        for name in self.names:
            factor, part = self.p[name], None
            if not factor.given and type(factor).distribution is not Factor.distribution:
                part = entry_log_probs(factor.distribution(), latents[name], len(factor.event))
            if part is None:
                return None
            parts.append(part)
        return torch.cat(parts, -1)

    @property
    def factorises(self) -> bool:
        """Whether the units are independent under the prior."""
        factors = [self.p[name] for name in self.names]
        if any(f.given or type(f).distribution is Factor.distribution for f in factors):
            return False
        found = [f.distribution() for f in factors]
        return all(isinstance(d, Independent | Categorical) for d in found)
