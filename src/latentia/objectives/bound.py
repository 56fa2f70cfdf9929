"""What an objective returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor

Direction = Literal["exact", "lower", "upper", "estimate", "none"]


class Bound(NamedTuple):
    """The value of an objective for a batch of B examples, in nats; larger is better.

    value      `[B]`, the honest number: never with beta, free bits or other weights in it
    surrogate  `[B]`, what gradient ascent climbs
    terms      `[B]` each, reported by name
    direction  how `value` stands to log p(x): "exact", "lower" (its expectation is below), "upper",
               "estimate", or "none"
    """

    value: Tensor
    surrogate: Tensor
    terms: Mapping[str, Tensor]
    direction: Direction
