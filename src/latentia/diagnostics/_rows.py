"""What all diagnostics share: rows in batches, and latent units by name.

B rows of a batch; a unit is one entry of a latent variable's event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from ..joint import MASK

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model

CHUNK = 1000  # rows at a time
LIVE = 2**22  # numbers of a temporary array

PerUnit = Tensor | dict[str, Tensor]


class Unit(NamedTuple):
    """One entry of a latent variable's event; None where it is the only one."""

    variable: str
    entry: int | None

    def __str__(self) -> str:
        return self.variable if self.entry is None else f"{self.variable}[{self.entry}]"


def units_of(model: Model, names: tuple[str, ...]) -> tuple[Unit, ...]:
    """The units of some latent variables, in order; the entries of an event are counted through."""
    sizes = [(name, math.prod(model.p[name].event)) for name in names]
    return tuple(Unit(name, i if size > 1 else None) for name, size in sizes for i in range(size))


def batches(model: Model, rows: Rows, step: int | None = None) -> Iterator[dict[str, Tensor]]:
    """The values of the rows, so many at a time (1,000)."""
    step = CHUNK if step is None else step
    for start in range(0, len(rows), step):
        yield model.batch(rows, slice(start, start + step))


def latents_of(model: Model, values: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The latent variables that q infers from these values.

    Raises ValueError where there are none, where q is no density, and where one is observed in some rows.
    """
    model.require_density()
    if not model.latent:
        raise ValueError(f"{model.p.equation()} has no latent variables, so there is no q(z | x) to diagnose")
    names = tuple(name for name in model.latent if name not in values)
    for name in model.latent:
        if name + MASK in values:
            raise ValueError(
                f"{name!r} is observed in some rows and latent in others: diagnose the rows without it, or "
                f"leave it out of all of them"
            )
    if not names:
        raise ValueError(f"the data hold {', '.join(map(repr, model.latent))}: nothing is latent in them")
    return names


def at_least_two(rows: Rows, what: str) -> None:
    """Raise ValueError for fewer than two rows."""
    if len(rows) < 2:
        raise ValueError(f"{what} needs at least two rows, got {len(rows)}")


def one_or_all(values: dict[str, Tensor]) -> PerUnit:
    return next(iter(values.values())) if len(values) == 1 else values
