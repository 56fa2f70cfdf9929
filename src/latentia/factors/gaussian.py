"""Gaussians as torch distributions, written so that they compile and marginalise, and their KL divergences.

D entries, R rank, B examples; batch shapes broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import Normal as TorchNormal

from ..numerics import sum_event
from ._holes import filled

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
ROWS_TOGETHER = 12  # rows of a triangular matrix that are multiplied as one block, zeros included,
MOST_BLOCKS = 8  # until there are so many blocks
MOST_NUMBERS = 2**17  # of a temporary array: larger ones leave the processor's cache,
LEAST_ROWS = 128  # but fewer rows at a time than these cost more than that


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


class IndependentNormal(Independent):  # type: ignore[type-arg]
    """N(loc, diag(scale^2)) of an event: the squares are summed before anything else is done with them."""

    def log_prob(self, value: Tensor) -> Tensor:
        base, dims = self.base_dist, self.reinterpreted_batch_ndims
        log_scale = base._narrow_scale.log()
        event = base.loc.shape[base.loc.ndim - dims :]
        shape = torch.broadcast_shapes(log_scale.shape, event)  # type: ignore[no-untyped-call]
        constant = sum_event(log_scale.expand(shape), dims) + HALF_LOG_TWO_PI * math.prod(event)
        one_loc = base.loc.ndim == dims or base.loc.shape[-dims - 1] == 1

        def distance(rows: Tensor) -> Tensor:
            difference = rows - base.loc
            if difference.requires_grad or base.scale.requires_grad:
                return sum_event((difference / base.scale).square(), dims)
            return sum_event(difference.div_(base.scale).square_(), dims)

        plain = value.ndim == dims + 1 and one_loc
        squares = _in_parts(distance, value, base.loc.numel()) if plain else distance(value)
        log_p: Tensor = -0.5 * squares - constant
        return log_p


class Whitening(NamedTuple):
    """x -> L^-1 (x - loc), for locs and covariances that all examples share.

    Differences are taken from `centre` `[D]`, the mean of all locs, so that a large common offset cancels.

    inverse  L^-1, `[*lead, D, D]`
    shift    L^-1 (loc - centre), `[*lead, 1, D]`
    blocks   of many covariances, the rows of [-shift, L^-1] below each other, some rows of each in a block,
             as far as they are not zero, `[K rows, 1 + columns]`: they multiply examples with a 1 before them
    """

    centre: Tensor
    inverse: Tensor
    shift: Tensor
    blocks: tuple[Tensor, ...]

    @staticmethod
    def of(loc: Tensor, scale_tril: Tensor) -> Whitening:
        centre = loc.reshape(-1, loc.shape[-1]).mean(0)
        inverse = _inverse(scale_tril)
        shift = (loc - centre).double() @ inverse.mT
        blocks = _in_blocks(inverse, shift, loc.dtype)
        return Whitening(centre, inverse.to(loc.dtype), shift.to(loc.dtype), blocks)

    def distance(self, value: Tensor) -> Tensor:
        """|L^-1 (value - loc)|^2, `[*lead, B]`, for values `[B, D]`."""
        if self.blocks:
            return _in_parts(self._of_many, value, max(map(len, self.blocks)))
        return _in_parts(self._of_one, value, self.shift.numel())

    def _of_one(self, value: Tensor) -> Tensor:
        whitened = (value - self.centre) @ self.inverse.mT
        return _squares(whitened - self.shift).sum(-1)

    def _of_many(self, value: Tensor) -> Tensor:
        lead = self.inverse.shape[:-2]
        extended = torch.nn.functional.pad(value - self.centre, (1, 0), value=1.0).mT
        distance = torch.zeros((), dtype=value.dtype, device=value.device)
        for block in self.blocks:
            whitened = block @ extended[: block.shape[1]]  # [K rows, B]
            distance = distance + _squares(whitened).reshape(*lead, -1, len(value)).sum(-2)
        return distance


class FullNormal(Distribution):
    """N(loc, L L^T), L lower triangular `[..., D, D]` with a positive diagonal.

    One distribution serves many batches of values: covariances that the examples share are inverted when the
    first log density is asked for.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        batch = torch.broadcast_shapes(loc.shape[:-1], scale_tril.shape[:-2])  # type: ignore[no-untyped-call]
        self.loc, self.scale_tril = loc, scale_tril
        self._whitening: Whitening | None = None
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
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * self._distance(value) - log_det - HALF_LOG_TWO_PI * self.loc.shape[-1]

    def _distance(self, value: Tensor) -> Tensor:
        """(x - mu)^T Sigma^-1 (x - mu)."""
        loc, tril = self.loc, self.scale_tril
        with torch.autocast(value.device.type, enabled=False):
            if tril.ndim > 2 and tril.shape[-3] > 1:
                difference = (value - loc).unsqueeze(-1)
                whitened: Tensor = torch.linalg.solve_triangular(tril, difference, upper=False).squeeze(-1)
                return whitened.square().sum(-1)
            one_loc = loc.ndim == 1 or loc.shape[-2] == 1
            if value.ndim == 2 and one_loc and (tril.ndim == 2 or tril.shape[:-2] == loc.shape[:-1]):
                return self._whitened().distance(value)
            return ((value - loc) @ _inverse(tril).to(loc.dtype).mT).square().sum(-1)

    def _whitened(self) -> Whitening:
        tracked = torch.is_grad_enabled() and (self.scale_tril.requires_grad or self.loc.requires_grad)
        if tracked:
            return Whitening.of(self.loc, self.scale_tril)
        if self._whitening is None:
            self._whitening = Whitening.of(self.loc, self.scale_tril)
        return self._whitening

    def _is_shared(self, value: Tensor) -> bool:
        """Whether rows `[B, D]` share the covariances, in a pass without gradients, where shapes may vary."""
        shared = self.scale_tril.ndim == 2 or self.scale_tril.shape[-3] == 1
        return shared and value.ndim == 2 and not torch.is_grad_enabled()

    def conditional(self, value: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `[..., B, D]` and covariance `[..., B, D, D]` of all entries given those observed.

        With P = Sigma^-1 and m, o the missing and the observed entries: N(mu_m - P_mm^-1 P_mo (x_o - mu_o),
        P_mm^-1). Bishop (2006), eqs. 2.73 and 2.75.
        """
        if self._is_shared(value):
            found = filled(self.loc, _inverse(self.scale_tril), value, observed)
            return found.mean.to(value.dtype), found.covariance().to(value.dtype)
        with torch.autocast(value.device.type, enabled=False):
            precision = torch.cholesky_inverse(self.scale_tril)
            seen = observed.to(precision.dtype)
            both_missing = (1 - seen).unsqueeze(-1) * (1 - seen).unsqueeze(-2)
            padded = precision * both_missing + torch.diag_embed(seen)
            covariance = torch.cholesky_inverse(torch.linalg.cholesky(padded)) * both_missing
            pull = (precision @ ((value - self.loc) * seen).unsqueeze(-1)).squeeze(-1)
            mean = self.loc - (covariance @ pull.unsqueeze(-1)).squeeze(-1)
        return torch.where(observed, value, mean), covariance

    def entropy(self) -> Tensor:
        """log det L + D/2 (1 + log 2 pi): may be negative."""
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det + self.loc.shape[-1] * (0.5 + HALF_LOG_TWO_PI)

    def marginal_log_prob(self, value: Tensor, observed: Tensor) -> Tensor:
        """log density of the observed entries: the others become standard normal, at their mean.

        Where all rows share the covariance, it is the density at the others' conditional mean over their
        conditional density there, which takes a matrix of the missing entries alone.
        """
        if self._is_shared(value):
            found = filled(self.loc, _inverse(self.scale_tril), value, observed)
            lost = HALF_LOG_TWO_PI * found.missing.to(found.root).sum(-1) - found.log_det()
            return self.log_prob(found.mean.to(value.dtype)) + lost.to(value.dtype)
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
        """W / scale, and the Cholesky factor of C = I + W^T diag(scale^-2) W in float64: beside small noise C
        is nearly singular.
        """
        with torch.autocast(self.loc.device.type, enabled=False):
            scaled = self.factor / self.scale.unsqueeze(-1)
            exact = scaled.double()
            identity = torch.eye(scaled.shape[-1], dtype=exact.dtype, device=scaled.device)
            return scaled, torch.linalg.cholesky(identity + exact.mT @ exact)

    def log_det(self) -> Tensor:
        """log det of the covariance."""
        _, tril = self._capacitance()
        log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1).to(self.scale.dtype)
        return 2 * (log_det + self.scale.log().sum(-1))

    def log_prob(self, value: Tensor) -> Tensor:
        """By x = loc + W eta + noise at eta's posterior mean m, where nothing large cancels:
        (x - loc)^T Sigma^-1 (x - loc) = |(x - loc - W m) / scale|^2 + |m|^2.
        """
        scaled, tril = self._capacitance()
        whitened = (value - self.loc) / self.scale
        with torch.autocast(value.device.type, enabled=False):
            pull = torch.einsum("...dr,...d->...r", scaled.double(), whitened.double())
            mean = torch.cholesky_solve(pull.unsqueeze(-1), tril).squeeze(-1).to(whitened.dtype)
            error = whitened - torch.einsum("...dr,...r->...d", scaled, mean)
        distance = error.square().sum(-1) + mean.square().sum(-1)
        log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1).to(distance.dtype)
        return -0.5 * distance - log_det - self.scale.log().sum(-1) - HALF_LOG_TWO_PI * self.loc.shape[-1]

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


def _inverse(scale_tril: Tensor) -> Tensor:
    """L^-1 `[*lead, D, D]` in float64, of L `[D, D]` or `[*lead, 1, D, D]`."""
    tril = scale_tril.double() if scale_tril.ndim == 2 else scale_tril.double().squeeze(-3)
    identity = torch.eye(tril.shape[-1], dtype=tril.dtype, device=tril.device)
    inverse: Tensor = torch.linalg.solve_triangular(tril, identity.expand(tril.shape), upper=False)
    return inverse


def _in_blocks(inverse: Tensor, shift: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The blocks of a Whitening; none for a single covariance."""
    if inverse.ndim == 2:
        return ()
    entries = inverse.shape[-1]
    rows = torch.cat([-shift.mT, inverse], -1).to(dtype).flatten(0, -3)  # [K, D, 1 + D]
    count = max(1, min(MOST_BLOCKS, entries // ROWS_TOGETHER))
    edges = pairwise(entries * i // count for i in range(count + 1))
    return tuple(rows[:, i:j, : 1 + j].reshape(-1, 1 + j) for i, j in edges)


def _in_parts(distance: Callable[[Tensor], Tensor], value: Tensor, width: int) -> Tensor:
    """distance(value), `[*lead, B]`, some rows at a time where `width` numbers for each would be many.

    With gradients, which keep all of them, it is done at once.
    """
    rows = max(LEAST_ROWS, MOST_NUMBERS // width)
    if len(value) <= rows or torch.is_grad_enabled():
        return distance(value)
    starts = range(0, len(value), rows)
    return torch.cat([distance(value[start : start + rows]) for start in starts], dim=-1)


def _squares(fresh: Tensor) -> Tensor:
    """The squares of a tensor that nothing else holds, in its own memory unless gradients need that."""
    return fresh.square() if fresh.requires_grad else fresh.square_()


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
    lower_q, lower_p = tril_of(q), tril_of(p)
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


def tril_of(distribution: Distribution) -> Tensor:
    """L `[..., D, D]` of a Gaussian of flat events, its covariance L L^T. Raises TypeError for another."""
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
