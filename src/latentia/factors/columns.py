"""Columns: the product of a table's columns, each with the likelihood of its kind.

D columns of an event.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._recorded import recorded
from ..codings import ColumnCoding, Kind, checked_columns
from ..factor import Moments
from ..numerics import inverse_softplus, softplus
from ._tabular import (
    Tabular,
    inverse_softplus_of,
    log_beta,
    log_dirichlet,
    log_odds,
    log_probabilities,
    plain,
    pseudo_counts,
    seen_of,
)
from .gaussian import HALF_LOG_TWO_PI
from .normal import LEARNT_RATE
from .normal_estimation import floor_troubles
from .priors import Beta, Dirichlet

SMALLEST_RATE = 1e-6


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

    def log_prob(self, value: Tensor, observed: Tensor | None = None) -> Tensor:
        """The sum over the columns, or over those entries that are observed `[B, D]`."""
        terms = [_log_prob(value[..., j], *part) for j, part in enumerate(self.split())]
        if observed is not None:
            pairs = zip(observed.unbind(-1), terms, strict=True)
            terms = [torch.where(seen, term, torch.zeros_like(term)) for seen, term in pairs]
        return functools.reduce(torch.add, terms)

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
    return softplus(raw) + SMALLEST_RATE


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
class Columns(Tabular):
    """p(x | parents) = prod_d p(x_d | parents), each column by its kind; a value is `[*lead, B, D]`.

    columns   for each column "number": N(mu, sigma_d^2) with a learnt sigma_d; "binary": Bernoulli; "count":
              Poisson; or the number of codes of a category: Categorical
    net       gives one output per column, and one per code of a category (`columns_outputs(columns)`)
    floor     no learnt scale is below it

    Missing entries drop out of the sum. Nets that are given this variable see it through `ColumnCoding`. With
    Constant or a Table given one discrete parent, maximum likelihood is closed-form: means, rates and
    frequencies in each state of the parent, and the scale of a number about the means of all states. Priors
    are a Dirichlet, on each category, and a Beta, on each binary column; both together are a tuple.
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
        return distribution.log_prob(value, observed)

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Weighted sums in each state of the parent, F the net's outputs, N the number columns.

        sum     of x, of x - shift where x is a number, of one-hot codes, `[R, F]`
        square  of (x - shift)^2 of numbers, `[R, N]`
        total   of the weights of observed entries, `[R, D]`
        """
        x = plain(self, value).double()
        seen = torch.ones_like(x[..., :1]) if observed is None else seen_of(observed, x).double()
        shifts, parts, squares = iter(self._shift()), [], []
        for j, kind in enumerate(self.columns):
            column = x[..., j]
            if isinstance(kind, int):
                part = nn.functional.one_hot(column.long(), kind).double()
            else:
                part = (column - next(shifts) if kind == "number" else column).unsqueeze(-1)
            parts.append(part if observed is None else part * seen[..., j : j + 1])
            if kind == "number":
                squares.append(parts[-1].square())
        sums = self.sums(torch.cat([*parts, *squares, seen], -1), parents, weight)
        widths = [columns_outputs(self.columns), len(squares), seen.shape[-1]]
        first, square, total = torch.split(sums, widths, -1)
        return {"sum": first, "square": square, "total": total.repeat(1, x.shape[-1] // seen.shape[-1])}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """Means, log odds, rates and log probabilities of each state, then the scales about the means.

        What no observed entry and no prior speaks of stays. A scale stops a millionth above its floor.
        """
        priors, shift = self._priors(prior), self._shift()
        first, total = statistics["sum"], statistics["total"]
        shifts, rows = iter(shift), []
        pieces = zip(self._split(first), self._split(self.rows.double()), total.unbind(-1), strict=True)
        for kind, (sums, old, n) in zip(self.columns, pieces, strict=True):
            centre = next(shifts) if kind == "number" else None
            new, count = _maximum(kind, sums, n.unsqueeze(-1), centre, *priors)
            rows.append(torch.where(count > 0, new, old))
        self.set_rows(torch.cat(rows, -1))
        if not self.raw_scale.requires_grad:
            return
        numbers = [kind == "number" for kind in self.columns]
        n = total[:, numbers]
        move = self._numbers(self.rows.double()) - shift  # [R, N]
        squares = statistics["square"] - 2 * move * self._numbers(first) + move.square() * n
        sigma = (squares.sum(0) / n.sum(0)).clamp(min=0).sqrt()
        above = (sigma - self.floor).clamp(min=max(1e-6 * self.floor, 1e-12))
        raw = inverse_softplus_of(above) / LEARNT_RATE
        self.raw_scale.copy_(torch.where(n.sum(0) > 0, raw, self.raw_scale.double()))

    @torch.no_grad()
    def troubles(self, name: str) -> list[str]:
        """Whether the scale of a number is at the floor."""
        at_floor = self.scale.double() <= (1 + 2e-6) * self.floor
        return floor_troubles(name, at_floor.any().reshape(1), self.floor)

    def log_prior(self, prior: object) -> Tensor:
        """The log density of a Dirichlet, a Beta or a tuple of both, over the columns that they are on."""
        beta, dirichlet = self._priors(prior)
        log_p = torch.zeros((), dtype=torch.float64, device=self.raw_scale.device)
        for kind, logits in zip(self.columns, self._split(self.rows), strict=True):
            if isinstance(kind, int):
                log_p = log_p + log_dirichlet(dirichlet, logits)
            elif kind == "binary":
                log_p = log_p + log_beta(beta, logits)
        return log_p

    @property
    def free_parameters(self) -> int:
        """The probabilities of a category sum to 1: one number fewer in each state."""
        if not self.has_closed_form:
            return super().free_parameters
        width = sum(kind - 1 if isinstance(kind, int) else 1 for kind in self.columns)
        scales = self.raw_scale.numel() if self.raw_scale.requires_grad else 0
        return scales + (len(self.rows) * width if self.learns_rows else 0)

    def _split(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs `[R, F]` by column, each `[R, 1 or K]`."""
        return torch.split(outputs, [columns_outputs([kind]) for kind in self.columns], -1)

    def _numbers(self, outputs: Tensor) -> Tensor:
        """The outputs `[R, F]` of number columns, `[R, N]`."""
        pieces = zip(self.columns, self._split(outputs), strict=True)
        return torch.cat([outputs[:, :0], *(piece for kind, piece in pieces if kind == "number")], -1)

    @torch.no_grad()
    def _shift(self) -> Tensor:
        """What is taken from numbers before they are squared: the average of the states' means, `[N]`."""
        return self._numbers(self.rows.double()).mean(0)

    def _priors(self, prior: object | None) -> tuple[Beta, Dirichlet]:
        """The prior on binary columns and the one on categories, flat where there is none."""
        beta, dirichlet = Beta(1.0, 1.0), Dirichlet(1.0)
        for part in () if prior is None else prior if isinstance(prior, tuple | list) else (prior,):
            if isinstance(part, Beta) and "binary" in self.columns:
                beta = part
            elif isinstance(part, Dirichlet) and any(isinstance(kind, int) for kind in self.columns):
                dirichlet = part
            else:
                raise TypeError(
                    f"the priors of Columns are a Dirichlet where there are categories and a Beta where "
                    f"there are binary columns; got {part} for columns {self.columns}"
                )
        return beta, dirichlet


def columns_outputs(columns: Sequence[Kind]) -> int:
    """How many outputs a net needs for these columns."""
    return sum(kind if isinstance(kind, int) else 1 for kind in columns)


def _maximum(
    kind: Kind, sums: Tensor, n: Tensor, shift: Tensor | None, beta: Beta, dirichlet: Dirichlet
) -> tuple[Tensor, Tensor]:
    """A column's outputs `[R, 1 or K]` at the maximum, and the counts, with the prior's, behind them."""
    if isinstance(kind, int):
        counts = sums + pseudo_counts(dirichlet, kind, sums)
        return log_probabilities(counts), counts.sum(-1, keepdim=True)
    if kind == "binary":
        total = n + beta.a + beta.b - 2
        return log_odds(sums + beta.a - 1, total), total
    if kind == "count":
        return inverse_softplus_of((sums / n - SMALLEST_RATE).clamp(min=SMALLEST_RATE**2)), n
    return sums / n + (0.0 if shift is None else shift), n
