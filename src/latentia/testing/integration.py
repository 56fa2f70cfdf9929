"""Sums and integrals over small events, to hold a density against.

G nodes, B rows, E entries of an event. A node is a value `[B, *event]`; G of them go through `log_prob` as a
lead dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

NODES = 100_000
ROUNDING = 1e-6
COUNTS = 64
HALF_WIDTH = 3.5  # of the trapezoidal rule: sinh(pi / 2 sinh 3.5) is about 1e11 standard deviations


class Nodes(NamedTuple):
    """Values `[G, B, *event]` and log weights `[G, B]`: sum_g w_g f(x_g) is the integral, or sum, of f.

    rough: log weights of the rule with every other node, which tells how exact the whole rule is.
    """

    values: Tensor
    log_weights: Tensor
    rough: Tensor

    def integral(self, density: Tensor, function: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The integral of a density `[G, *, B]`, times a function, and a cautious estimate of its error.

        The difference of the two rules at their worst: at a single value, a kink may cheat them.
        """
        f = density if function is None else density * function
        shape = (len(f), *(1,) * (f.ndim - 2), f.shape[-1])
        fine, rough = ((w.exp().reshape(shape) * f).sum(0) for w in (self.log_weights, self.rough))
        return fine, 4 * (fine - rough).abs().max() + ROUNDING


def support_of(distribution: Distribution | None, sample: Tensor) -> Constraint:
    """The set of values of one entry; where the family does not say, the reals for floating-point samples."""
    try:
        support = None if distribution is None else distribution.support
    except NotImplementedError:
        support = None
    if support is None:
        return constraints.real if sample.is_floating_point() else constraints.nonnegative_integer
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return constraints.real if support is constraints.real_vector else support


def event_nodes(supports: Sequence[Constraint], sample: Tensor, event: Sequence[int]) -> Nodes | str:
    """Nodes over whole events, placed where `sample` `[S, B, *event]` lies; a word where there are too many.

    supports: of each of the E entries.
    """
    flat = sample.reshape(*sample.shape[:2], len(supports))
    continuous = sum(not support.is_discrete for support in supports)
    if continuous > 2:
        return f"the event has {continuous} entries, and quadrature is for 1 or 2"
    if continuous == 2 == len(supports) and all(support is constraints.real for support in supports):
        return _whitened(flat, event)
    axes = [line_nodes(s, flat[..., d], 401 if continuous == 1 else 201) for d, s in enumerate(supports)]
    total = math.prod(len(axis.values) for axis in axes)
    if total > NODES:
        return f"the event has {total:,} states or nodes, more than {NODES:,}"
    grid = torch.cartesian_prod(*[torch.arange(len(axis.values)) for axis in axes]).reshape(total, -1)
    values = torch.stack([axis.values[grid[:, d]] for d, axis in enumerate(axes)], dim=-1)
    log_weights, rough = (
        torch.stack([weights[grid[:, d]] for d, weights in enumerate(each)]).sum(0)
        for each in ([axis.log_weights for axis in axes], [axis.rough for axis in axes])
    )
    return Nodes(values.reshape(*values.shape[:2], *event), log_weights, rough)


def line_nodes(support: Constraint, sample: Tensor, count: int = 401) -> Nodes:
    """Nodes `[G, B]` for one entry with samples `[S, B]`: the listed values, or the double exponential rule.

    x = m + s sinh(pi/2 sinh u) on a line, low + s exp(pi/2 sinh u) on a half-line, a tanh on an interval.
    Takahasi & Mori (1974), "Double exponential formulas for numerical integration".
    """
    batch = sample.shape[1]
    if support.is_discrete:
        low, high = (0.0, 1.0) if support is constraints.boolean else _bounds(support, 0, math.inf)
        top = sample.max() + COUNTS if math.isinf(high) else high
        listed = torch.arange(int(low), int(top) + 1, dtype=sample.dtype).unsqueeze(-1).expand(-1, batch)
        ones = torch.zeros(listed.shape, dtype=torch.float64)
        return Nodes(listed, ones, ones)
    u = torch.linspace(-HALF_WIDTH, HALF_WIDTH, count, dtype=torch.float64).unsqueeze(-1)
    inner = math.pi / 2 * torch.sinh(u)
    log_slope = torch.log(math.pi / 2 * torch.cosh(u)) + math.log(2 * HALF_WIDTH / (count - 1))
    log_cosh = torch.nn.functional.softplus(2 * inner) - inner - math.log(2)
    lower, centre, upper = torch.quantile(sample, sample.new_tensor([0.16, 0.5, 0.84]), dim=0)
    low, high = _bounds(support, -math.inf, math.inf)
    if math.isinf(low) and math.isinf(high):
        spread = ((upper - lower) / 2).clamp(min=1e-12)
        return _with_rough(centre + spread * torch.sinh(inner), spread.log() + log_cosh + log_slope)
    if math.isfinite(low) and math.isfinite(high):
        values = ((low + high) / 2 + (high - low) / 2 * torch.tanh(inner)).expand(-1, batch)
        inside = ((values > low) & (values < high)).expand(-1, batch)
        log_weights = (math.log((high - low) / 2) - 2 * log_cosh + log_slope).expand(-1, batch)
        return _with_rough(
            torch.where(inside, values, values.new_tensor((low + high) / 2)),
            torch.where(inside, log_weights, log_weights.new_tensor(-math.inf)),
        )
    end, side = (low, 1) if math.isfinite(low) else (high, -1)
    scale = (centre - end).abs().clamp(min=1e-12)
    return _with_rough(end + side * scale * torch.exp(inner), scale.log() + inner + log_slope)


def _with_rough(values: Tensor, log_weights: Tensor) -> Nodes:
    every_other = (torch.arange(len(values)) % 2 == 0).unsqueeze(-1)
    return Nodes(values, log_weights, torch.where(every_other, log_weights + math.log(2), -math.inf))


def _bounds(support: Constraint, low: float, high: float) -> tuple[float, float]:
    """The least and greatest value of a support, where it has them."""
    below, above = getattr(support, "lower_bound", low), getattr(support, "upper_bound", high)
    return float(torch.as_tensor(below).min()), float(torch.as_tensor(above).max())


def _whitened(sample: Tensor, event: Sequence[int]) -> Nodes:
    """A grid in the principal axes of samples `[S, B, 2]`: correlated densities are met where they lie."""
    tril = torch.linalg.cholesky(torch.stack([torch.cov(rows.T) for rows in sample.unbind(1)]))  # [B, 2, 2]
    line = line_nodes(constraints.real, sample.new_tensor([-1.0, 0.0, 1.0]).unsqueeze(-1), 201)
    first, second = torch.cartesian_prod(torch.arange(201), torch.arange(201)).unbind(-1)
    u = torch.cat([line.values[first], line.values[second]], dim=-1)  # [G, 2]
    values = sample.mean(0) + (tril * u[:, None, None, :]).sum(-1)
    log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_weights, rough = (w[first] + w[second] + log_det for w in (line.log_weights, line.rough))
    return Nodes(values.reshape(*values.shape[:2], *event), log_weights, rough)
