"""Estimation on part of the columns: p(x_missing | x_observed) and p(x_A), in closed form.

N rows, D entries of an event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ._conditionals import Known, Listed, conditional, draw_of, drawn_latents, known_of, mean_of, of_entries
from ._entries import Units
from ._holes import Holed, float64_copy, read_with_holes
from ._words import did_you_mean, shortened
from .exact import Exact, NotExactError
from .factor import Factor
from .factors import Bernoulli, Columns
from .factors.gaussian import FullNormal, LowRankNormal
from .joint import MASK
from .model import Model
from .noise import Noise

LIVE = 2**22  # numbers that are held at a time
MOST_ROWS = 1024


def impute(
    model: Model,
    x: Any,
    *,
    draws: int | None = None,
    seed: int = 0,
    rounded: bool = True,
) -> Tensor | dict[str, Tensor]:
    """The rows with their holes filled, `[N, *event]` in the data's units, as `Model.reconstruct` gives them.

    Cells that were observed come back exactly as they were given. A missing number becomes
    E[x_missing | x_observed] under the model, a missing code the most probable one. A table's categories are
    codes here; `latentia impute` writes them as text.

    x         data with holes (NaN, empty cells); those that the model was fitted to need not have had any
    draws     n: exact draws of the missing cells in the place of their means, `[n, N, *event]` (multiple
              imputation)
    seed      of the draws
    rounded   a missing binary cell is 1 where that is the more probable, a missing count is its mean rounded,
              and of LogLinear's values the most probable is taken: what the data could hold. False gives the
              probability of a 1, and means

    A dict for several variables. Raises NotExactError for a model whose posterior is not exact, or a family
    with no known conditional distribution; ValueError for a row whose observed part is impossible, and
    whatever the schema raises for data that do not fit it.

    Rubin (1987), "Multiple imputation for nonresponse in surveys".
    """
    require_exact(model, "impute")
    filled = fill_holes(read_with_holes(model, x), draws, seed, rounded)
    return next(iter(filled.values())) if len(filled) == 1 else filled


@torch.no_grad()
def fill_holes(
    holed: Holed, draws: int | None = None, seed: int = 0, rounded: bool = True
) -> dict[str, Tensor]:
    """What `impute` does, for rows that were read before; by variable."""
    if draws is not None and draws < 1:
        raise ValueError(f"the number of draws must be at least 1, got {draws}")
    lead = () if draws is None else (draws,)
    filled = {name: cells.expand(*lead, *cells.shape).clone() for name, cells in holed.cells.items()}
    for rows, values in _missing(holed, draws, seed, rounded):
        for name, value in values.items():
            observed = holed.rows.tensors[name + MASK][rows].cpu()
            kept = filled[name].index_select(len(lead), rows)
            filled[name].index_copy_(len(lead), rows, torch.where(observed, kept, value.to(kept)))
    return filled


@torch.no_grad()
def condition(model: Model, x: Any) -> Distribution:
    """p(x_missing | x_observed) as a distribution over the missing entries, in their order, batch `[N]`.

    Its event is flat, in float64 and in the data's units (number columns unscaled; binary entries are 0 and
    1, categories codes). Of a Gaussian mixture, PPCA or factor analysis, and mixtures of these, it is a
    mixture of Gaussians; of a mixture of independent entries a mixture of independent entries; of LogLinear a
    list of values with their probabilities. Without discrete latents it is no mixture but its one component.

    All rows must have the same holes, in one variable. Raises ValueError where they do not or nothing is
    missing, and what `impute` raises. Bishop (2006), eqs. 2.81-2.82.
    """
    require_exact(model, "condition")
    holed = read_with_holes(model, x)
    if not holed.names:
        raise ValueError("nothing is missing in these rows: mark what is to be inferred as NaN")
    if len(holed.names) > 1:
        raise ValueError(f"condition takes holes in one variable, and {', '.join(holed.names)} have some")
    (name,) = holed.names
    observed = holed.rows.tensors[name + MASK].reshape(len(holed.rows), -1)
    other = (observed != observed[0]).any(1)
    if bool(other.any()):
        raise ValueError(
            f"condition takes rows with the same holes, and row {int(other.nonzero()[0])} has others than "
            f"row 0: pass them separately, or use impute"
        )
    places = (~observed[0]).nonzero().flatten().to(holed.model.device)
    return _of_entries(holed.model, _known(holed, slice(None)), name, places)


@torch.no_grad()
def marginal(model: Model, columns: str | int | Sequence[str | int]) -> Distribution:
    """p(x_A), every other entry integrated out: a distribution without batch dimensions.

    columns: names of a table's columns, numbers of entries of the flattened event counted from 0, or the name
    of a whole variable where several are observed.

    Its units and kinds are those of `condition`. Raises ValueError for columns that there are not, and what
    `condition` raises.
    """
    require_exact(model, "marginal")
    if model.p.inputs:
        raise ValueError(
            f"{model.p.equation()} has no marginal without {', '.join(map(repr, model.p.inputs))}"
        )
    source = float64_copy(model)
    name, places = _places(source, columns)
    values: dict[str, Tensor] = {}
    for other in source.observed:
        factor = source.p[other]
        blank = torch.zeros(1, *factor.event, dtype=torch.float64, device=source.device)
        codes = factor.coding is not None and not factor.event
        values |= {other: blank.long() if codes else blank, other + MASK: torch.zeros_like(blank).bool()}
    return _of_entries(source, known_of(source, values), name, places, row=0)


def require_exact(model: Model, what: str) -> None:
    """Raise NotExactError, naming what was asked for, where q only approximates the posterior."""
    if model.q is not None and not isinstance(model.q, Exact):
        raise NotExactError(
            f"{what} needs the posterior in closed form, and {model.q.equation('q')} of this model is an "
            f"approximation: use a model whose q is Exact, such as a mixture, PPCA or factor analysis"
        )


def _known(holed: Holed, index: Tensor | slice) -> Known:
    """What is known of some rows. Raises ValueError for one that is impossible under the model."""
    known = known_of(holed.model, holed.model.batch(holed.rows, index))
    bad = ~known.posterior.log_evidence.isfinite().cpu()
    if bool(bad.any()):
        row = int(holed.rows.rows[index][bad][0])
        raise ValueError(
            f"row {row}: what was observed has probability 0 under the model, so nothing follows for what is "
            f"missing"
        )
    return known


def _missing(
    holed: Holed, draws: int | None, seed: int, rounded: bool
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Rows with holes, some at a time, and their variables without, `[draws?, n, *event]` in data units."""
    model, names = holed.model, holed.names
    if not names:
        return
    masks = [holed.rows.tensors[name + MASK].reshape(len(holed.rows), -1) for name in names]
    incomplete = (~torch.cat(masks, 1)).any(1).nonzero().flatten()
    noise = Noise(seed, model.device, torch.float64)
    whole = [name for name in names if rounded and _is_whole(holed, name)]
    for rows in torch.split(incomplete, _rows_together(holed, incomplete[:1], draws or 1)):
        known, lead = _known(holed, rows), [len(rows)]
        if draws is not None:
            known, lead = drawn_latents(model, known, draws, noise), [draws, len(rows)]
        values = {}
        for name in names:
            factor, found = model.p[name], conditional(model, known, name)
            if draws is None:
                value = mean_of(factor, found, known, rounded)
                value = _rounded(factor, value) if name in whole else value
            else:
                value = draw_of(found, math.prod(lead), noise)
            if not bool(value.isfinite().all()):
                raise ValueError(f"what is missing of {name!r} has no finite mean under the model")
            values[name] = _in_data_units(model, name, value.reshape(*lead, *factor.event)).cpu()
        yield rows.cpu(), values


