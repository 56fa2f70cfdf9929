"""Values with what was absent filled in, and averages over what filled them in.

S samples, B examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution


class Densities(Mapping[str, Tensor]):
    """Log densities by name, each worked out when it is first asked for: a closed-form KL never asks."""

    def __init__(self) -> None:
        self._work: dict[str, Tensor | Callable[[], Tensor]] = {}

    def add(self, name: str, work: Tensor | Callable[[], Tensor]) -> None:
        self._work[name] = work

    def __getitem__(self, name: str) -> Tensor:
        work = self._work[name]
        if not isinstance(work, Tensor):
            work = self._work[name] = work()
        return work

    def __contains__(self, name: object) -> bool:
        return name in self._work

    def __iter__(self) -> Iterator[str]:
        return iter(self._work)

    def __len__(self) -> int:
        return len(self._work)


class Completion(NamedTuple):
    """Values with what was absent filled in.

    values         every variable; those filled in are `[*lead, B, *event]`, lead = `[*enumerated, S]`
    log_weight     the log weight of each state and sample in an average: -log S where all are draws, else
                   log q of the enumerated states less log S, `[*lead, B]`
    log_q          log q(v | parents) for each variable v filled in, `[*lead, B]`, zero in rows where v was
                   observed
    distributions  the distribution of each variable drawn wholly, where the family has one
    enumerated     the variables whose every state is there
    """

    values: dict[str, Tensor]
    log_weight: Tensor | float
    log_q: Densities
    distributions: dict[str, Distribution]
    enumerated: tuple[str, ...] = ()


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of log probabilities whose lead dimensions broadcast."""
    first, *rest = list(terms)
    for term in rest:
        first = first + term
    return first


def average(terms: Tensor, log_weight: Tensor | float) -> Tensor:
    """The weighted average over the sample dimension, `[S, B]` to `[B]`; a term without it stays as it is."""
    if terms.ndim < 2:
        return terms
    if isinstance(log_weight, float):
        return terms.mean(0) if terms.shape[0] > 1 else terms.squeeze(0)
    weight = log_weight.exp()
    terms = torch.where(weight > 0, terms, torch.zeros_like(terms))  # even log 0 of what never happens
    return (weight * terms).flatten(0, weight.ndim - 2).sum(0)
