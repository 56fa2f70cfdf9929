"""Rows with holes as a model takes them: a schema in which every cell may be missing, and cells as given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .data import Array, Image, Rows, Schema, Table
from .data.fields import arranged
from .data.raw import Cells, RawTable
from .data.readers import array_of, read_for
from .data.schema import Field
from .factors import Categorical
from .joint import MASK, RESERVED
from .model import Model


class Holed(NamedTuple):
    """Rows that may have holes.

    model   the model in float64, with a schema in which the data may be missing
    rows    the rows by that schema, with a mask for every variable that may have holes
    cells   those variables as they were given, `[N, *event]`, in the data's units
    """

    model: Model
    rows: Rows
    cells: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        """The variables that have holes."""
        masks = {name: self.rows.tensors.get(name + MASK) for name in self.cells}
        return [name for name, mask in masks.items() if mask is not None and not bool(mask.all())]


def float64_copy(model: Model) -> Model:
    """The same model, computing in float64."""
    return copy.deepcopy(model).double()


def read_with_holes(model: Model, x: Any, key: str | None = None) -> Holed:
    """The user's data, in the data's units, with holes allowed even where the fitted data had none.

    Holes are allowed in the observed variables that no other depends on, and in those that q infers; in the
    rest the model's own rules hold. Raises DataError or ValueError as `Model.rows` does.
    """
    if model.schema is None and not isinstance(x, Mapping | Rows) and len(model.observed) == 1:
        x = {model.observed[0]: x}
    if model.schema is not None:
        schema = model.schema
    else:
        schema = x.schema if isinstance(x, Rows) else _plain_schema(model, x)
    parents = {parent for name in model.p for parent in model.p[name].given}
    able = {*model.observed} - parents
    open_to_holes = {*able, *model.latent}
    fields = {n: _with_holes(field) if n in open_to_holes else field for n, field in schema.fields.items()}
    made, schema = float64_copy(model), replace(schema, fields=fields)
    made.schema = schema
    rows = made.rows(x if key is None else schema.rows(x, key))
    found = [name for name in model.observed if name in able and name in rows.tensors]
    if isinstance(x, Rows):
        return Holed(made, rows, {name: _decoded(rows, name) for name in found})
    if isinstance(x, Mapping):
        x = {name: value for name, value in x.items() if name not in RESERVED}
    parts, cells = read_for(fields, x, key), {}
    for name in found:
        field = fields[name]
        if isinstance(field, Image) and field.binarise is not None:
            cells[name] = _decoded(rows, name)
        else:
            cells[name] = torch.cat([_as_given(field, part.values[name], part.where) for part in parts])
    return Holed(made, rows, cells)


def _with_holes(field: Field) -> Field:
    if isinstance(field, Table):
        return replace(field, columns=tuple(replace(column, missing=True) for column in field.columns))
    return replace(field, missing=True)


def _plain_schema(model: Model, x: Mapping[str, Any]) -> Schema:
    """Arrays, taken as they are, for a model that was never given a schema."""
    fields: dict[str, Field] = {}
    for name, value in x.items():
        if name in RESERVED:
            continue
        if name not in model.p:
            event = array_of(value, f"variable {name!r}").shape[1:]
            fields[name] = Array(event, dtype="float64")
        elif isinstance(factor := model.p[name], Categorical):
            fields[name] = Array(factor.event, "category", factor.classes)
        else:
            fields[name] = Array(factor.event, dtype="float64")
    return Schema(fields)


def _decoded(rows: Rows, name: str) -> Tensor:
    """One variable of rows that were read before, in the data's units."""
    value = rows.batch()[name]
    return rows.schema.decode(name, value.double()).to(value.dtype).cpu()


def _as_given(field: Field, raw: Cells | RawTable, where: str) -> Tensor:
    """One variable's cells in the data's units, `[N, *event]`: codes for levels, NaN or 0 for holes."""
    if isinstance(field, Table):
        table = field.raw_table(raw, where)
        own = [replace(column, shift=0.0, scale=1.0) for column in field.columns]
        cells = np.stack([column.encode(table.columns[column.name], table) for column in own], axis=1)
    elif isinstance(raw, RawTable):
        cells = np.stack([np.asarray(column.numbers) for column in raw.columns.values()], axis=1)
    else:
        cells = arranged(raw, field.event, where)
    if isinstance(field, Array) and field.kind == "category":
        return torch.from_numpy(np.nan_to_num(cells).astype(np.int64))
    dtype = raw.dtype if isinstance(raw, np.ndarray) and raw.dtype.kind == "f" else np.float64
    return torch.from_numpy(np.array(cells, dtype=dtype))
