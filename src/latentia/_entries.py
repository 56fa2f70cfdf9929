"""Distributions of some entries of an event, in the data's units, and mixtures of them.

B rows, K states of the discrete latents together, D entries of an event, X values of a list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, Independent, MixtureSameFamily
from torch.distributions import Normal as TorchNormal

from .data import Image, Table
from .data.schema import Field
from .exact import NotExactError
from .factors.bernoulli import LogitBernoulli
from .factors.columns import ColumnsDistribution
from .factors.gaussian import DiagonalNormal, FullNormal, LowRankNormal
from .factors.log_linear import Enumerated
from .factors.lookup import Lookup
from .linear_gaussian import joined, lower_root

Average = Callable[[Tensor, int], Tensor]  # over states, of a tensor with so many event dimensions


class Units(NamedTuple):
    """Entries in the data's units are scale * (those of the model) + shift, each `[D]`."""

    shift: Tensor
    scale: Tensor

    @staticmethod
    def of(field: Field | None, entries: int) -> Units:
        """The units of a variable's field; binary entries, counts and codes are as they are."""
        shift, scale = torch.zeros(entries, dtype=torch.float64), torch.ones(entries, dtype=torch.float64)
        if isinstance(field, Table):
            shift = torch.tensor([column.shift for column in field.columns], dtype=torch.float64)
            scale = torch.tensor([column.scale for column in field.columns], dtype=torch.float64)
        elif isinstance(field, Image) and not field.binary:
            scale = scale * field.levels
        return Units(shift, scale)

    def at(self, places: Tensor) -> Units:
        """Those of some entries."""
        return Units(self.shift.to(places.device)[places], self.scale.to(places.device)[places])


class Mixture(MixtureSameFamily):
    """A mixture whose mean is the most probable code where an entry holds codes."""

    @property
    def mean(self) -> Tensor:
        weights = self.mixture_distribution.probs  # [*, K]

        def average(tensor: Tensor, dims: int) -> Tensor:
            return (weights.reshape(*weights.shape, *(1,) * dims) * tensor).sum(-1 - dims)

        components = self.component_distribution
        return expected(components, components.mean, average)


def mixture(log_weights: Tensor | None, components: Distribution) -> Distribution:
    """sum_k w_k components_k over the last batch dimension; the components themselves without weights."""
    if log_weights is None:
        return components
    if isinstance(components, TorchCategorical):
        log_p = log_weights.unsqueeze(-1) + components.logits
        return TorchCategorical(logits=torch.logsumexp(log_p, -2), validate_args=False)
    weights = TorchCategorical(logits=log_weights, validate_args=False)
    return Mixture(weights, components, validate_args=False)


def expected(distribution: Distribution, means: Tensor, average: Average) -> Tensor:
    """The average of the states' means; of codes the one that is most probable over all states."""
    if isinstance(distribution, TorchCategorical):
        return average(distribution.probs, 1).argmax(-1)
    mean = average(means, len(distribution.event_shape))
    if isinstance(distribution, ColumnsDistribution):
        for j, (kind, piece, _) in enumerate(distribution.split()):
            if isinstance(kind, int):
                mean[..., j] = average(piece.softmax(-1), 1).argmax(-1).to(mean)
    return mean


def entries_of(
    distribution: Distribution, places: Tensor, units: Units, arranged: Callable[[Tensor, int], Tensor]
) -> Distribution:
    """The marginal distribution of the entries at `places` of the flattened event, in the data's units.

    units     of those entries
    arranged  puts the batch dimensions of a parameter, which has so many of its own, as they are wanted

    Raises NotExactError for a family of which no marginal is known.
    """
    shift, scale = units
    if isinstance(distribution, FullNormal | LowRankNormal):
        if isinstance(distribution, LowRankNormal):
            noise = torch.diag_embed(distribution.scale[..., places])
            rows = joined(distribution.factor[..., places, :], noise, -1, core=2)
        else:
            rows = distribution.scale_tril[..., places, :]
        tril = lower_root(rows) * scale.unsqueeze(-1)
        return FullNormal(arranged(distribution.loc[..., places] * scale + shift, 1), arranged(tril, 2))
    if isinstance(distribution, ColumnsDistribution):
        return _columns(distribution, places.tolist(), units, arranged)
    if isinstance(distribution, TorchCategorical):
        return TorchCategorical(logits=arranged(distribution.logits, 1), validate_args=False)
    base = distribution.base_dist if isinstance(distribution, Independent) else None
    dims = len(distribution.event_shape)

    def chosen(parameter: Tensor) -> Tensor:
        return (parameter.flatten(-dims) if dims else parameter.unsqueeze(-1))[..., places]

    one: Distribution
    if isinstance(base, TorchNormal):
        loc, deviation = chosen(base.loc) * scale + shift, chosen(base.scale) * scale
        one = DiagonalNormal(arranged(loc, 1), arranged(deviation, 1))
    elif isinstance(base, TorchBernoulli):
        one = LogitBernoulli(arranged(chosen(base.logits), 1))
    else:
        family = type(distribution if base is None else base).__name__
        raise NotExactError(f"the distribution of some entries of a {family} is not known in closed form")
    return Independent(one, 1, validate_args=False)


def listed(values: Tensor, probabilities: Tensor, places: Tensor, row: int | None = None) -> Enumerated:
    """Values `[X, *event]` with probabilities `[B, X]` as a distribution of the entries at `places`.

    Values that agree there are one, and their probabilities are summed. Batch `[B]`, or of one row.
    """
    event: tuple[int, ...] = ()
    if values.ndim > 1:
        values, which = torch.unique(values.flatten(1)[:, places], dim=0, return_inverse=True)
        summed = probabilities.new_zeros(len(probabilities), len(values))
        probabilities, event = summed.index_add_(1, which, probabilities), (len(places),)
    rows = torch.arange(len(probabilities), device=probabilities.device)
    lookup = Lookup(values.reshape(len(values), -1))
    return Enumerated(probabilities.log().mT, rows if row is None else rows[row], lookup, event)


def _columns(
    distribution: ColumnsDistribution,
    places: list[int],
    units: Units,
    arranged: Callable[[Tensor, int], Tensor],
) -> ColumnsDistribution:
    parts = distribution.split()
    pieces, scales, kinds = [], [], []
    for place, shift, scale in zip(places, *units, strict=True):
        kind, piece, deviation = parts[place]
        pieces.append(piece * scale + shift if deviation is not None else piece)
        if deviation is not None:
            scales.append(deviation * scale)
        kinds.append(kind)
    own = torch.stack(scales) if scales else distribution.scale[:0]
    return ColumnsDistribution(arranged(torch.cat(pieces, -1), 1), own, tuple(kinds))
