"""The covariances that a Normal can have, and how many outputs of its net each of them needs.

D entries of an event, R rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from .._recorded import recorded


@recorded
@dataclass(frozen=True)
class Diagonal:
    """Independent entries: Sigma = diag(sigma^2)."""


@recorded
@dataclass(frozen=True)
class Spherical:
    """Independent entries of one variance: Sigma = sigma^2 I, sigma the net's last output."""


@recorded
@dataclass(frozen=True)
class Full:
    """Sigma = L L^T, L lower triangular, its diagonal through the link: D (D + 1) / 2 outputs of the net."""


@recorded
@dataclass(frozen=True)
class Tied:
    """Sigma = L L^T, as in Full, but the same whatever the parents: L is a parameter of the factor itself."""


@recorded
@dataclass(frozen=True)
class LowRank:
    """Sigma = W W^T + diag(sigma^2), W of `rank` columns: D (R + 1) numbers from the net."""

    rank: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"LowRank needs a rank of at least 1, got {self.rank}")


Covariance = Diagonal | Spherical | Full | Tied | LowRank


def gaussian_outputs(entries: int, covariance: Covariance) -> int:
    """How many outputs the net of a Normal of D entries needs; with Diagonal, if the scale comes from it."""
    match covariance:
        case Tied():
            return entries
        case Spherical():
            return entries + 1
        case Full():
            return entries + entries * (entries + 1) // 2
        case LowRank(rank):
            return entries * (2 + rank)
    return 2 * entries


def gaussian_event(net: nn.Module, covariance: Covariance) -> int:
    """The D for which `gaussian_outputs(D, covariance)` is the number of the net's outputs.

    Raises ValueError where there is none, or where the net does not say how many outputs it has.
    """
    out = getattr(net, "out_shape", None)
    if out is None:
        raise ValueError("Normal: the net does not say its output's shape; pass event=, such as event=10")
    total = math.prod(out)
    for entries in range(1, total + 1):
        if gaussian_outputs(entries, covariance) == total:
            return entries
    fault = f"a net with {total} outputs fits no Normal with {covariance}"
    raise ValueError(f"{fault}: use gaussian_outputs(D, covariance)")


def check_outputs(net: nn.Module, event: tuple[int, ...], covariance: Covariance) -> None:
    """Raise ValueError for an event that is not flat, or a net of another number of outputs."""
    if len(event) != 1:
        raise ValueError(f"{covariance} needs a flat event such as (10,), got {event}")
    needed, out = gaussian_outputs(event[0], covariance), getattr(net, "out_shape", None)
    if out is not None and math.prod(out) != needed:
        raise ValueError(
            f"Normal of event {event} with {covariance} needs {needed} outputs from its net, got "
            f"{math.prod(out)}"
        )


def low_rank_parameters(entries: int, rank: int, noise: int) -> int:
    """How many numbers W W^T + R is free in: D R - R (R - 1) / 2 of W, as W Q gives the same for a rotation
    Q, and `noise` of the diagonal R; no more than the D (D + 1) / 2 of any covariance.

    Bishop (2006), "Pattern recognition and machine learning", section 12.2.1.
    """
    rank = min(rank, entries)
    turned = entries * rank - rank * (rank - 1) // 2
    return min(turned + noise, entries * (entries + 1) // 2)
