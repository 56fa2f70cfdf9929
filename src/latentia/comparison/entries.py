"""What may be compared: a model, a way to build one, or what was fitted before."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .._door import rows_of
from ..archive import load_model
from ..data import Data, Field, Rows, Schema, Table
from ..errors import ArchiveError, DataError, UsageError
from ..joint import MASK
from ..learn.options import fingerprint
from ..model import Model
from .budget import Recipe


class NotComparableError(UsageError):
    """The numbers of this model are of other data than the rest, so that an order would mean nothing."""


@dataclass(frozen=True)
class Entry:
    """A model to compare: to be built and fitted at each seed, or fitted already.

    recipe    gives what to fit at a seed; None where there is nothing to fit
    fitted    the model that is there
    seconds, updates   what fitting it took, where the run folder says so
    doubt     why it is listed and not ranked; empty otherwise
    note      what should be known of it
    failure   why it could not be opened
    """

    name: str
    recipe: Callable[[int], Recipe] | None = None
    fitted: Model | None = None
    seconds: float | None = None
    updates: int | None = None
    doubt: str = ""
    note: str = ""
    failure: str = ""

    @property
    def model(self) -> Model:
        """The fitted model. Raises ValueError where there is none."""
        if self.fitted is None:
            raise ValueError(f"{self.name!r} is not fitted")
        return self.fitted


def entry_of(name: str, given: Any, data: Data) -> Entry:
    """An entry from what a user gave.

    A path is a run folder or a model folder. A fitted model is evaluated as it is. A model that is not fitted
    is copied for each seed. A function of the seed gives a model. The latter two may stand first in a tuple
    (model, objective) or (model, objective, options of `fit`), and a function may return one.

    Raises UsageError for anything else and for a path where there is nothing, NotComparableError for a fitted
    model of other data.
    """
    if isinstance(given, str | Path):
        return _opened(name, Path(given), data)
    if isinstance(given, Model) and given.fitted:
        require_comparable(name, given, data)
        return Entry(name, fitted=given, doubt=_other_rows(given, data))
    if isinstance(given, tuple) and given and isinstance(given[0], Model) and given[0].fitted:
        raise UsageError(
            f"{name!r} is fitted already: pass the model alone to evaluate it, or a function of the seed "
            f"that builds it anew"
        )
    first = given[0] if isinstance(given, tuple) and given else given
    if not callable(first) or (isinstance(given, tuple) and len(given) > 3):
        raise UsageError(
            f"{name!r} is a {type(given).__name__}: pass a model, (model, objective), a function of the seed "
            f"that returns one of them, or a run folder"
        )
    return Entry(name, recipe=lambda seed: _recipe(name, given, seed))


def _recipe(name: str, given: Any, seed: int) -> Recipe:
    """What to fit at a seed."""
    first, *rest = given if isinstance(given, tuple) else (given,)
    if isinstance(first, Model):
        first = copy.deepcopy(first)
    elif callable(first):
        first = first(seed)
        if isinstance(first, tuple):
            if rest:
                raise UsageError(f"{name!r} gives an objective twice, beside its function and from it")
            first, *rest = first
    if not isinstance(first, Model):
        raise UsageError(f"{name!r} gave a {type(first).__name__}, and a latentia.Model was expected")
    if first.fitted:
        raise UsageError(f"{name!r} gave a model that is fitted already: build a new one for each seed")
    return Recipe(first, *copy.deepcopy(rest))


def require_comparable(name: str, model: Model, data: Data) -> None:
    """Raise NotComparableError where a model gives the density of something else than these data."""
    own = model.schema
    if own is None or own.comparable == data.schema.comparable:
        return
    raise NotComparableError(
        f"{name!r} cannot be compared with models of {data.name}: {_difference(own, data.schema)}. Evidences "
        f"of data that were read in different ways are of different things"
    )


def _difference(own: Schema, data: Schema) -> str:
    """How two schemas differ in what they measure."""
    if set(own.fields) != set(data.fields):
        return f"it is of the variables {', '.join(own.fields)}, and the data hold {', '.join(data.fields)}"
    for name, field in own.fields.items():
        other = data.fields[name]
        if field.measure == other.measure:
            continue
        if isinstance(field, Table) and isinstance(other, Table):
            kinds = ({column.name: column.kind for column in one.columns} for one in (field, other))
            theirs, ours = kinds
            for column in {**theirs, **ours}:
                one, two = (kind.get(column) for kind in (theirs, ours))
                if one is None:
                    return f"it has no column {column!r}, and the data have"
                if one != two:
                    return f"column {column!r} is a {one} to it, and {two or 'not there'} in the data"
            return "its columns have other levels, or stand in another order, than those of the data"
        return f"it is of {_kind(field)}, and the data are {_kind(other)}"
    return f"it is of {own.comparable}, and the data are {data.comparable}"


def _kind(field: Field) -> str:
    """What a field holds, shortly."""
    return f"a table of {len(field.columns)} columns" if isinstance(field, Table) else field.measure


def _opened(name: str, folder: Path, data: Data) -> Entry:
    """The model in a run folder or a model folder."""
    if not folder.is_dir():
        raise UsageError(f"{name!r}: there is no run or model folder {folder}")
    run = None if (folder / "config.json").exists() else folder
    try:
        model = load_model(folder if run is None else folder / "model")
    except ArchiveError as error:
        return Entry(name, failure=str(error))
    require_comparable(name, model, data)
    settings, progress = ({}, {}) if run is None else _last_state(run)
    doubt, note = _other_rows(model, data), ""
    if not doubt and settings.get("data") is not None:
        if model.schema != data.schema:
            note = "that it was fitted to the same training rows could not be checked: its scaling is another"
        elif settings["data"] != fingerprint(rows_of(model, data.train)):
            doubt = "it was fitted to other training rows (another split, seed or source), and may have seen "
            doubt += "these test rows"
    return Entry(
        name,
        fitted=model,
        seconds=progress.get("seconds"),
        updates=progress.get("step"),
        doubt=doubt,
        note=note,
    )


def _last_state(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and progress in the newest checkpoint of a run that can be read; empty where there is none."""
    for path in sorted(run.glob("checkpoints/step-*.safetensors"), reverse=True):
        try:
            with safe_open(path, framework="pt") as file:
                metadata: Mapping[str, str] = file.metadata()
            return json.loads(metadata["settings"]), json.loads(metadata["progress"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            continue
    return {}, {}


def _other_rows(model: Model, data: Data) -> str:
    """A sentence where a model's columns were standardised by other rows than these data's."""
    for name, field in ({} if model.schema is None else model.schema.fields).items():
        other = data.schema.fields[name]
        if not isinstance(field, Table) or not isinstance(other, Table):
            continue
        for one, two in zip(field.columns, other.columns, strict=True):
            theirs, ours = (one.shift, one.scale), (two.shift, two.scale)
            if (0.0, 1.0) not in (theirs, ours) and theirs != ours:
                return (
                    f"its column {one.name!r} was standardised by other training rows, and it may have seen "
                    f"these test rows"
                )
    return ""


def held_out(model: Model, data: Data) -> Rows:
    """The test rows as the model reads them: where its scaling is another, through the data's own units.

    Raises DataError for rows that do not fit its schema.
    """
    if model.schema is None or model.schema == data.schema:
        return data.test
    if len(data.schema.fields) > 1:
        raise DataError("its variables are scaled in another way than those of the data")
    (name,) = data.schema.fields
    values = data.test.batch()
    value, observed = values[name], values.get(name + MASK)
    if isinstance(data.schema.fields[name], Table):
        return model.schema.rows(data.schema.table(value, observed))
    decoded = data.schema.decode(name, value)
    return model.schema.rows(decoded if observed is None else decoded.where(observed, torch.nan))
