"""Gaussian factors: the standard normal prior and Normal with diagonal, full or low-rank covariance.

D entries of an event, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from .._recorded import recorded
from ..factor import Factor
from ..noise import BoundNoise
from ..numerics import inverse_softplus, softplus
from .gaussian import DiagonalNormal, FullNormal, LowRankNormal

LEARNT_RATE = 10.0  # a learnt scale's raw parameter counts tenfold: Adam moves it ten times as fast
LINKS: dict[str, Callable[[Tensor], Tensor]] = {"softplus": softplus, "exp": torch.exp}


@recorded
@dataclass(frozen=True)
class Diagonal:
    """Independent entries: Sigma = diag(sigma^2)."""


@recorded
@dataclass(frozen=True)
class Full:
    """Sigma = L L^T, L lower triangular, its diagonal through the link: D (D + 1) / 2 outputs of the net."""


@recorded
@dataclass(frozen=True)
class LowRank:
    """Sigma = W W^T + diag(sigma^2), W of `rank` columns: D (R + 1) numbers from the net."""

    rank: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"LowRank needs a rank of at least 1, got {self.rank}")


Covariance = Diagonal | Full | LowRank


@recorded
class StandardNormal(Factor):
    """N(0, I): `StandardNormal(20)` for 20 entries, or an event shape."""

    def __init__(self, event: int | Sequence[int]) -> None:
        super().__init__(event=event)
        self.register_buffer("loc", torch.zeros(self.event), persistent=False)
        self.register_buffer("scale", torch.ones(self.event), persistent=False)

    def distribution(self, *parents: Tensor) -> Distribution:
        loc, scale = self.get_buffer("loc"), self.get_buffer("scale")
        return Independent(DiagonalNormal(loc, scale), len(self.event), validate_args=False)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return noise(self.event, "normal")


@recorded
class Normal(Factor):
    """N(mu(parents), Sigma(parents)); a sample is z = mu + L epsilon with Sigma = L L^T.

    scale    "network": the net gives it, per entry; "learnt": one learnt scale for all entries, starting at
             1; a number or tensor: fixed, not learnt. Full and LowRank covariances take theirs from the
             network.
    link     "softplus" or "exp", applied to the raw scale
    floor    added to the linked scale: no standard deviation is below it (in the value's own units)
    covariance   Diagonal(), Full() or LowRank(rank)

    Raises ValueError for an unknown link, a scale that is not positive, or a full covariance of an image
    event.
    """

    def __init__(
        self,
        net: nn.Module,
        given: str | Sequence[str] = (),
        *,
        scale: str | float | Tensor = "network",
        link: str = "softplus",
        floor: float = 1e-4,
        covariance: Covariance = Diagonal(),
        event: int | Sequence[int] | None = None,
    ) -> None:
        if link not in LINKS:
            raise ValueError(f"link {link!r} is unknown: use 'softplus' or 'exp'")
        if floor < 0:
            raise ValueError(f"the scale's floor must not be negative, got {floor}")
        if isinstance(scale, str) and scale not in ("network", "learnt"):
            raise ValueError(f"scale must be 'network', 'learnt' or a positive number, got {scale!r}")
        if not isinstance(covariance, Diagonal) and not (isinstance(scale, str) and scale == "network"):
            raise ValueError(f"{covariance} takes its scale from the network: leave out scale=")
        if event is None and not isinstance(covariance, Diagonal):
            event = _gaussian_event(net, covariance)
        from_network = isinstance(scale, str) and scale == "network"
        super().__init__(net, given, event=event, parameters=2 if from_network else 1)
        if not isinstance(covariance, Diagonal) and len(self.event) != 1:
            raise ValueError(f"{covariance} needs a flat event such as (10,), got {self.event}")
        self.covariance, self.floor, self.link = covariance, floor, LINKS[link]
        self.from_network = from_network
        self.raw_scale: nn.Parameter | None = None
        if isinstance(scale, str) and scale == "learnt":
            above = max(1.0 - floor, 1e-3)
            start = inverse_softplus(above) if link == "softplus" else math.log(above)
            self.raw_scale = nn.Parameter(torch.tensor(start / LEARNT_RATE))
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

    def distribution(self, *parents: Tensor) -> Distribution:
        size = len(self.event)
        if isinstance(self.covariance, Diagonal):
            if self.from_network:
                loc, raw = self.parts(*parents, count=2)
                return Independent(DiagonalNormal(loc, self.scale_of(raw)), size, validate_args=False)
            (loc,) = self.parts(*parents)
            learnt = self.raw_scale
            scale = self.get_buffer("fixed_scale") if learnt is None else self.scale_of(LEARNT_RATE * learnt)
            return Independent(DiagonalNormal(loc, scale), size, validate_args=False)
        out, entries = self.output(*parents), self.event[0]
        loc, raw = out[..., :entries], out[..., entries:]
        if isinstance(self.covariance, LowRank):
            scale, factor = self.scale_of(raw[..., :entries]), raw[..., entries:]
            return LowRankNormal(
                loc, factor.reshape(*factor.shape[:-1], entries, self.covariance.rank), scale
            )
        rows, columns = torch.tril_indices(entries, entries, offset=-1, device=raw.device)
        lower = raw.new_zeros(*raw.shape[:-1], entries, entries)
        lower[..., rows, columns] = raw[..., entries:]
        return FullNormal(loc, lower + torch.diag_embed(self.scale_of(raw[..., :entries])))

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


def gaussian_outputs(entries: int, covariance: Covariance) -> int:
    """How many outputs a net needs for a Normal of `entries` entries whose scale comes from the network."""
    if isinstance(covariance, LowRank):
        return entries * (2 + covariance.rank)
    if isinstance(covariance, Full):
        return entries + entries * (entries + 1) // 2
    return 2 * entries


def _gaussian_event(net: nn.Module, covariance: Covariance) -> int:
    """The D for which `gaussian_outputs(D, covariance)` is the number of the net's outputs."""
    out = getattr(net, "out_shape", None)
    if out is None:
        raise ValueError("Normal: the net does not say its output's shape; pass event=, such as event=10")
    total = math.prod(out)
    for entries in range(1, total + 1):
        if gaussian_outputs(entries, covariance) == total:
            return entries
    fault = f"a net with {total} outputs fits no Normal with {covariance}"
    raise ValueError(f"{fault}: use gaussian_outputs(D, covariance)")
