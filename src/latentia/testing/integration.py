"""Sums and integrals over small events, to hold a density against.

G nodes, B rows; a node is a whole value `[G, B, *event]`, so that it goes through `log_prob` as a lead dimension.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

STATES = 4096
COUNTS = 64
HALF_WIDTH = 3.5  # of the trapezoidal rule: sinh(pi / 2 sinh 3.5) is about 1e11 standard deviations


class Nodes(NamedTuple):
    """Values `[G, B, *event]` and log weights `[G, B]` with sum_g w_g f(x_g) = the integral, or sum, of f."""

    values: Tensor
    log_weights: Tensor


def support_of(distribution: Distribution | None, sample: Tensor) -> Constraint:
    """The set of values of one entry; where the family does not say, the reals for floating-point samples."""
    try:
        support = None if distribution is None else distribution.support
    except NotImplementedError:
        support = None
    if support is None:
        return constraints.real if sample.is_floating_point() else constraints.nonnegative_integer
    while isinstance(support, type(constraints.independent(constraints.real, 1))):
        support = support.base_constraint
    return constraints.real if support is constraints.real_vector else support


def is_discrete(support: Constraint) -> bool:
    """Whether values can be listed."""
    return bool(support.is_discrete)


def all_nodes(support: Constraint, sample: Tensor, event_dims: int) -> Nodes | str:
    """Nodes over whole events, placed where `sample` `[S, B, *event]` lies; a word where the event is too large."""
    event = sample.shape[sample.ndim - event_dims :]
    entries, batch = math.prod(event), sample.shape[1]
    if is_discrete(support):
        levels = _levels(support, sample)
        if len(levels) ** entries > STATES:
            return f"the event has {len(levels)}^{entries} states, more than {STATES}"
        states = torch.tensor(list(itertools.product(levels, repeat=entries)), dtype=sample.dtype)
        values = states.reshape(-1, 1, *event).expand(-1, batch, *event)
        return Nodes(values, torch.zeros(values.shape[:2], dtype=torch.float64))
    if entries > 2:
        return f"the event has {entries} entries, and quadrature is for 1 or 2"
    count = {0: 1, 1: 601, 2: 141}[entries]
    flat = sample.reshape(*sample.shape[:2], entries)
    axes = [line_nodes(support, flat[..., d], count) for d in range(entries)]
    if entries == 2 and support is constraints.real:
        return _whitened(flat, count, event)
    grid = torch.cartesian_prod(*[torch.arange(count)] * entries).reshape(-1, entries)
    values = torch.stack([axes[d].values[grid[:, d]] for d in range(entries)], dim=-1)
    log_weights = torch.stack([axes[d].log_weights[grid[:, d]] for d in range(entries)]).sum(0)
    return Nodes(values.reshape(*values.shape[:2], *event), log_weights)


def line_nodes(support: Constraint, sample: Tensor, count: int = 601) -> Nodes:
    """Nodes `[G, B]` for one entry with samples `[S, B]`: the listed values, or the double exponential rule.

    x = m + s sinh(pi/2 sinh u) on a line, low + s exp(pi/2 sinh u) on a half-line, and a tanh on an interval.
    Takahasi & Mori (1974), "Double exponential formulas for numerical integration".
    """
    batch = sample.shape[1]
    if is_discrete(support):
        listed = torch.tensor(_levels(support, sample), dtype=sample.dtype).unsqueeze(-1).expand(-1, batch)
        return Nodes(listed, torch.zeros(listed.shape, dtype=torch.float64))
    u = torch.linspace(-HALF_WIDTH, HALF_WIDTH, count, dtype=torch.float64).unsqueeze(-1)
    inner, log_slope = math.pi / 2 * torch.sinh(u), torch.log(math.pi / 2 * torch.cosh(u))
    log_step = math.log(2 * HALF_WIDTH / (count - 1))
    lower, centre, upper = torch.quantile(sample, sample.new_tensor([0.16, 0.5, 0.84]), dim=0)
    spread = ((upper - lower) / 2).clamp(min=1e-12)
    low, high = _bounds(support, -math.inf, math.inf)
    log_cosh = torch.nn.functional.softplus(2 * inner) - inner - math.log(2)
    if math.isinf(low) and math.isinf(high):
        return Nodes(centre + spread * torch.sinh(inner), spread.log() + log_cosh + log_slope + log_step)
    if math.isfinite(low) and math.isfinite(high):
        half = (high - low) / 2
        values = (low + half + half * torch.tanh(inner)).expand(-1, batch)
        log_weights = math.log(half) - 2 * log_cosh + log_slope + log_step
        inside = (values > low) & (values < high)
        return Nodes(
            values.clamp(low + 1e-15 * half, high - 1e-15 * half),
            torch.where(inside, log_weights.expand(-1, batch), torch.full_like(values, -math.inf)),
        )
    scale = (centre - (low if math.isfinite(low) else high)).abs().clamp(min=1e-12)
    reach = scale * torch.exp(inner)
    return Nodes(
        low + reach if math.isfinite(low) else high - reach, scale.log() + inner + log_slope + log_step
    )


def _levels(support: Constraint, sample: Tensor) -> list[float]:
    if support is constraints.boolean:
        return [0, 1]
    low, high = _bounds(support, 0, math.inf)
    top = int(sample.max()) + COUNTS if math.isinf(high) else int(high)
    return list(range(int(low), top + 1))


def _bounds(support: Constraint, low: float, high: float) -> tuple[float, float]:
    """The least and greatest value of a support, where it has them."""
    below, above = getattr(support, "lower_bound", low), getattr(support, "upper_bound", high)
    return float(torch.as_tensor(below).min()), float(torch.as_tensor(above).max())


def _whitened(sample: Tensor, count: int, event: torch.Size) -> Nodes:
    """A grid in the principal axes of samples `[S, B, 2]`, so that correlated densities are met where they lie."""
    centre = sample.mean(0)
    tril = torch.linalg.cholesky(torch.stack([torch.cov(rows.T) for rows in sample.unbind(1)]))  # [B, 2, 2]
    unit = torch.tensor([[-1.0], [1.0]], dtype=torch.float64) / math.sqrt(2)  # mean 0, standard deviation 1
    line = line_nodes(constraints.real, unit - unit.median(), count)
    first, second = torch.cartesian_prod(torch.arange(count), torch.arange(count)).unbind(-1)
    u = torch.cat([line.values[first], line.values[second]], dim=-1)  # [G, 2]
    values = centre + (tril * u[:, None, None, :]).sum(-1)
    log_weights = line.log_weights[first] + line.log_weights[second]
    return Nodes(
        values.reshape(*values.shape[:2], *event), log_weights + tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    )
