"""Codings: how a net that is given a variable sees it, where that is not the value itself.

D columns of a table, F features, K codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

Kind = str | int


class Coding(Protocol):
    """Values `[*lead, B, *event]` to features `[*lead, B, F]`, masks of entries to masks of features."""

    def encode(self, value: Tensor) -> Tensor: ...

    def spread(self, observed: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class OneHot:
    """Integer codes `[*lead, B, *event]` as one-hot vectors of length `classes`, those of a vector of codes
    one after the other; relaxed values, one-hot already, are laid out so too.
    """

    classes: int
    event: tuple[int, ...] = ()

    def encode(self, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            value = nn.functional.one_hot(value, self.classes).to(torch.get_default_dtype())
        return value.flatten(-1 - len(self.event)) if self.event else value

    def spread(self, observed: Tensor) -> Tensor:
        by_entry = self.event and observed.ndim > 1
        seen = observed.flatten(1) if by_entry else observed.unsqueeze(-1)  # [B, N], or [B, 1]
        width = math.prod(self.event) * self.classes
        return seen.repeat_interleave(width // seen.shape[-1], dim=-1)


@dataclass(frozen=True)
class ColumnCoding:
    """A table's columns `[*lead, B, D]`: numbers and binaries as they are, counts as log(1 + x), codes
    one-hot.

    columns: "number", "binary" or "count", or the number of codes of a category.
    """

    columns: tuple[Kind, ...]

    @property
    def width(self) -> int:
        """F, the number of features."""
        return sum(kind if isinstance(kind, int) else 1 for kind in self.columns)

    def encode(self, value: Tensor) -> Tensor:
        return torch.cat([self._encode(value[..., j], kind) for j, kind in enumerate(self.columns)], dim=-1)

    def _encode(self, column: Tensor, kind: Kind) -> Tensor:
        if isinstance(kind, int):
            return nn.functional.one_hot(column.long(), kind).to(column.dtype)
        return (torch.log1p(column) if kind == "count" else column).unsqueeze(-1)

    def spread(self, observed: Tensor) -> Tensor:
        if observed.ndim < 2 or observed.shape[-1] != len(self.columns):
            return observed.unsqueeze(-1).expand(*observed.shape, self.width)
        widths = torch.tensor([kind if isinstance(kind, int) else 1 for kind in self.columns])
        return observed.repeat_interleave(widths.to(observed.device), dim=-1, output_size=self.width)


def checked_columns(columns: Sequence[Kind]) -> tuple[Kind, ...]:
    """The kinds of columns as a tuple. Raises ValueError for one that is none."""
    for kind in columns:
        if kind not in ("number", "binary", "count") and not (isinstance(kind, int) and kind >= 1):
            raise ValueError(f"a column is 'number', 'binary', 'count' or a number of codes, got {kind!r}")
    if not columns:
        raise ValueError("a table needs at least one column")
    return tuple(columns)
