"""Lookup: where values stand in a list of distinct values, exactly and without a loop over rows.

X values in the list, E entries of each, N values looked up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..factor import LARGEST_SUPPORT, NotEnumerableError

LARGEST_KEY = 2**40
CHUNK = 2**18  # pairs of a row and a value that are compared at once


class Lookup(nn.Module):
    """Finds vectors of E entries in `values` `[X, E]`.

    Each entry's rank among the values that the entry takes is a digit of one whole number, the key, which is
    searched for among the keys of the list. Where keys would grow too large for 64 bits, the digits are read
    in groups, and a key so far is replaced by its rank.

    Raises ValueError where the same values stand in two places.
    """

    values: Tensor
    levels: Tensor  # [E, L], ascending, the last repeated
    order: Tensor  # [X], from the last group's rank to the place in the list

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values, persistent=False)
        self.precision = values.dtype
        levels = [column.unique() for column in values.T]
        most = max(map(len, levels))
        padded = [torch.cat([level, level[-1:].expand(most - len(level))]) for level in levels]
        self.register_buffer("levels", torch.stack(padded), persistent=False)
        self.groups = _grouped([len(level) for level in levels])
        ranks = torch.searchsorted(self.levels, values.T.contiguous())
        rank = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        for g, (columns, radices) in enumerate(self.groups):
            known, rank = torch.unique(_key(rank, ranks[columns], radices), return_inverse=True)
            self.register_buffer(f"known_{g}", known, persistent=False)
        order = rank.argsort(stable=True)
        self._refuse_repeats(rank[order], order)
        self.register_buffer("order", order, persistent=False)

    def __len__(self) -> int:
        return len(self.values)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The place of each of the values `[*, E]`, and whether it is in the list at all, both `[*]`."""
        values = self._rounded(values)
        flat = values.reshape(-1, values.shape[-1])
        ranks = torch.searchsorted(self.levels, flat.T.contiguous().to(self.levels))  # [E, N]
        rank = torch.zeros(len(flat), dtype=torch.int64, device=flat.device)
        for g, (columns, radices) in enumerate(self.groups):
            known: Tensor = getattr(self, f"known_{g}")
            rank = torch.searchsorted(known, _key(rank, ranks[columns], radices)).clamp(max=len(known) - 1)
        place = self.order[rank]
        found = (self.values[place] == flat).all(-1)
        return place.reshape(values.shape[:-1]), found.reshape(values.shape[:-1])

    def agreeing(self, values: Tensor, observed: Tensor) -> Tensor:
        """Which of the list agree with values `[N, E]` in every observed entry, bool `[N, X]`."""
        return torch.cat(list(self.agreeing_by_chunks(values, observed)))

    def agreeing_by_chunks(self, values: Tensor, observed: Tensor) -> Iterator[Tensor]:
        """As `agreeing`, `rows_at_once` rows at a time.

        They agree where the digits of the observed entries make the same number, which float64 holds exactly.
        """
        values = self._rounded(values)
        ranks = torch.searchsorted(self.levels, values.T.contiguous().to(self.levels))
        ranks = ranks.clamp(max=self.levels.shape[1] - 1)
        strange = (self.levels.gather(1, ranks) != values.T).T & observed
        listed = torch.searchsorted(self.levels, self.values.T.contiguous())
        places = [(g, _places(radices, values.device).double()) for g, radices in self.groups]
        size = self.rows_at_once
        for start in range(0, len(values), size):
            rows = slice(start, start + size)
            seen = observed[rows].double()
            agree = ~strange[rows].any(1, keepdim=True)
            for g, place in places:
                own = (seen[:, g] * (ranks[g, rows] * place).T).sum(1, keepdim=True)
                agree = agree & (seen[:, g] @ (listed[g] * place) == own)
            yield agree

    @property
    def rows_at_once(self) -> int:
        """How many rows `agreeing_by_chunks` compares at a time."""
        return max(16, CHUNK // len(self))

    def _rounded(self, values: Tensor) -> Tensor:
        """Values rounded as those of the list were, so that 0.1 is found in whatever precision it comes."""
        both = values.is_floating_point() and self.values.is_floating_point()
        return values.to(self.precision).to(self.values.dtype) if both else values

    def _refuse_repeats(self, ranks: Tensor, order: Tensor) -> None:
        same = (ranks[1:] == ranks[:-1]).nonzero()
        if len(same):
            one, other = order[int(same[0])], order[int(same[0]) + 1]
            raise ValueError(
                f"the values of a support must differ, and rows {int(one)} and {int(other)} are both "
                f"{shown(self.values[one])}"
            )


def shown(value: Tensor) -> str:
    """A value for a sentence: its first entries."""
    entries = value.reshape(-1).tolist()
    text = ", ".join(f"{entry:g}" for entry in entries[:24])
    return f"({text}, ...)" if len(entries) > 24 else f"({text})" if len(entries) > 1 else text


def binary_vectors(event: int | Sequence[int] | None) -> Tensor:
    """All vectors of zeros and ones, `[2^D, *event]`, in the order of binary numbers.

    Raises ValueError where the event's shape is not said, NotEnumerableError for more than 20 columns.
    """
    if event is None:
        raise ValueError("LogLinear: list the values of x in support=, or say its shape with event=")
    shape = (event,) if isinstance(event, int) else tuple(event)
    entries = math.prod(shape)
    if 2**entries > LARGEST_SUPPORT:
        raise NotEnumerableError(
            f"{entries} binary columns have 2^{entries} values, and at most {LARGEST_SUPPORT:,} are "
            f"enumerated: use at most {LARGEST_SUPPORT.bit_length() - 1} columns, or list the values that "
            f"can occur in support="
        )
    digits = torch.arange(entries - 1, -1, -1)
    bits = (torch.arange(2**entries).unsqueeze(1) >> digits) & 1
    return bits.to(torch.get_default_dtype()).reshape(-1, *shape)


def listed(support: Tensor, event: int | Sequence[int] | None = None) -> Tensor:
    """A support `[X, *event]` as it is kept: codes `[X]` as whole numbers, others in the default type.

    Raises ValueError for an empty one, another event or values that are not finite, NotEnumerableError for
    too large a one.
    """
    values = torch.as_tensor(support).detach()
    if values.ndim == 0 or values.numel() == 0:
        raise ValueError(f"a support is [X, *event] with a value or more, and has shape {list(values.shape)}")
    if len(values) > LARGEST_SUPPORT:
        raise NotEnumerableError(
            f"the support has {len(values):,} values, and at most {LARGEST_SUPPORT:,} are enumerated"
        )
    shape = (event,) if isinstance(event, int) else event
    if shape is not None and tuple(shape) != tuple(values.shape[1:]):
        raise ValueError(f"the support's values are {tuple(values.shape[1:])}, and event= is {tuple(shape)}")
    whole = not values.is_floating_point() and values.dtype != torch.bool and values.ndim == 1
    values = values.to(torch.int64 if whole else torch.get_default_dtype())
    if not bool(values.isfinite().all()):
        raise ValueError("the values of a support must be finite, and some are not")
    return values


def _grouped(sizes: Sequence[int]) -> list[tuple[slice, list[int]]]:
    """Columns in groups, each with the place values of its digits and, last, the number of its keys."""
    groups, start = [], 0
    while start < len(sizes):
        radices, stop = [1], start
        while stop < len(sizes) and radices[-1] * sizes[stop] <= LARGEST_KEY:
            radices.append(radices[-1] * sizes[stop])
            stop += 1
        groups.append((slice(start, stop), radices))
        start = stop
    return groups


def _key(prefix: Tensor, digits: Tensor, radices: Sequence[int]) -> Tensor:
    """The number with digits `[E', N]` at places `radices`, the prefix above them."""
    return (digits * _places(radices, digits.device)).sum(0) + prefix * radices[-1]


def _places(radices: Sequence[int], device: torch.device) -> Tensor:
    """Place values of a group's digits, `[E', 1]`."""
    return torch.tensor(radices[:-1], device=device).unsqueeze(1)
