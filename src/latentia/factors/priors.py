"""Conjugate priors on parameters: with one, `maximize` gives the maximum a posteriori (MAP).

D entries of an event, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Dirichlet:
    """p(pi) proportional to prod_k pi_k^(a_k - 1), on the probabilities of a Categorical; a_k >= 1.

    concentration: one number for all codes, or one per code. At 1 the prior is flat.
    """

    concentration: float | Sequence[float]

    def __post_init__(self) -> None:
        a = self.concentration
        if min([a] if isinstance(a, int | float) else a) < 1:
            raise ValueError(f"a Dirichlet prior needs concentrations of at least 1, got {a}")


@dataclass(frozen=True)
class Beta:
    """p(pi) proportional to pi^(a - 1) (1 - pi)^(b - 1), on each probability of a Bernoulli; a, b >= 1."""

    a: float
    b: float

    def __post_init__(self) -> None:
        if min(self.a, self.b) < 1:
            raise ValueError(f"a Beta prior needs a, b >= 1, got {self.a}, {self.b}: its mode is else 0 or 1")


@dataclass(frozen=True)
class NormalInverseWishart:
    """mu | Sigma ~ N(mean, Sigma / strength), Sigma ~ InverseWishart(scale, degrees), on a Normal.

    mean      one number for all entries, or one per entry
    strength  how many observations the mean counts for; 0: a flat prior on mu
    scale     Psi = scale^2 I: in the value's own units, a standard deviation
    degrees   of freedom; a diagonal or spherical covariance takes an inverse gamma of degrees / 2 and
              scale^2 / 2 for each of its variances
    """

    mean: float | Sequence[float] = 0.0
    strength: float = 0.0
    scale: float = 1.0
    degrees: float = 0.0

    def __post_init__(self) -> None:
        if self.strength < 0 or self.degrees < 0 or self.scale <= 0:
            raise ValueError(
                f"strength and degrees must not be negative and scale must be positive, got {self}"
            )


@dataclass(frozen=True)
class GaussianPrior:
    """Each weight ~ N(0, scale^2): on the weights of a LogLinear, an L2 penalty."""

    scale: float

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"the prior's scale must be positive, got {self.scale}")
