"""load_data: from a source to train, validation and test rows with their schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from .._words import counted, did_you_mean, shortened
from ..errors import DataError, UsageError
from . import infer
from .fields import Binarise
from .kinds import parse_types
from .raw import Raw, RawTable, column
from .readers import Source, read
from .schema import Field, Rows, Schema
from .table import Table

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in three splits with its schema; `notes` are sentences on how it was read."""

    schema: Schema
    train: Rows
    valid: Rows
    test: Rows
    name: str
    notes: list[str] = field(default_factory=list)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one row of the main variable, "x": (C, H, W) of images, (D,) of a table."""
        return self.schema.event_shape

    @property
    def splits(self) -> dict[str, Rows]:
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def to(self, device: torch.device | str) -> Data:
        """The same data with every split on a device."""
        train, valid, test = (rows.to(device) for rows in self.splits.values())
        return Data(self.schema, train, valid, test, self.name, self.notes)


def load_data(
    source: Any,
    *,
    key: str | None = None,
    types: Mapping[str, str] | str | None = None,
    label: str | None = None,
    valid: Any = None,
    test: Any = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    binarise: Binarise | None = None,
    standardise: bool | None = None,
) -> Data:
    """The rows of a source in train, validation and test splits, with the schema that they were read by.

    `source` is the name of a set ("digits"), a path (CSV, Parquet, NPY, NPZ, IDX, a folder of pictures), an
    array or tensor [N, ...], a DataFrame, or a dict of arrays by variable. `key` chooses an array of an NPZ
    file. `types` sets columns' kinds ({"age": "number"} or "age=number,id=ignored"; see data/kinds.py for how
    they are inferred). `label` names a column, or a variable of a dict, that colours plots and is not
    modelled.

    `valid` and `test` are sources for those splits; a source may also hold splits of its own (x_train,
    x_test). Only what then remains is split, at random by `seed`, in the proportions of `split` (of the
    source's rows; train takes the rest).

    Files and named sets are preprocessed: numbers standardised by the training rows, images scaled to [0, 1];
    arrays, tensors and DataFrames are not, unless `standardise=True`. `binarise` is "threshold" or "dynamic",
    for images and numbers in [0, 1]. Rows in which nothing is observed are left out.

    Raises DataError for data that cannot be used and UsageError for arguments that do not fit, each with a
    sentence.
    """
    kinds = parse_types(types)
    if binarise is not None and binarise not in get_args(Binarise):
        hint = did_you_mean(str(binarise), get_args(Binarise))
        raise UsageError(f"binarise is 'threshold' or 'dynamic', got {binarise!r}{hint}")
    fractions = _fractions(split)
    main = read(source, key)
    raws = dict(main.parts)
    for name, given in (("valid", valid), ("test", test)):
        if given is not None:
            raws[name] = _part(read(given, key if isinstance(given, (str, PathLike)) else None), name)
    base = "all" if "all" in raws else "train"
    if label is not None:
        raws = {name: _take_label(raw, label, required=name == base) for name, raw in raws.items()}
    if standardise is None:
        standardise = main.from_file
    by_variable = isinstance(source, Mapping)
    wish = infer.Wish(
        kinds, binarise, standardise, main.from_file, by_variable, main.levels, main.all_numbers
    )

    raws, fields, notes = _infer(raws, wish)
    notes = [*main.notes, *notes]
    places = _split(len(raws[base]), fractions, [name for name in SPLITS if name in raws], seed)
    if standardise:
        fields, more = _standardised(fields, raws[base].take(places["train"]))
        notes += more
    labels = [raw.labels for raw in raws.values() if raw.labels is not None]
    schema = Schema(fields, infer.label_field(labels) if labels else None)
    if schema.label is not None:
        notes.append(f"Labels: {schema.label.name}, not given to the model.")
    encoded = {name: schema.encode(raw) for name, raw in raws.items()}
    rows = {name: encoded[base][torch.from_numpy(index)] for name, index in places.items()}
    rows.update({name: encoded[name][torch.arange(len(raws[name]))] for name in SPLITS if name not in rows})
    notes.append("Rows: " + ", ".join(f"{len(rows[name]):,} {name}" for name in SPLITS) + ".")
    return Data(schema, rows["train"], rows["valid"], rows["test"], main.name, notes)


def _fractions(split: Sequence[float]) -> tuple[float, float, float]:
    parts = tuple(float(part) for part in split)
    if len(parts) != 3 or min(parts) < 0 or parts[0] <= 0 or abs(sum(parts) - 1) > 1e-6:
        raise UsageError(
            f"split is three fractions (train, valid, test) that sum to 1, train above 0; got {split}"
        )
    return parts


def _part(source: Source, name: str) -> Raw:
    """The rows of a source given for one split: its only part, or the part of that name."""
    if name in source.parts:
        return source.parts[name]
    if len(source.parts) > 1:
        raise DataError(
            f"{source.name} holds the splits {', '.join(source.parts)}; which is meant for {name}?"
        )
    return next(iter(source.parts.values()))


def _take_label(raw: Raw, label: str, required: bool) -> Raw:
    """The rows with the label's column, or variable, taken out of the values."""
    for name, value in raw.values.items():
        if isinstance(value, RawTable) and label in value.columns:
            rest = value.without(label)
            if not rest.columns:
                raise DataError(f"{raw.where} has no column beside the label {label!r}")
            return Raw({**raw.values, name: rest}, raw.where, value.columns[label], raw.positions)
    if label in raw.values and len(raw.values) > 1:
        values = {name: value for name, value in raw.values.items() if name != label}
        return Raw(values, raw.where, column(label, raw.values[label]), raw.positions)
    if raw.labels is not None and raw.labels.name == label:
        return raw
    if not required:
        return raw
    known = [name for value in raw.values.values() if isinstance(value, RawTable) for name in value.columns]
    known = known or [name for name in raw.values if len(raw.values) > 1]
    raise DataError(f"{raw.where} has no column {label!r} to take as the label{did_you_mean(label, known)}")


def _infer(raws: Mapping[str, Raw], wish: infer.Wish) -> tuple[dict[str, Raw], dict[str, Field], list[str]]:
    """The rows with something observed, as their fields read them; the fields, nothing scaled yet; and what
    to say.
    """
    parts = list(raws.values())
    names = list(parts[0].values)
    for raw in parts:
        if set(raw.values) != set(names):
            raise DataError(
                f"{raw.where} holds the variables {', '.join(raw.values)}, not {', '.join(names)}"
            )
    if wish.by_variable:
        infer.check_variable_types(wish.types, names)
    fields, notes = {}, []
    for name in names:
        wheres = [raw.where if len(names) == 1 else f"variable {name!r} of {raw.where}" for raw in parts]
        fields[name], values, said = infer.infer_variable(
            name, [raw.values[name] for raw in parts], wheres, wish
        )
        parts = [replace(raw, values={**raw.values, name: v}) for raw, v in zip(parts, values, strict=True)]
        notes += said if len(names) == 1 else [f"{name}: {sentence}" for sentence in said]
    kept = []
    for raw in parts:
        observed = np.any([infer.observed_rows(raw.values[name], fields[name]) for name in names], axis=0)
        empty = np.flatnonzero(~observed)
        if len(empty) == len(raw):
            raise DataError(f"every cell of {raw.where} is missing")
        if len(empty):
            notes.append(f"Left out of {raw.where}: {counted(len(empty), 'row')} with nothing observed.")
        kept.append(raw.take(np.flatnonzero(observed)) if len(empty) else raw)
    for name in names:
        values = [raw.values[name] for raw in kept]
        fields[name] = infer.with_missing(fields[name], values)
        notes += infer.hole_notes(name, fields[name], values) + infer.constant_notes(fields[name], values[0])
    return dict(zip(raws, kept, strict=True)), fields, notes


def _split(
    number: int, fractions: tuple[float, float, float], given: Sequence[str], seed: int
) -> dict[str, NDArray[np.int64]]:
    """The places, in order, of the rows of each split that is not given; train is what the others leave."""
    sizes = {
        name: max(1, round(number * fraction)) if fraction else 0
        for name, fraction in zip(SPLITS, fractions, strict=True)
        if name != "train" and name not in given
    }
    if number <= sum(sizes.values()):
        wanted = ", ".join(["train", *(name for name, size in sizes.items() if size)])
        raise DataError(
            f"{'a single row' if number == 1 else counted(number, 'row')} cannot be split into {wanted}; "
            "give more rows, or a split with zeros in it"
        )
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed)).numpy()
    places, start = {}, 0
    for name, size in {**sizes, "train": number - sum(sizes.values())}.items():
        places[name] = np.sort(order[start : start + size])
        start += size
    return places


def _standardised(fields: Mapping[str, Field], train: Raw) -> tuple[dict[str, Field], list[str]]:
    """The fields with the numbers of their tables scaled by the training rows, and what to say."""
    scaled, notes = dict(fields), []
    for name, made in fields.items():
        value = train.values[name]
        if not isinstance(made, Table) or not isinstance(value, RawTable):
            continue
        table, constant = made.standardised(value)
        scaled[name] = table
        numbers = sum(column.kind == "number" for column in table.columns) - len(constant)
        if numbers:
            how = "by the mean and standard deviation of the training rows"
            notes.append(f"Standardised: {counted(numbers, 'number')}, {how}.")
        if constant:
            notes.append(f"Constant in the training rows, left unscaled: {shortened(constant)}.")
    return scaled, notes
