"""Normal: Gaussian factors with any of the covariances.

D entries of an event, K states of a discrete parent, R rank, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from .._recorded import recorded
from ..factor import Affine, Moments
from ..nets import MLP
from ..noise import BoundNoise
from ..numerics import softplus
from ._linear_net import affine_parts
from ._tabular import Tabular, inverse_softplus_of
from .covariances import (
    Covariance,
    Diagonal,
    Full,
    LowRank,
    Spherical,
    Tied,
    check_outputs,
    gaussian_event,
    gaussian_outputs,
    low_rank_parameters,
)
from .gaussian import DiagonalNormal, FullNormal, IndependentNormal, LowRankNormal, tril_of
from .normal_estimation import (
    Pull,
    by_state,
    constrained_tril,
    floor_troubles,
    scatter_sums,
    shifted_scatter,
    tril_entries,
    tril_from,
    variance_sums,
)

__all__ = [
    "Covariance",
    "Diagonal",
    "Full",
    "LowRank",
    "Normal",
    "Spherical",
    "Tied",
    "gaussian_outputs",
]

LEARNT_RATE = 10.0  # a learnt scale's raw parameter counts tenfold: Adam moves it ten times as fast
LINKS: dict[str, Callable[[Tensor], Tensor]] = {"softplus": softplus, "exp": torch.exp}
SMALLEST_EXCESS = 1e-12  # how far above the floor, relative to it, a scale at the floor stands


@recorded
class Normal(Tabular):
    """N(mu(parents), Sigma(parents)); a sample is z = mu + L epsilon with Sigma = L L^T.

    scale    of a diagonal covariance. "network": the net gives it, per entry; "learnt": one learnt scale for
             all entries, starting at 1; a number or tensor: fixed, not learnt
    link     "softplus" or "exp", applied to the raw scale, or to the raw diagonal of L
    floor    added to the linked scale: no standard deviation is below it (in the value's own units)
    covariance   Diagonal(), Spherical(), Full(), Tied() or LowRank(rank); all but Diagonal() are of flat
             events. The net has `gaussian_outputs(D, covariance)` outputs

    Its maximum likelihood is closed-form as a root with Constant, or with a Table given one discrete parent,
    unless the covariance is LowRank.

    Raises ValueError for an unknown link, a scale that is not positive, a net of another number of outputs,
    or a covariance other than diagonal of an image event.
    """

    def __init__(
        self,
        net: nn.Module,
        given: str | Sequence[str] = (),
        *,
        scale: str | float | Tensor = "network",
        link: str = "softplus",
        floor: float = 1e-4,
        covariance: Covariance = Diagonal(),  # noqa: B008 (frozen)
        event: int | Sequence[int] | None = None,
    ) -> None:
        if link not in LINKS:
            raise ValueError(f"link {link!r} is unknown: use 'softplus' or 'exp'")
        if floor < 0:
            raise ValueError(f"the scale's floor must not be negative, got {floor}")
        if isinstance(scale, str) and scale not in ("network", "learnt"):
            raise ValueError(f"scale must be 'network', 'learnt' or a positive number, got {scale!r}")
        by_default = isinstance(scale, str) and scale == "network"
        if not isinstance(covariance, Diagonal):
            if not by_default:
                raise ValueError(f"{covariance} has a scale of its own: leave out scale=")
            event = gaussian_event(net, covariance) if event is None else event
        self.from_network = by_default and not isinstance(covariance, Tied)
        super().__init__(net, given, event=event, parameters=2 if self.from_network else 1)
        self.covariance, self.floor, self.link = covariance, floor, LINKS[link]
        self.raw_scale: nn.Parameter | None = None
        self.raw_tril: nn.Parameter | None = None
        if not isinstance(covariance, Diagonal):
            check_outputs(net, self.event, covariance)
        start = torch.tensor(max(1.0 - floor, 1e-3), dtype=torch.float64)
        if isinstance(covariance, Tied):
            entries = self.event[0]
            diagonal = self._raw(start).to(torch.get_default_dtype()).expand(entries)
            self.raw_tril = nn.Parameter(torch.cat([diagonal, torch.zeros(entries * (entries - 1) // 2)]))
        elif isinstance(scale, str) and scale == "learnt":
            self.raw_scale = nn.Parameter((self._raw(start) / LEARNT_RATE).to(torch.get_default_dtype()))
        elif not isinstance(scale, str):
            fixed = (
                scale if isinstance(scale, Tensor) else torch.tensor(scale, dtype=torch.get_default_dtype())
            )
            if not bool((fixed > 0).all()):
                raise ValueError(f"a fixed scale must be positive, got {scale}")
            if fixed.shape != self.event[len(self.event) - fixed.ndim :]:
                shape = tuple(fixed.shape)
                raise ValueError(f"a fixed scale of shape {shape} does not fit events of {self.event}")
            self.register_buffer("fixed_scale", fixed.clone())

    def scale_of(self, raw: Tensor) -> Tensor:
        """sigma = link(raw) + floor."""
        return self.link(raw) + self.floor

    def raw_of(self, scale: Tensor) -> Tensor:
        """The raw scales whose `scale_of` this is; of one below the floor, that of the floor."""
        return self._raw(scale - self.floor)

    def _raw(self, excess: Tensor) -> Tensor:
        """The raw scales that the link takes to `excess`, which is sigma - floor; 0 to a tiny one."""
        excess = excess.clamp(min=SMALLEST_EXCESS * (self.floor + 1e-6))
        return inverse_softplus_of(excess) if self.link is softplus else excess.log()

    def _tril(self, raw: Tensor) -> Tensor:
        """L `[..., D, D]` from its raw entries."""
        entries = self.event[0]
        return tril_from(self.scale_of(raw[..., :entries]), raw[..., entries:])

    def _own_scale(self) -> Tensor:
        """The scale of a diagonal covariance that does not come from the network: learnt or fixed."""
        learnt = self.raw_scale
        return self.get_buffer("fixed_scale") if learnt is None else self.scale_of(LEARNT_RATE * learnt)

    def distribution(self, *parents: Tensor) -> Distribution:
        size = len(self.event)
        if isinstance(self.covariance, Diagonal):
            if self.from_network:
                loc, raw = self.parts(*parents, count=2)
                scale = self.scale_of(raw)
            else:
                (loc,), scale = self.parts(*parents), self._own_scale()
            return IndependentNormal(DiagonalNormal(loc, scale), size, validate_args=False)
        out, entries = self.output(*parents), self.event[0]
        loc, raw = out[..., :entries], out[..., entries:]
        if isinstance(self.covariance, Spherical):
            return IndependentNormal(DiagonalNormal(loc, self.scale_of(raw)), size, validate_args=False)
        if isinstance(self.covariance, LowRank):
            scale, factor = self.scale_of(raw[..., :entries]), raw[..., entries:]
            factor = factor.reshape(*factor.shape[:-1], entries, self.covariance.rank)
            return LowRankNormal(loc, factor, scale)
        return FullNormal(loc, self._tril(raw if self.raw_tril is None else self.raw_tril.to(loc.dtype)))

    def marginal_log_prob(self, distribution: Distribution, value: Tensor, observed: Tensor) -> Tensor:
        """The exact marginal: factorised entries drop out, those of a full covariance are integrated out."""
        if isinstance(distribution, FullNormal | LowRankNormal):
            return distribution.marginal_log_prob(value, observed)
        return super().marginal_log_prob(distribution, value, observed)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        if isinstance(distribution, Independent):
            base = distribution.base_dist
            return base.loc + base.scale * noise(self.event, "normal")  # type: ignore[no-any-return]
        if isinstance(distribution, LowRankNormal):
            small = noise((distribution.factor.shape[-1],), "normal")
            return distribution.transform(noise(self.event, "normal"), small)
        if isinstance(distribution, FullNormal):
            return distribution.transform(noise(self.event, "normal"))
        raise TypeError(f"not a Gaussian: {distribution}")

    def affine(self, *parents: Tensor | None) -> Affine | None:
        """Linear in Gaussian parents where the net is an MLP without hidden layers, W (parents) + b, and the
        scale does not come from it.

        The offset, and the scale where it is a diagonal, have the event's shape. None also for two latent
        parents, as W does not tell where the columns of one end.
        """
        if all(parent is not None for parent in parents):
            distribution = self.distribution(*(parent for parent in parents if parent is not None))
            if isinstance(distribution, Independent):
                return Affine((), distribution.base_dist.loc, distribution.base_dist.scale)
            return Affine((), distribution.mean, tril_of(distribution), full=True)
        net = self.net
        if self.from_network or type(net) is not MLP or net.missing or len(net.layers) > 1:
            return None
        if sum(parent is None for parent in parents) > 1:
            return None
        known = [None if parent is None else self._features(i, parent) for i, parent in enumerate(parents)]
        weights, offset = affine_parts(net.layers[0], known)
        offset = offset.reshape(*offset.shape[:-1], *self.event)
        if self.raw_tril is not None:
            return Affine(weights, offset, self._tril(self.raw_tril), full=True)
        return Affine(weights, offset, self._own_scale().expand(offset.shape))

    def _features(self, place: int, parent: Tensor) -> Tensor:
        """A parent `[*lead, B, *event]` as `[*lead, B, features]`."""
        dims = self._parent_dims[place]
        return parent.reshape(*parent.shape[: parent.ndim - (parent.ndim - 1 if dims is None else dims)], -1)

    def fill(self, value: Tensor, *parents: Tensor | Moments, observed: Tensor) -> Moments | None:
        """Missing entries given those seen, where they are correlated; None where they are not.

        The covariance is without lead where it is the same in all states, as with Tied.
        """
        distribution = self.distribution(*(parent for parent in parents if isinstance(parent, Tensor)))
        if isinstance(distribution, Independent):
            return None
        full = FullNormal(distribution.mean, tril_of(distribution))
        return Moments(*full.conditional(value, observed))

    @property
    def has_closed_form(self) -> bool:
        return super().has_closed_form and not isinstance(self.covariance, LowRank)

    @property
    def free_parameters(self) -> int:
        """As of every factor; but with LowRank each row of a table is a mean and W W^T + diag(sigma^2), in
        which a rotation of W's columns changes nothing. A network's outputs are not so counted.
        """
        count = super().free_parameters
        if not isinstance(self.covariance, LowRank) or not super().has_closed_form:
            return count
        entries = self._entries
        rows = count // gaussian_outputs(entries, self.covariance)
        return rows * (entries + low_rank_parameters(entries, self.covariance.rank, entries))

    @property
    def _entries(self) -> int:
        return math.prod(self.event)

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """For each state, with d = x - mu and mu the mean at hand:

        count    sum w, `[K, D]`: of the examples in which the entry was seen; with Full and Tied `[K, 1]`
        first    sum w d, `[K, D]`
        second   sum w E[d^2], `[K, D]`; with Full sum w E[d d^T], `[K, D, D]`, and with Tied its sum over the
                 states, `[D, D]`

        Expectations are over what was not observed of x, where it is Moments; entries missing under Full and
        Tied are filled. Raises TypeError where there is no closed form, or for codes that are not integers.
        """
        about = self.rows.detach()[:, : self._entries].double()
        if observed is not None and observed.ndim > 1 and isinstance(value, Tensor):
            filled = self.fill(value, *parents, observed=observed)
            value, observed = (value, observed) if filled is None else (filled, None)
        mean, covariance = value if isinstance(value, Moments) else (value, None)
        if covariance is None:
            mean = mean.reshape(*mean.shape[: mean.ndim - len(self.event)], self._entries)
        if observed is not None and observed.ndim > 1:
            observed = observed.reshape(len(observed), self._entries)
        codes = self._codes(parents, weight)
        given = by_state(len(about), codes, mean, covariance, observed, weight)
        if isinstance(self.covariance, Full | Tied):
            return scatter_sums(given, about, isinstance(self.covariance, Tied))
        return variance_sums(given, about)

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """Means and covariances of maximum likelihood, or of maximum posterior density.

        With N = sum w and x_bar the weighted mean of a state, and a NormalInverseWishart prior of mean m,
        strength kappa, Psi = scale^2 I and degrees nu (0 in the place of kappa, Psi and n without a prior):

            mu = (N x_bar + kappa m) / (N + kappa)
            S = sum w (x - mu)(x - mu)^T + kappa (mu - m)(mu - m)^T
            Full      Sigma = (S + Psi) / (N + n), n = nu + D + 1 + [kappa > 0]
            Tied      the sum of S over the states, and of N, n = nu + D + 1 + K [kappa > 0]
            Diagonal  as Full for each entry alone, n = nu + 2 + [kappa > 0]
            Spherical the sum of S and N over the entries, n = nu + 2 + D [kappa > 0]
            learnt    the sum over entries and states, n = nu + 2 + K D [kappa > 0]

        Then no standard deviation may be below the floor: variances are raised to floor^2, and so are the
        eigenvalues of Sigma, which is the maximum under that constraint. What has no weight, nor a prior, and
        what is frozen stays as it is. Raises TypeError for another prior, ValueError for a mean m of another
        size.

        Murphy (2012), "Machine learning", section 4.6.3.
        """
        rows, entries = self.rows, self._entries
        table = rows.detach().double().clone()
        loc = table[:, :entries].clone()
        pull = Pull.of(prior, entries, table.device)
        count, first, second = (statistics[name] for name in ("count", "first", "second"))
        move = torch.zeros_like(loc)
        if self.learns_rows:
            total = count + pull.strength
            gain = first + pull.strength * (pull.mean - loc)
            move = torch.where(total > 0, gain / total.where(total > 0, 1), move)
        table[:, :entries] = loc + move
        beyond = loc + move - pull.mean  # mu - m
        if isinstance(self.covariance, Full | Tied):
            scatter = shifted_scatter(count, first, move)
            scatter = scatter + pull.strength * beyond.unsqueeze(-1) * beyond.unsqueeze(-2)
            self._set_trils(table, second, scatter, count.squeeze(-1), pull)
        elif self.from_network or self.raw_scale is not None:
            scatter = second - 2 * move * first + count * move.square() + pull.strength * beyond.square()
            self._set_scales(table, scatter, count, pull)
        self.set_rows(table)

    def _set_scales(self, table: Tensor, scatter: Tensor, count: Tensor, pull: Pull) -> None:
        """Raw scales from the sums of squares `[K, D]`, into the table or into `raw_scale`."""
        means = 1
        if isinstance(self.covariance, Spherical):
            scatter, count, means = scatter.sum(1, keepdim=True), count.sum(1, keepdim=True), count.shape[1]
        elif self.raw_scale is not None:
            scatter, count, means = scatter.sum(), count.sum(), count.numel()
        mass = count + pull.mass(1, means)
        variance = (scatter + pull.scatter) / mass.where(mass > 0, 1)
        raw = self._raw(variance.clamp(min=self.floor**2).sqrt() - self.floor)
        if self.raw_scale is None:
            table[:, self._entries :] = torch.where(mass > 0, raw, table[:, self._entries :])
        elif self.raw_scale.requires_grad and mass > 0:
            self.raw_scale.copy_(raw / LEARNT_RATE)

    def _set_trils(self, table: Tensor, second: Tensor, scatter: Tensor, count: Tensor, pull: Pull) -> None:
        """Raw entries of L from the sums of products `[K, D, D]`, into the table or into `raw_tril`."""
        entries = self._entries
        identity = torch.eye(entries, dtype=table.dtype, device=table.device)
        tied = self.raw_tril is not None
        total = (second + scatter.sum(0)).unsqueeze(0) if tied else second + scatter
        mass = (count.sum(0, keepdim=True) if tied else count) + pull.mass(entries, len(count) if tied else 1)
        alive = mass > 0
        covariance = (total + pull.scatter * identity)[alive] / mass[alive].reshape(-1, 1, 1)
        found = tril_entries(constrained_tril(covariance, self.floor))
        found[:, :entries] = self._raw(found[:, :entries] - self.floor)
        if self.raw_tril is None:
            table[alive, entries:] = found
        elif self.raw_tril.requires_grad and alive.all():
            self.raw_tril.copy_(found.squeeze(0))

    @torch.no_grad()
    def troubles(self, name: str) -> list[str]:
        """Which components have a standard deviation, in some direction, at the floor."""
        if not self.has_closed_form or self.floor == 0:
            return []
        raw, limit = self.rows.double()[:, self._entries :], (1 + 1e-6) * self.floor
        if isinstance(self.covariance, Full | Tied):
            tril = self._tril(raw if self.raw_tril is None else self.raw_tril.double().unsqueeze(0))
            rounding = 4 * torch.finfo(self.rows.dtype).eps * tril.norm(dim=(1, 2))
            least = torch.diag_embed((limit + rounding).square().unsqueeze(1).expand(tril.shape[:2]))
            at_floor = torch.linalg.cholesky_ex(tril @ tril.mT - least).info > 0
        elif self.from_network:
            at_floor = (self.scale_of(raw) <= limit).any(1)
        elif self.raw_scale is not None:
            at_floor = (self._own_scale().double() <= limit).reshape(1)
        else:
            return []
        return floor_troubles(name, at_floor, self.floor)

    def log_prior(self, prior: object) -> Tensor:
        """log p(mu, Sigma) under a NormalInverseWishart, up to a constant: what `maximize` adds.

        For each covariance -1/2 [n log det Sigma + tr(Psi Sigma^-1)], with n as in `maximize`, and for each
        mean -kappa/2 (mu - m)^T Sigma^-1 (mu - m). A variance is a covariance with D = 1.
        """
        rows, entries = self.rows.double(), self._entries
        pull = Pull.of(prior, entries, rows.device)
        beyond, raw = rows[:, :entries] - pull.mean, rows[:, entries:]
        if isinstance(self.covariance, Full | Tied):
            tied = self.raw_tril is not None
            tril = self._tril(raw if self.raw_tril is None else self.raw_tril.double())
            identity = torch.eye(entries, dtype=tril.dtype, device=tril.device).expand(tril.shape)
            inverse = torch.linalg.solve_triangular(tril, identity, upper=False)
            log_det = 2 * tril.diagonal(dim1=-2, dim2=-1).log()
            distance = (inverse @ beyond.unsqueeze(-1)).square()
            mass = pull.mass(entries, len(rows) if tied else 1)
            return pull.log_density(log_det, inverse.square(), distance, mass)
        if self.from_network:
            variance = self.scale_of(raw).square()
            spread, means = variance, entries // raw.shape[1]
        else:
            variance = self._own_scale().double().square()
            spread, means = variance.expand(self.event).reshape(-1), beyond.numel()
        return pull.log_density(variance.log(), 1 / variance, beyond.square() / spread, pull.mass(1, means))
