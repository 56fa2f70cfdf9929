"""How far reconstructions are from the data, in the data's own units.

B rows of a batch, N of all; D entries of a variable's event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..factor import Factor
from ..factors import Bernoulli, Columns
from ..joint import MASK
from ._measured import Measured
from ._posteriors import entry_log_probs
from ._rows import CHUNK, batches

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model


@dataclass(frozen=True)
class Reconstruction:
    """How far a variable's reconstructions are from its values, for each row and on average.

    squared        the mean over a row's observed numbers of (x - x_hat)^2, in the data's units squared
    cross_entropy  -log p(x | z(x)) summed over a row's observed binary values and codes, in nats
    columns        of a table, each column's mean over rows: squared error, or cross-entropy
    units          the data's units

    Either is None where no entry is of its kind.
    """

    squared: Measured | None
    cross_entropy: Measured | None
    columns: Mapping[str, float] = field(default_factory=dict)
    units: str = "the array's own units"

    def __repr__(self) -> str:
        lines = []
        if self.squared is not None:
            lines.append(f"mean squared error  {self.squared}, of {self.units}")
        if self.cross_entropy is not None:
            lines.append(f"cross-entropy       {self.cross_entropy}, nats per example")
        return "\n".join([*lines, *(f"  {name}  {value:.4g}" for name, value in self.columns.items())])


@torch.no_grad()
def reconstruction_error(model: Model, x: Any) -> Reconstruction | dict[str, Reconstruction]:
    """The error of x_hat = E[x | z(x)], z(x) the mean of q(z | x), for each row and on average.

        numbers and counts  (1/D) sum_d (x_d - x_hat_d)^2, in the data's units squared
        binary and codes    -sum_d log p(x_d | z(x)), the cross-entropy, in nats

    Entries that were not observed are left out. Grey values under a Bernoulli likelihood are numbers. In a
    table the mean runs over columns of different units: `columns` has each by itself. A dict for several
    observed variables.

    Raises ValueError for a model without an inference model, no rows, and whatever the schema raises for data
    that do not fit it.
    """
    rows = model.rows(x)
    if len(rows) == 0:
        raise ValueError("there are no rows to reconstruct")
    coded = _coded(model, rows)
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        for name, errors in _errors(model, some, coded):
            found.setdefault(name, []).append(errors)
    parts = {name: _summary(model, name, torch.cat(part), coded[name]) for name, part in found.items()}
    return next(iter(parts.values())) if len(parts) == 1 else parts


def _coded(model: Model, rows: Rows) -> dict[str, Tensor]:
    """Which entries of each observed variable are scored by their log probability, `[D]`; not numbers."""
    found = {}
    for name in model.observed:
        factor = model.p[name]
        if isinstance(factor, Columns):
            found[name] = torch.tensor([kind not in ("number", "count") for kind in factor.columns])
            continue
        whole = factor.coding is not None
        if isinstance(factor, Bernoulli):
            whole = all(factor.measures(batch[name]) for batch in batches(model, rows) if name in batch)
        found[name] = torch.full((max(1, torch.Size(factor.event).numel()),), whole)
    return found


def _errors(model: Model, rows: Rows, coded: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The error of each entry of the observed variables, `[B, D]` float64; NaN where it was not observed."""
    values, p = model.batch(rows, slice(None)), model.p
    filled = {n: v for n, v in values.items() if n.removesuffix(MASK) not in model.observed}
    means = model.encode(rows)
    if not isinstance(means, Mapping):
        inferred = () if model.q is None else model.q.variables
        known = {*p.variables, *p.inputs} - {*values}
        means = {next(name for name in inferred if name in known): means}
    filled |= means
    for name in p.variables:
        if name in filled:
            continue
        factor, parents = p[name], p.parents(name, filled)
        if not factor.has_density:
            filled[name] = factor.value(*parents)  # type: ignore[operator]
            continue
        distribution = factor.distribution(*parents)
        filled[name] = factor.mean(distribution).expand(len(rows), *factor.event)
        if name not in values:
            continue
        errors = _entry_errors(model, name, distribution, values[name], filled[name], coded[name])
        seen = values.get(name + MASK)
        if seen is not None:
            flat = seen.reshape(len(rows), -1).expand(errors.shape)
            errors = torch.where(flat, errors, torch.nan)
        yield name, errors.cpu()


def _entry_errors(
    model: Model, name: str, distribution: Distribution, value: Tensor, mean: Tensor, coded: Tensor
) -> Tensor:
    """`[B, D]`: -log p of coded entries, the squared difference of the others."""
    factor, parts = model.p[name], []
    if bool(coded.any()):
        parts.append(-_log_probs(factor, distribution, value, coded).double())
    if not bool(coded.all()):
        x, x_hat = value.double(), mean.double()
        if model.schema is not None and name in model.schema.fields:
            x, x_hat = model.schema.decode(name, x), model.schema.decode(name, x_hat)
        parts.append((x - x_hat).square().reshape(len(value), -1))
    return parts[0] if len(parts) == 1 else torch.where(coded.to(value.device), parts[0], parts[1])


def _log_probs(factor: Factor, distribution: Distribution, value: Tensor, coded: Tensor) -> Tensor:
    """log p of each entry, `[B, D]`."""
    entries = entry_log_probs(distribution, value, len(factor.event))
    if entries is not None:
        return entries
    if len(coded) == 1:
        return distribution.log_prob(value).unsqueeze(-1)
    each = torch.eye(len(coded), dtype=torch.bool, device=value.device)
    columns = [
        factor.marginal_log_prob(distribution, value, one.expand(value.shape))
        if coded[j]
        else torch.zeros(len(value), device=value.device, dtype=value.dtype)
        for j, one in enumerate(each)
    ]
    return torch.stack(columns, -1)


def _summary(model: Model, name: str, errors: Tensor, coded: Tensor) -> Reconstruction:
    """Rows' and columns' errors from those of the entries `[N, D]`."""
    schema = model.schema
    shown = None if schema is None else schema.fields.get(name)
    columns = getattr(shown, "columns", ())
    by_column = errors.nanmean(0).tolist()
    nats, numbers = errors[:, coded], errors[:, ~coded]
    blank = nats.isnan().all(1)
    return Reconstruction(
        squared=_measured(numbers.nanmean(1)) if numbers.shape[1] else None,
        cross_entropy=_measured(torch.where(blank, torch.nan, nats.nansum(1))) if nats.shape[1] else None,
        columns={c.name: error for c, error in zip(columns, by_column, strict=True)} if columns else {},
        **({} if shown is None else {"units": shown.units}),
    )


def _measured(values: Tensor) -> Measured:
    return Measured(values, torch.zeros_like(values))