def _rows_together(holed: Holed, first: Tensor, draws: int) -> int:
    """How many rows are worked on at a time, from what one takes."""
    known, numbers = _known(holed, first), 1
    for name in holed.names:
        found, entries = conditional(holed.model, known, name), math.prod(holed.model.p[name].event)
        if isinstance(found, Listed):
            entries = len(found.values)
        elif isinstance(found, FullNormal):
            entries = entries**2
        elif isinstance(found, LowRankNormal):
            entries *= found.factor.shape[-1]
        numbers = max(numbers, entries)
    return max(1, min(MOST_ROWS, LIVE // (numbers * max(draws, math.prod(known.lead)))))


def _is_whole(holed: Holed, name: str) -> bool:
    """Whether some of a variable's entries are counts or binary; grey values of a Bernoulli are not."""
    factor = holed.model.p[name]
    return isinstance(factor, Columns) or (
        isinstance(factor, Bernoulli) and factor.measures(holed.model.batch(holed.rows, slice(None))[name])
    )


def _rounded(factor: Factor, mean: Tensor) -> Tensor:
    """Binary entries and counts rounded."""
    if not isinstance(factor, Columns):
        return mean.round()
    whole = torch.tensor([kind in ("binary", "count") for kind in factor.columns], device=mean.device)
    return torch.where(whole, mean.round(), mean)


def _in_data_units(model: Model, name: str, value: Tensor) -> Tensor:
    return value if model.schema is None else model.schema.decode(name, value)


def _of_entries(
    model: Model, known: Known, name: str, places: Tensor, row: int | None = None
) -> Distribution:
    """p(x_places | x_observed) in the data's units."""
    field = None if model.schema is None else model.schema.fields.get(name)
    units = Units.of(field, math.prod(model.p[name].event))
    return of_entries(conditional(model, known, name), known, places, units, row)


def _places(model: Model, columns: str | int | Sequence[str | int]) -> tuple[str, Tensor]:
    """The variable that columns belong to, and their places in it. Raises ValueError for others."""
    known: dict[str | int, list[tuple[str, int]]] = {}
    for name in model.observed:
        entries = [(name, place) for place in range(math.prod(model.p[name].event))]
        field = None if model.schema is None else model.schema.fields.get(name)
        named = zip(getattr(field, "columns", ()), entries, strict=False)
        known |= {name: entries} | {column.name: [entry] for column, entry in named}
        if len(model.observed) == 1:
            known |= {place: [entry] for place, entry in enumerate(entries)}
    asked = [columns] if isinstance(columns, str | int) else list(columns)
    for column in asked:
        if column not in known:
            names = [name for name in known if isinstance(name, str)]
            hint = did_you_mean(str(column), names) or f"; there are {shortened(names)}"
            numbers = len(known) - len(names)
            also = f", and entries 0 to {numbers - 1}" if numbers else ""
            raise ValueError(f"there is no column {column!r}{hint}{also}")
    found = [entry for column in asked for entry in known[column]]
    if len({name for name, _ in found}) != 1 or len({*found}) < len(found):
        raise ValueError(f"marginal takes different columns of one variable, got {asked}")
    places = torch.tensor([place for _, place in found], device=model.device)
    return found[0][0], places
