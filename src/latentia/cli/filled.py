"""Filled rows as they are written: in the columns of the file that they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from .._holes import Holed
from .._words import counted
from ..data import Table
from ..data.raw import Raw, RawTable
from ..joint import MASK
from .output import Cells, as_array, cell
from .values import columns, model_values


def filled_columns(holed: Holed, filled: Mapping[str, Tensor], raws: Sequence[Raw]) -> dict[str, Cells]:
    """The columns of DATA, every cell that was there as it was written; of draws one set below the other.

    filled: `[N, *event]` by variable, or `[n, N, *event]`, in the data's units. Draws are counted in a first
    column.
    """
    schema = holed.rows.schema
    name = schema.main
    draws = len(filled[name]) if filled[name].ndim > holed.cells[name].ndim else None
    field, tables = schema.fields[name], [raw.values[name] for raw in raws]
    sets: list[dict[str, Cells]] = []
    for values in [filled[name]] if draws is None else filled[name]:
        known = [table for table in tables if isinstance(table, RawTable)]
        if isinstance(field, Table) and len(known) == len(tables):
            sets.append(_in_table(field, known, as_array(values.double())))
        else:
            sets.append(columns(model_values(holed.model), {name: values}))
    whole = {column: np.concatenate([one[column] for one in sets]) for column in sets[0]}
    if draws is None:
        return whole
    count = np.repeat(np.arange(1, draws + 1), len(holed.rows))
    return {"draw" if "draw" not in whole else "number of the draw": count, **whole}


def _in_table(field: Table, tables: Sequence[RawTable], values: Cells) -> dict[str, Cells]:
    """All columns of the tables, those of the field with their holes filled from values `[N, D]`."""
    whole: dict[str, Cells] = {}
    for name in tables[0].columns:
        text = np.concatenate([table.columns[name].text() for table in tables])
        if name in field.names:
            place = field.names.index(name)
            column = replace(field.columns[place], shift=0.0, scale=1.0)
            own = [cell(value) for value in column.decode(values[:, place]).tolist()]
            text = np.where(text == "", np.array(own, dtype=object), text)
        whole[name] = text
    return whole


def account_of(holed: Holed, draws: int | None) -> str:
    """What was done, in words."""
    masks = [holed.rows.tensors[name + MASK] for name in holed.names]
    gone = sum(int((~mask).sum()) for mask in masks)
    if not gone:
        return "nothing is missing, so nothing was changed"
    how = "the mean, or most probable value," if draws is None else counted(draws, "draw")
    return f"{counted(gone, 'missing cell')} filled with {how} given what was observed in the row"
