"""Gaussians as torch distributions, written so that they compile and marginalise, and their KL divergences.

D entries, R rank; batch shapes broadcast.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import Normal as TorchNormal

from ..numerics import sum_event

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class DiagonalNormal(TorchNormal):
    """N(loc, scale^2) entry by entry; a scale of fewer dimensions stays small in the log density."""

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = False) -> None:
        self._narrow_scale = scale
        if loc.shape != scale.shape:
            loc, scale = torch.broadcast_tensors(loc, scale)  # type: ignore[no-untyped-call]
        self.loc, self.scale = loc, scale
        Distribution.__init__(self, loc.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagonalNormal:
        return DiagonalNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        scale = self._narrow_scale
        return -0.5 * ((value - self.loc) / scale).square() - scale.log() - HALF_LOG_TWO_PI


class FullNormal(Distribution):
    """N(loc, L L^T), L lower triangular `[..., D, D]` with a positive diagonal."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        batch = torch.broadcast_shapes(loc.shape[:-1], scale_tril.shape[:-2])  # type: ignore[no-untyped-call]
        self.loc, self.scale_tril = loc, scale_tril
        super().__init__(batch, loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> FullNormal:
        return FullNormal(
            self.loc.expand(*batch_shape, *self.loc.shape[-1:]),
            self.scale_tril.expand(*batch_shape, *self.scale_tril.shape[-2:]),
        )

    @property
    def mean(self) -> Tensor:
        return self.loc.expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        return self.scale_tril.square().sum(-1).expand(self._extended_shape())

    @property
    def covariance_matrix(self) -> Tensor:
        return self.scale_tril @ self.scale_tril.mT

    def transform(self, noise: Tensor) -> Tensor:
        """loc + L epsilon, for epsilon `[..., D]`."""
        return self.loc + (self.scale_tril * noise.unsqueeze(-2)).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.transform(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Tensor) -> Tensor:
        difference = value - self.loc
        whitened = torch.linalg.solve_triangular(self.scale_tril, difference.unsqueeze(-1), upper=False)
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        distance: Tensor = whitened.square().sum((-2, -1))
        return -0.5 * distance - log_det - HALF_LOG_TWO_PI * self.loc.shape[-1]

    def entropy(self) -> Tensor:
        """log det L + D/2 (1 + log 2 pi): may be negative."""
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det + self.loc.shape[-1] * (0.5 + HALF_LOG_TWO_PI)

    def marginal_log_prob(self, value: Tensor, observed: Tensor) -> Tensor:
        """log density of the observed entries: the others become standard normal, at their mean."""
        with torch.autocast(value.device.type, enabled=False):
            seen = observed.to(self.loc.dtype)
            kept = self.covariance_matrix * seen.unsqueeze(-1) * seen.unsqueeze(-2)
            tril = torch.linalg.cholesky(kept + torch.diag_embed(1 - seen))
        loc = torch.where(observed, self.loc, value)
        return FullNormal(loc, tril).log_prob(value) + HALF_LOG_TWO_PI * (1 - seen).sum(-1)


class LowRankNormal(Distribution):
    """N(loc, W W^T + diag(scale^2)), W `[..., D, R]`, in O(D R^2) by the Woodbury identity."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Tensor, factor: Tensor, scale: Tensor) -> None:
        batch = torch.broadcast_shapes(loc.shape[:-1], factor.shape[:-2], scale.shape[:-1])  # type: ignore[no-untyped-call]
        self.loc, self.factor, self.scale = loc, factor, scale
        super().__init__(batch, loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LowRankNormal:
        return LowRankNormal(
            self.loc.expand(*batch_shape, *self.loc.shape[-1:]),
            self.factor.expand(*batch_shape, *self.factor.shape[-2:]),
            self.scale.expand(*batch_shape, *self.scale.shape[-1:]),
        )

    @property
    def mean(self) -> Tensor:
        return self.loc.expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        return (self.scale.square() + self.factor.square().sum(-1)).expand(self._extended_shape())

    @property
    def covariance_matrix(self) -> Tensor:
        return self.factor @ self.factor.mT + torch.diag_embed(self.scale.square())

    def transform(self, noise: Tensor, small: Tensor) -> Tensor:
        """loc + scale * epsilon + W eta, for epsilon `[..., D]` and eta `[..., R]`."""
        return self.loc + self.scale * noise + (self.factor * small.unsqueeze(-2)).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = self.loc.new_empty(shape).normal_()
        return self.transform(noise, self.loc.new_empty((*shape[:-1], self.factor.shape[-1])).normal_())

    def _capacitance(self) -> tuple[Tensor, Tensor]:
        """W / scale, and the Cholesky factor of I + W^T diag(scale^-2) W."""
        with torch.autocast(self.loc.device.type, enabled=False):
            scaled = self.factor / self.scale.unsqueeze(-1)
            identity = torch.eye(scaled.shape[-1], dtype=scaled.dtype, device=scaled.device)
            return scaled, torch.linalg.cholesky(identity + scaled.mT @ scaled)

    def log_det(self) -> Tensor:
        """log det of the covariance."""
        _, tril = self._capacitance()
        return 2 * (tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) + self.scale.log().sum(-1))

    def log_prob(self, value: Tensor) -> Tensor:
        scaled, tril = self._capacitance()
        whitened = (value - self.loc) / self.scale
        projected = (scaled * whitened.unsqueeze(-1)).sum(-2)
        shrunk = torch.linalg.solve_triangular(tril, projected.unsqueeze(-1), upper=False).squeeze(-1)
        distance: Tensor = whitened.square().sum(-1) - shrunk.square().sum(-1)
        log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) + self.scale.log().sum(-1)
        return -0.5 * distance - log_det - HALF_LOG_TWO_PI * self.loc.shape[-1]

    def entropy(self) -> Tensor:
        """(log det Sigma + D (1 + log 2 pi)) / 2: may be negative."""
        return 0.5 * self.log_det() + self.loc.shape[-1] * (0.5 + HALF_LOG_TWO_PI)

    def marginal_log_prob(self, value: Tensor, observed: Tensor) -> Tensor:
        """log density of the observed entries: rows of W that were not observed are cut."""
        seen = observed.to(self.loc.dtype)
        kept = LowRankNormal(
            torch.where(observed, self.loc, value),
            self.factor * seen.unsqueeze(-1),
            torch.where(observed, self.scale, torch.ones_like(self.scale)),
        )
        return kept.log_prob(value) + HALF_LOG_TWO_PI * (1 - seen).sum(-1)


def diagonal_kl(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    """KL(N(mu, sigma^2) || N(m, s^2)) = (sigma^2 + (mu - m)^2) / (2 s^2) - 1/2 + log(s / sigma), by entry."""
    ratio = (q.scale / p.scale).square()
    return 0.5 * (ratio + ((q.loc - p.loc) / p.scale).square() - 1 - ratio.log())


def gaussian_kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q || p) = 1/2 [tr(P^-1 Q) + (m - mu)^T P^-1 (m - mu) - D + log det P - log det Q]."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        return sum_event(diagonal_kl(q.base_dist, p.base_dist), q.reinterpreted_batch_ndims)
    if isinstance(q, LowRankNormal) and isinstance(p, Independent):
        base = p.base_dist
        trace = (q.variance / base.scale.square()).sum(-1)
        distance = ((q.loc - base.loc) / base.scale).square().sum(-1)
        log_det_p = 2 * base.scale.log().sum(-1)
        difference: Tensor = trace + distance - q.loc.shape[-1] + log_det_p - q.log_det()
        return 0.5 * difference
    lower_q, lower_p = _tril(q), _tril(p)
    expanded = lower_q.expand(*_broadcast(lower_q, lower_p))
    whitened = torch.linalg.solve_triangular(lower_p, expanded, upper=False)
    shift = torch.linalg.solve_triangular(lower_p, (q.mean - p.mean).unsqueeze(-1), upper=False)
    trace, distance = whitened.square().sum((-2, -1)), shift.square().sum((-2, -1))
    log_det = [lower.diagonal(dim1=-2, dim2=-1).log().sum(-1) for lower in (lower_q, lower_p)]
    divergence: Tensor = 0.5 * (trace + distance - lower_q.shape[-1]) + log_det[1] - log_det[0]
    return divergence


def _broadcast(a: Tensor, b: Tensor) -> tuple[int, ...]:
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
    return (*batch, *a.shape[-2:])


def _tril(distribution: Distribution) -> Tensor:
    tril: Tensor
    if isinstance(distribution, Independent):
        return torch.diag_embed(distribution.base_dist.scale)
    if isinstance(distribution, FullNormal):
        tril = distribution.scale_tril
        return tril
    if isinstance(distribution, LowRankNormal):
        with torch.autocast(distribution.loc.device.type, enabled=False):
            tril = torch.linalg.cholesky(distribution.covariance_matrix)
        return tril
    raise TypeError(f"not a Gaussian: {distribution}")
