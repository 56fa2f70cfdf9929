"""Schema: what the rows of a data set are, by variable; and Rows: a split of them, whole on one device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._words import did_you_mean
from ..errors import DataError
from .fields import Array, Image, array_from_dict, image_from_dict
from .raw import Cells, Raw, RawColumn, RawTable
from .readers import array_of, read_for
from .table import Table, table_from_dict

Field = Array | Image | Table
RESERVED = ("row", "weight")


@dataclass(frozen=True)
class LabelField:
    """The labels that stand beside the rows: int64 codes of `levels`, or whole numbers as they are, or
    (real=True) float32.

    A missing label is -1 (NaN where real). Labels colour plots; no model is fed them.
    """

    name: str
    levels: tuple[str, ...] | None = None
    real: bool = False

    def encode(self, column: RawColumn) -> Tensor:
        """The labels [N] of a column; text that is none of the levels becomes -1."""
        if self.levels is not None:
            code_of = {level: code for code, level in enumerate(self.levels)}
            return torch.tensor([code_of.get(cell, -1) for cell in column.text()], dtype=torch.int64)
        numbers = column.numbers
        if numbers is None:
            raise DataError(f"label {self.name!r}: {column.cells[column.first_text()]!r} is not a number")
        if self.real:
            return torch.from_numpy(numbers.astype(np.float32))
        return torch.from_numpy(np.where(np.isfinite(numbers), numbers, -1).astype(np.int64))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "levels": None if self.levels is None else list(self.levels),
            "real": self.real,
        }


@dataclass(frozen=True)
class Schema:
    """The variables of a data set, each with its field, and the label, if there is one.

    It reads new rows (`rows`), gives model values back in the data's units (`decode`, `table`) and knows what
    a density in model units is worth in the data's (`log_jacobian`). It is saved with a model: `to_dict`,
    `from_dict`.
    """

    fields: dict[str, Field]
    label: LabelField | None = None

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("a schema needs at least one variable")
        for name in self.fields:
            if name in RESERVED or name.endswith(".observed"):
                raise DataError(f"{name!r} is a reserved name; call the variable something else")

    def rows(self, x: Any, key: str | None = None) -> Rows:
        """Rows from data in their own units: an array, a tensor, a DataFrame, a dict by variable or by
        column, or a path.

        Columns of DataFrames, files and dicts are matched by name in any order, and further ones are left
        aside; those of an array by position. Some variables of several may be given. Raises DataError for a
        wrong shape ("expected 64 columns, got 63"), an absent column, and for cells that do not fit (text,
        infinity, an unknown level, a hole where there were none).
        """
        if isinstance(x, Rows):
            if x.schema is not self and x.schema != self:
                raise DataError(
                    "these rows were read by another schema (other columns, units or training rows); "
                    "give the data themselves"
                )
            return x
        parts = [self.encode(self._with_labels(raw)) for raw in read_for(self.fields, x, key)]
        if len(parts) == 1:
            return parts[0]
        labelled = all(part.labels is not None for part in parts)
        return Rows(
            self,
            {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors},
            torch.cat([part.labels for part in parts if part.labels is not None]) if labelled else None,
            torch.arange(sum(len(part) for part in parts)),
        )

    def encode(self, raw: Raw) -> Rows:
        """Rows from what a reader found."""
        tensors = {}
        for name, value in raw.values.items():
            field = self._field(name)
            where = raw.where if len(raw.values) == 1 else f"variable {name!r} of {raw.where}"
            if isinstance(field, Table):
                stored, observed = field.encode(value, where)
            else:
                stored, observed = field.encode(_as_array(value), where)
            tensors[name] = stored
            if observed is not None:
                tensors[f"{name}.observed"] = observed
        labels = None
        if self.label is not None and raw.labels is not None:
            labels = self.label.encode(raw.labels)
        return Rows(self, tensors, labels, torch.from_numpy(raw.positions.astype(np.int64)))

    def decode(self, name: str, value: Tensor) -> Tensor:
        """A variable's values [*lead, *event] in the data's units: standardised numbers, scaled pixels and
        codes undone.
        """
        return self._field(name).decode(value)

    def table(self, value: Tensor | Mapping[str, Tensor], observed: Tensor | None = None) -> dict[str, Cells]:
        """Model values [N, *event] as the data's own columns, in order: {name: cells [N]}; holes, where
        masked, "" or NaN.

        A table's categories come back as their levels. A variable that is no table gives its numbers as x0,
        x1, ... (or x, for one).
        """
        if isinstance(value, Mapping):
            parts = [self._columns(name, part, None) for name, part in value.items() if name in self.fields]
            return {column: cells for part in parts for column, cells in part.items()}
        return self._columns(self.main, value, observed)

    def log_jacobian(self, values: Mapping[str, Tensor]) -> Tensor:
        """log|d model units / d data units| of each row, float64 [B], summed over the observed cells of the
        variables in `values`.

        A log density in the data's units is the one in model units plus this. Binary values, counts,
        categories and binarised pixels have probabilities, not densities, and add 0.
        """
        names = [name for name in values if name in self.fields]
        if not names:
            raise ValueError(
                f"none of {', '.join(values)} is a variable of the schema ({', '.join(self.fields)})"
            )
        parts = [
            self.fields[name].log_jacobian(values[name], values.get(f"{name}.observed")) for name in names
        ]
        return torch.stack(parts).sum(0)

    @property
    def main(self) -> str:
        """The variable that stands for the data: "x" if there is one, else the first."""
        return "x" if "x" in self.fields else next(iter(self.fields))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.fields[self.main].event

    @property
    def likelihood(self) -> str:
        """The likelihood that fits the main variable: "bernoulli", "normal", or "columns" (a table of several
        kinds).
        """
        return self.fields[self.main].likelihood

    @property
    def units(self) -> str:
        """The units in which densities over the data are stated, as a phrase: "pixels 0..255"."""
        return self.fields[self.main].units

    @property
    def comparable(self) -> str:
        """A short fingerprint of what a density over these data is a density of; evidences are comparable if
        theirs are equal.
        """
        measures = "\n".join(f"{name}: {field.measure}" for name, field in sorted(self.fields.items()))
        return f"{self.units} {hashlib.sha256(measures.encode()).hexdigest()[:12]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers; `from_dict` makes an equal schema of them, through JSON as
        well.
        """
        return {
            "fields": {name: field.to_dict() for name, field in self.fields.items()},
            "label": None if self.label is None else self.label.to_dict(),
        }

    @staticmethod
    def from_dict(config: Mapping[str, Any]) -> Schema:
        """The schema that `to_dict` wrote; ValueError for anything else."""
        makers: dict[str, Callable[[Mapping[str, Any]], Field]] = {
            "array": array_from_dict,
            "image": image_from_dict,
            "table": table_from_dict,
        }
        try:
            fields = {str(name): makers[field["type"]](field) for name, field in config["fields"].items()}
            label = config["label"]
            if label is not None:
                levels = None if label["levels"] is None else tuple(map(str, label["levels"]))
                label = LabelField(str(label["name"]), levels, bool(label["real"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is no schema: {type(error).__name__}: {error}") from error
        return Schema(fields, label)

    def _field(self, name: str) -> Field:
        if name not in self.fields:
            known = ", ".join(self.fields)
            raise DataError(
                f"there is no variable {name!r}; the variables are {known}{did_you_mean(name, self.fields)}"
            )
        return self.fields[name]

    def _columns(self, name: str, value: Tensor, observed: Tensor | None) -> dict[str, Cells]:
        field = self.fields[name]
        if isinstance(field, Table):
            return field.table(value, observed)
        cells = (
            field.decode(value).detach().cpu().flatten(1).to(torch.float64)
            if value.ndim > 1
            else value[:, None]
        )
        array = cells.cpu().numpy()
        if observed is not None:
            array = np.where(observed.cpu().flatten(1).numpy(), array, np.nan)
        if array.shape[1] == 1:
            return {name: array[:, 0]}
        return {f"{name}{j}": array[:, j] for j in range(array.shape[1])}

    def _with_labels(self, raw: Raw) -> Raw:
        """The raw rows with the label's column taken as labels, if they hold it."""
        label = None if self.label is None else self.label.name
        for value in raw.values.values():
            if (
                raw.labels is None
                and label is not None
                and isinstance(value, RawTable)
                and label in value.columns
            ):
                return Raw(raw.values, raw.where, value.columns[label], raw.positions)
        return raw


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a data set, compact, whole on one device.

    `tensors` holds each variable as its field stores it ("x": uint8 [N, 1, 28, 28], or float32 [N, D]) and
    "x.observed", bool [N, *event], where the schema has holes. `labels` [N] are never fed to a model; `rows`,
    int64 [N], are the rows' places in the source, counted from 0.
    """

    schema: Schema
    tensors: dict[str, Tensor]
    labels: Tensor | None
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {str(t.dtype)[6:]} {list(t.shape)}" for name, t in self.tensors.items())
        return f"Rows({len(self)}: {shapes}{'' if self.labels is None else ', labelled'})"

    def __getitem__(self, index: Tensor | slice | int) -> Rows:
        """The rows at these places: a LongTensor, a mask, a slice, or one number."""
        at = slice(index, index + 1 or None) if isinstance(index, int) else _on(index, self.rows)
        tensors = {name: tensor[at] for name, tensor in self.tensors.items()}
        return Rows(self.schema, tensors, None if self.labels is None else self.labels[at], self.rows[at])

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on a device."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return Rows(
            self.schema,
            tensors,
            None if self.labels is None else self.labels.to(device),
            self.rows.to(device),
        )

    def batch(
        self, index: Tensor | slice = slice(None), generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The values of these rows in model units, {name: [B, *event]}, zero-filled in the holes, with their
        masks.

        Dynamic binarisation draws anew from `generator` (on the rows' device) at each call; without one it is
        the same at every call and for every choice of batches.
        """
        at = _on(index, self.rows)
        rows = self.rows[at] if generator is None else None
        values = {}
        for name, tensor in self.tensors.items():
            chosen = (
                tensor[at] if isinstance(at, slice) or at.dtype == torch.bool else tensor.index_select(0, at)
            )
            field = self.schema.fields.get(name)
            values[name] = chosen if field is None else field.values(chosen, rows, generator)
        return values


def spread(total: int, count: int) -> Tensor:
    """The numbers of at most `count` of so many rows, evenly spread: files may be sorted."""
    return torch.arange(total) if count >= total else torch.arange(count) * total // count


def _on(index: Tensor | slice, rows: Tensor) -> Tensor | slice:
    return index if isinstance(index, slice) else torch.as_tensor(index, device=rows.device)


def _as_array(value: Cells | RawTable) -> Cells:
    """A table given for an array: its columns side by side; DataError for text."""
    if not isinstance(value, RawTable):
        return array_of(value, "the array")
    columns = []
    for column in value.columns.values():
        numbers = column.numbers
        if numbers is None:
            row = column.first_text()
            raise DataError(
                f"column {column.name!r}, {value.row_name(row)}: {column.cells[row]!r} is not a number"
            )
        columns.append(numbers)
    return np.stack(columns, axis=1)
