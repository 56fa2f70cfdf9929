"""Columns: the product of a table's columns, each with the likelihood of its kind.

D columns of an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._recorded import recorded
from ..codings import ColumnCoding, Kind, checked_columns
from ..factor import Factor
from ..numerics import inverse_softplus, softplus
from .gaussian import HALF_LOG_TWO_PI
from .normal import LEARNT_RATE


class ColumnsDistribution(Distribution):
    """Independent columns given the parameters; a value is `[..., D]`, codes and counts as floats."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, parameters: Tensor, scale: Tensor, columns: tuple[Kind, ...]) -> None:
        self.parameters, self.scale, self.columns = parameters, scale, columns
        super().__init__(parameters.shape[:-1], torch.Size([len(columns)]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ColumnsDistribution:
        parameters = self.parameters.expand(*batch_shape, self.parameters.shape[-1])
        return ColumnsDistribution(parameters, self.scale, self.columns)

    def split(self) -> list[tuple[Kind, Tensor, Tensor | None]]:
        """For each column its kind, its parameters `[..., 1 or K]`, and a number's scale."""
        widths = [kind if isinstance(kind, int) else 1 for kind in self.columns]
        scales = iter(self.scale)
        pieces = torch.split(self.parameters, widths, dim=-1)
        kinds = zip(self.columns, pieces, strict=True)
        return [(kind, piece, next(scales) if kind == "number" else None) for kind, piece in kinds]

    def entries(self, value: Tensor) -> Tensor:
        """log p of each column, `[..., D]`."""
        terms = [_log_prob(value[..., j], *part) for j, part in enumerate(self.split())]
        return torch.stack(torch.broadcast_tensors(*terms), dim=-1)  # type: ignore[no-untyped-call]

    def log_prob(self, value: Tensor) -> Tensor:
        return self.entries(value).sum(-1)

    @property
    def mean(self) -> Tensor:
        """Means; of a category the most probable code."""
        return torch.stack([_mean(kind, piece) for kind, piece, _ in self.split()], dim=-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        return torch.stack([_draw(kind, piece, scale, shape) for kind, piece, scale in self.split()], dim=-1)


def _log_prob(x: Tensor, kind: Kind, piece: Tensor, scale: Tensor | None) -> Tensor:
    if isinstance(kind, int):
        log_p = torch.log_softmax(piece, -1)
        shape = torch.broadcast_shapes(x.shape, log_p.shape[:-1])  # type: ignore[no-untyped-call]
        codes = x.long().expand(shape).unsqueeze(-1)
        return log_p.expand(*codes.shape[:-1], kind).gather(-1, codes).squeeze(-1)
    raw = piece.squeeze(-1)
    if kind == "binary":
        return x * raw - softplus(raw)
    if kind == "count":
        rate = _rate(raw)
        return x * rate.log() - rate - torch.lgamma(x + 1)
    if scale is None:
        raise TypeError("a number column has a scale")
    return -0.5 * ((x - raw) / scale).square() - scale.log() - HALF_LOG_TWO_PI


def _rate(raw: Tensor) -> Tensor:
    return softplus(raw) + 1e-6


def _mean(kind: Kind, piece: Tensor) -> Tensor:
    if isinstance(kind, int):
        return piece.argmax(-1).to(piece.dtype)
    raw = piece.squeeze(-1)
    return torch.sigmoid(raw) if kind == "binary" else _rate(raw) if kind == "count" else raw


def _draw(kind: Kind, piece: Tensor, scale: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if isinstance(kind, int):
        category = torch.distributions.Categorical(logits=piece, validate_args=False)
        lead = torch.Size(shape[: len(shape) - piece.ndim + 1])
        codes: Tensor = category.sample(lead)  # type: ignore[no-untyped-call]
        return codes.to(piece.dtype)
    mean = _mean(kind, piece).expand(shape)
    if kind == "binary":
        return (torch.rand_like(mean) < mean).to(mean.dtype)
    if kind == "count":
        return torch.poisson(mean)
    return mean + torch.randn_like(mean) * (1.0 if scale is None else scale)


@recorded
class Columns(Factor):
    """p(x | parents) = prod_d p(x_d | parents), each column by its kind; a value is `[*lead, B, D]`.

    columns   for each column "number": N(mu, sigma_d^2) with a learnt sigma_d; "binary": Bernoulli; "count":
              Poisson; or the number of codes of a category: Categorical
    net       gives one output per column, and one per code of a category (`columns_outputs(columns)`)
    floor     no learnt scale is below it

    Missing entries drop out of the sum. Nets that are given this variable see it through `ColumnCoding`.
    """

    def __init__(
        self,
        net: nn.Module,
        given: str | Sequence[str] = (),
        *,
        columns: Sequence[Kind],
        floor: float = 1e-3,
    ) -> None:
        self_columns = checked_columns(columns)
        super().__init__(net, given, event=len(self_columns))
        self.columns, self.floor = self_columns, floor
        self.coding = ColumnCoding(self_columns)
        start = inverse_softplus(1.0 - floor) / LEARNT_RATE
        self.raw_scale = nn.Parameter(torch.full((self_columns.count("number"),), start))

    @property
    def scale(self) -> Tensor:
        """The learnt standard deviation of each number column."""
        return softplus(LEARNT_RATE * self.raw_scale) + self.floor

    def distribution(self, *parents: Tensor) -> ColumnsDistribution:
        parameters, needed = self.output(*parents), columns_outputs(self.columns)
        if parameters.shape[-1] != needed:
            raise ValueError(f"Columns needs {needed} outputs from its net, got {parameters.shape[-1]}")
        return ColumnsDistribution(parameters, self.scale, self.columns)

    def marginal_log_prob(self, distribution: Distribution, value: Tensor, observed: Tensor) -> Tensor:
        """The sum over the observed columns."""
        if not isinstance(distribution, ColumnsDistribution):
            raise TypeError(f"not a distribution of columns: {distribution}")
        entries = distribution.entries(value)
        return torch.where(observed, entries, torch.zeros_like(entries)).sum(-1)


def columns_outputs(columns: Sequence[Kind]) -> int:
    """How many outputs a net needs for these columns."""
    return sum(kind if isinstance(kind, int) else 1 for kind in columns)
