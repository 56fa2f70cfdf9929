"""Likelihoods by name: the factor p(x | z) on top of a decoder, and what suits the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from ..codings import ColumnCoding, Kind, checked_columns
from ..factor import Factor
from ..factors import Bernoulli, Columns, Normal, columns_outputs

if TYPE_CHECKING:
    from ..data import Data
    from ..data import Table as TableField

Likelihood = str | Sequence[Kind] | Callable[[nn.Module, str], Factor]
Decoder = Callable[[int, tuple[int, ...]], nn.Module]

NAMED: dict[str, tuple[Callable[..., Factor], int]] = {
    "bernoulli": (Bernoulli, 1),
    "normal": (partial(Normal, scale="learnt"), 1),
    "normal_network": (partial(Normal, floor=1e-2), 2),
}


def observed_factor(
    likelihood: Likelihood, decoder: Decoder, latent: int, event: tuple[int, ...], given: str = "z"
) -> Factor:
    """p(x | z) with the net `decoder(latent, outputs)`, which gives what the likelihood needs per entry.

    Raises ValueError for an unknown name, or kinds of columns that are not as many as the event's entries.
    """
    if isinstance(likelihood, str):
        if likelihood not in NAMED:
            known = ", ".join(NAMED)
            raise ValueError(
                f"likelihood {likelihood!r} is unknown: use {known}, the kinds of the columns, or a function "
                f"of (net, given)"
            )
        make, parameters = NAMED[likelihood]
    elif callable(likelihood):
        make, parameters = likelihood, int(getattr(likelihood, "width", 1))
    else:
        columns = checked_columns(likelihood)
        if event != (len(columns),):
            raise ValueError(f"{len(columns)} kinds of columns do not fit an event of shape {event}")
        return Columns(decoder(latent, (columns_outputs(columns),)), given, columns=columns)
    return make(decoder(latent, (parameters * event[0], *event[1:])), given)


def encoder_inputs(likelihood: Likelihood, event: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which an encoder sees x: categories arrive one-hot."""
    if isinstance(likelihood, str) or callable(likelihood):
        return event
    return (ColumnCoding(checked_columns(likelihood)).width,)


def suited(
    event: int | Sequence[int] | None, likelihood: Likelihood | None, missing: bool, data: Data | None
) -> tuple[tuple[int, ...], Likelihood, bool]:
    """Event, likelihood and missing as asked for, the rest as the data want it.

    Without data the likelihood is "normal".
    """
    if data is not None:
        event = data.event_shape if event is None else event
        likelihood = data_likelihood(data) if likelihood is None else likelihood
        missing = missing or any(field.missing for field in data.schema.fields.values())
    if event is None:
        raise ValueError("say the shape of one example with event=, such as event=64, or pass data=")
    shape = (event,) if isinstance(event, int) else tuple(event)
    if not shape and data is not None:
        raise ValueError(f"{data.schema.main!r} holds codes, and this model needs numbers or a table")
    if not shape or any(side < 1 for side in shape):
        raise ValueError(f"event sizes must be at least 1, got {event}")
    return shape, "normal" if likelihood is None else likelihood, missing


def data_likelihood(data: Data) -> Likelihood:
    """The likelihood that suits the data.

    "bernoulli" for binary data, "normal" for grey pixels and numbers, the kinds of the columns for a mixed
    table.
    """
    from ..data import Table

    field = data.schema.fields[data.schema.main]
    if data.schema.likelihood == "columns" and isinstance(field, Table):
        return column_kinds(field)
    return data.schema.likelihood


def column_kinds(table: TableField) -> tuple[Kind, ...]:
    """The kinds of a table's columns, as `Columns` takes them."""
    return tuple(len(c.levels or ()) if c.kind == "category" else c.kind for c in table.columns)
