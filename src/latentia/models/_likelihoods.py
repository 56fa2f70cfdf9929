"""Likelihoods by name: the factor p(x | z) on top of a decoder, and what suits the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..codings import ColumnCoding, Kind, checked_columns
from ..factor import Factor
from ..factors import Bernoulli, Columns, Normal, columns_outputs
from ..joint import MASK

if TYPE_CHECKING:
    from ..data import Data
    from ..data import Table as TableField

Likelihood = str | Sequence[Kind] | Callable[[nn.Module, str], Factor]
Decoder = Callable[[int, tuple[int, ...]], nn.Module]

CHUNK = 10_000  # rows whose means are taken at a time
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


@torch.no_grad()
def start_at_log_odds(factor: Factor, data: Data | None) -> None:
    """Put the last bias of a Bernoulli's network at log(p / (1 - p)), p the share of ones in the training
    rows, each value counted once more; other factors, and without data, stay as they are.
    """
    last = next((m for m in reversed(list(factor.modules())) if isinstance(m, nn.Linear)), None)
    if data is None or not isinstance(factor, Bernoulli) or last is None or last.bias is None:
        return
    entries = math.prod(factor.event)
    if last.out_features != entries:  # a convolutional decoder ends in a bias for each channel
        return
    ones, seen = torch.zeros(entries, dtype=torch.float64), torch.zeros(entries, dtype=torch.float64)
    for start in range(0, len(data.train), CHUNK):
        values = data.train.batch(slice(start, start + CHUNK))
        x = values[data.schema.main].flatten(1).double()
        observed = values.get(data.schema.main + MASK)
        there = torch.ones_like(x) if observed is None else observed.flatten(1).double()
        ones, seen = ones + (x * there).sum(0).cpu(), seen + there.sum(0).cpu()
    last.bias.copy_(torch.log((ones + 1) / (seen - ones + 1)))


def column_kinds(table: TableField) -> tuple[Kind, ...]:
    """The kinds of a table's columns, as `Columns` takes them."""
    return tuple(len(c.levels or ()) if c.kind == "category" else c.kind for c in table.columns)
