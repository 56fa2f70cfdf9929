"""States of enumerated variables, each along a lead dimension of its own, and the rows where one was seen.

K states of a variable, S samples, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def along(states: Mapping[str, Tensor], name: str, samples: int | None = None) -> Tensor:
    """The states of `name` `[K, *event]` along their own lead dimension: `[1, K, 1, 1, *event]` and such.

    samples: 1 adds the sample dimension; the last of the lead dimensions is always the batch's.
    """
    value = states[name]
    before, after = _places(states, name)
    after += 1 if samples is None else 2
    return value.reshape(*(1,) * before, len(value), *(1,) * after, *value.shape[1:])


def lead_of(states: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The lead dimensions of the states of `name`, that of one sample last: `(1, K, 1, 1)` and such."""
    before, after = _places(states, name)
    return (*(1,) * before, len(states[name]), *(1,) * after, 1)


def where_observed(observed: Tensor, states: Tensor, label: Tensor, log_p: Tensor) -> Tensor:
    """log weights of states: in rows `[B]` where the variable was seen, 0 at its value and -inf elsewhere."""
    same = states == label.to(states.dtype)
    same = same.flatten(1 - label.ndim).all(-1) if label.ndim > 1 else same
    seen = torch.where(same, 0.0, -math.inf).to(log_p.dtype)
    return torch.where(observed, seen, log_p)


def where_latent(observed: Tensor, log_prob: Tensor) -> Tensor:
    """log q `[S, B]` of the rows where the variable is latent, zero in those `[B]` where it was observed."""
    return torch.where(observed, torch.zeros_like(log_prob), log_prob)


def _places(states: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    place = list(states).index(name)
    return place, len(states) - 1 - place
