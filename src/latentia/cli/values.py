"""Values of the observed variables on their way out: as pictures, arrays or rows of a table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..data import Rows, Table
from ..errors import UsageError
from ..model import Model
from .output import Cells, as_array, csv_text, npz_bytes, picture, write


def model_values(model: Model) -> Model:
    """The same pair without its schema: its values are in model units, from which a table's levels can be
    written as text.
    """
    return Model(model.p, model.q)


def deliver(
    out: Path | None,
    kind: str,
    model: Model,
    values: Mapping[str, Any],
    rows: Rows | None = None,
    beside: int = 16,
) -> None:
    """Write values, in model units, by the ending of the file's name; None is CSV on stdout.

    values   {what they are: a tensor, or a dict by variable}; CSV holds the last of them
    rows     where they come from: their row numbers and labels are written too
    beside   how many pictures of one set stand side by side in a line, above those of the next
    """
    named = {what: _by_variable(model, value) for what, value in values.items()}
    if kind == ".png":
        write(out or Path(), _picture(model, named, beside))
    elif kind == ".npz":
        arrays = {
            _key(what, name, named): as_array(_decoded(model, name, value))
            for what, parts in named.items()
            for name, value in parts.items()
        }
        write(out or Path(), npz_bytes({**beside_rows(rows), **arrays}))
    else:
        last = list(named.values())[-1]
        text = csv_text({**beside_rows(rows), **columns(model, last)})
        if out is None:
            sys.stdout.write(text)
        else:
            write(out, text.encode())


def columns(model: Model, values: Mapping[str, Tensor]) -> dict[str, Cells]:
    """Model values as the data's own columns, in order, in their units, categories as their levels."""
    if model.schema is not None:
        return model.schema.table(values)
    found: dict[str, Cells] = {}
    for name, value in values.items():
        flat = as_array(value.flatten(1) if value.ndim > 1 else value[:, None])
        found |= {f"{name}{j}": flat[:, j] for j in range(flat.shape[1])}
    return found


def beside_rows(rows: Rows | None) -> dict[str, Cells]:
    """The rows' numbers in their source, counted from 0, and their labels."""
    if rows is None:
        return {}
    found: dict[str, Cells] = {"row": as_array(rows.rows)}
    label = rows.schema.label
    if rows.labels is not None and label is not None:
        codes = as_array(rows.labels)
        levels = None if label.levels is None else np.array([*label.levels, ""])  # code -1 is a missing label
        found["label"] = codes if levels is None else levels[codes]
    return found


def _by_variable(model: Model, value: Any) -> dict[str, Tensor]:
    return dict(value) if isinstance(value, Mapping) else {model.observed[0]: value}


def _decoded(model: Model, name: str, value: Tensor) -> Tensor:
    schema = model.schema
    return value if schema is None or name not in schema.fields else schema.decode(name, value)


def _key(what: str, name: str, named: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The name of an array: the variable where there is one kind of values, the kind where there is one
    variable.
    """
    if len(named) == 1:
        return name
    return what if len(named[what]) == 1 else f"{name}_{what}"


def _picture(model: Model, named: Mapping[str, Mapping[str, Tensor]], beside: int) -> bytes:
    """All sets of pictures in one grid: a line of the first set, that of the second below it, and so on."""
    name = model.observed[0]
    field = None if model.schema is None else model.schema.fields.get(name)
    if isinstance(field, Table):
        raise UsageError("these rows are a table, not pictures: write .csv or .npz")
    sets = [as_array(_decoded(model, name, parts[name])) for parts in named.values()]
    if len(sets) == 1:
        return picture(sets[0], field)
    across = min(beside, len(sets[0]))
    blank = np.zeros((-len(sets[0]) % across, *sets[0].shape[1:]), sets[0].dtype)
    whole = [np.concatenate([one, blank]) for one in sets]
    lines = [one[start : start + across] for start in range(0, len(whole[0]), across) for one in whole]
    return picture(np.concatenate(lines), field, across)
