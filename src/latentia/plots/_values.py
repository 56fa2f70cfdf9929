"""How a variable is shown: as images, or as the columns of a table; in the data's own units.

N examples; C channels, H height, W width; D columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._display import DoesNotApply

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model

Floats = NDArray[np.float64]
Limits = tuple[float, float]


@dataclass(frozen=True)
class View:
    """The observed variable that is shown.

    image    (C, H, W) of its values as images; None for a table
    columns  names of a table's columns that hold numbers, and their places in the event
    limits   the intensities of black and white, where the schema knows them
    """

    name: str
    image: tuple[int, int, int] | None
    columns: tuple[str, ...]
    places: tuple[int, ...]
    limits: Limits | None

    def array(self, values: Tensor | Mapping[str, Tensor], observed: Tensor | None = None) -> Floats:
        """Values in the data's units as `[N, C, H, W]` or `[N, D]`; NaN where not observed."""
        value = values[self.name] if isinstance(values, Mapping) else values
        array = value.detach().double().cpu().numpy().copy()
        if observed is not None:
            seen = observed.cpu().numpy()
            array[~seen] = np.nan
        if self.image is not None:
            return array.reshape(len(array), *self.image)
        return array.reshape(len(array), -1)[:, list(self.places)]

    def scaling(self, model: Model, entries: Sequence[int]) -> tuple[Floats, Floats]:
        """(shift [E], axes [D, E]) with which model values `[N, D]` become these entries in the data's units:
        shift + values @ axes.
        """
        field = None if model.schema is None else model.schema.fields.get(self.name)
        columns, size = getattr(field, "columns", None), math.prod(model.p[self.name].event)
        axes, shift = np.zeros((size, len(entries))), np.zeros(len(entries))
        for i, entry in enumerate(entries):
            axes[entry, i] = 1.0 if columns is None else columns[entry].scale
            shift[i] = 0.0 if columns is None else columns[entry].shift
        return shift, axes


def view_of(model: Model) -> View:
    """How the model's main observed variable is shown: "x" if there is one, else the first.

    Raises DoesNotApply for a variable that is neither an image nor a row of numbers.
    """
    if not model.observed:
        raise DoesNotApply(f"{model.p.equation()} has no observed variable to show")
    name = "x" if "x" in model.observed else model.observed[0]
    field = None if model.schema is None else model.schema.fields.get(name)
    event = model.p[name].event
    columns = getattr(field, "columns", None)
    if columns is not None:
        numbers = [i for i, column in enumerate(columns) if column.kind in ("number", "count")]
        places = tuple(numbers or range(len(columns)))
        return View(name, None, tuple(columns[i].name for i in places), places, None)
    levels = getattr(field, "levels", None)
    limits = None
    if isinstance(levels, float | int):
        limits = (0.0, 1.0 if getattr(field, "binarise", None) else float(levels))
    image = _image(event, square=levels is not None)
    if image is not None:
        return View(name, image, (), (), limits)
    size = math.prod(event)
    names = (name,) if size == 1 else tuple(f"{name}{i}" for i in range(size))
    return View(name, None, names, tuple(range(size)), None)


def _image(event: tuple[int, ...], square: bool) -> tuple[int, int, int] | None:
    """The event as (C, H, W), if it is an image; `square`: whether a flat event of pixels may be one."""
    if len(event) == 3 and event[0] in (1, 3):
        return (event[0], event[1], event[2])
    if len(event) == 2:
        return (1, *event)
    side = math.isqrt(event[0]) if len(event) == 1 else 0
    return (1, side, side) if square and side * side == math.prod(event) else None


def data_values(model: Model, rows: Rows, view: View) -> Floats:
    """The observed variable of some rows, in the data's units, NaN in the holes."""
    values = model.batch(rows, slice(None))
    value = values[view.name]
    if model.schema is not None and view.name in model.schema.fields:
        value = model.schema.decode(view.name, value)
    return view.array(value, values.get(f"{view.name}.observed"))


def model_rows(model: Model, rows: Rows, name: str) -> tuple[Floats, NDArray[np.bool_]]:
    """A variable of some rows in model units, flat, `[N, D]`; and which of them have no holes, `[N]`."""
    values = model.batch(rows, slice(None))
    mask = values.get(f"{name}.observed")
    found: Floats = values[name].flatten(1).double().cpu().numpy()
    complete = (
        np.ones(len(found), bool) if mask is None else mask.reshape(len(found), -1).all(1).cpu().numpy()
    )
    return found, complete


def some_rows(model: Model, x: Any, limit: int) -> Rows:
    """At most `limit` of the user's rows, evenly spread, as rows may be sorted; DoesNotApply without any."""
    rows = model.rows(x)
    if len(rows) == 0:
        raise DoesNotApply("there are no rows to show")
    return rows if len(rows) <= limit else rows[torch.arange(limit) * len(rows) // limit]


def scattered(values: Floats, seed: int = 0) -> Floats:
    """A column of few whole numbers, each moved a little, so that points do not hide each other; others as
    they are.
    """
    seen = values[np.isfinite(values)]
    if len(np.unique(seen)) > 12 or bool((seen != np.round(seen)).any()):
        return values
    found: Floats = values + np.random.default_rng(seed).uniform(-0.16, 0.16, len(values))
    return found


def latent_names(model: Model) -> tuple[str, ...]:
    """The variables that q infers, or computes for p to decode."""
    return model.latent or tuple(name for name in model.p.inputs if model.q is not None and name in model.q)


def latent_variable(model: Model, name: str | None) -> str:
    """The continuous latent variable to show: `name`, or the first; DoesNotApply where there is none."""
    known = latent_names(model)
    graphs = [graph for graph in (model.p, model.q) if graph is not None]
    found = [n for n in known if all(graph[n].coding is None for graph in graphs if n in graph)]
    if name is not None and name not in found:
        raise ValueError(f"{name!r} is no continuous latent variable; there are {', '.join(found) or 'none'}")
    if not found:
        raise DoesNotApply(f"{model.p.equation()} has no continuous latent variable")
    return found[0] if name is None else name


def one_space(model: Model, name: str | None) -> str:
    """`latent_variable`, but DoesNotApply where none is named and components have a latent space each."""
    from ..exact import Exact, is_discrete

    found = latent_variable(model, name)
    if name is None and isinstance(model.q, Exact) and any(is_discrete(model.q[n]) for n in model.q):
        raise DoesNotApply(f"{model.p.equation()}: {found!r} means another thing in each component")
    return found


def codes_of(model: Model, rows: Rows, name: str) -> Floats:
    """The posterior means of a latent variable, `[N, M]`."""
    means = model.encode(rows)
    value = (means[name] if isinstance(means, Mapping) else means).double().cpu()
    found: Floats = value.reshape(len(value), -1).numpy()
    return found
