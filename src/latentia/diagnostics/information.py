"""What z says about x under q, and how far the aggregated posterior is from the prior.

N rows, S draws for each, U units: the entries of all latent variables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..noise import Noise
from ._aggregate import Sampled, log_sums, mean_over_states, sampled, sampled_by_minibatch, states_of, weighed
from ._posteriors import Latents, Prior
from ._rows import Unit, at_least_two, latents_of, units_of

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model

MOST_STATES = 4096  # of all discrete latents together, summed over exactly
NEAR = 0.9  # of log N: an I(x; z) above this share of its ceiling says more of N than of the model


class Quantity(NamedTuple):
    """A number in nats and its Monte Carlo standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.error:.1g}" if self.error else f"{self.value + 0.0:.4f}"


@dataclass(frozen=True)
class Information:
    """The parts of the ELBO's KL term, in nats, with Monte Carlo errors that hold for the rows at hand.

        mean KL(q(z | x) || p(z)) = I(x; z) + KL(q(z) || p(z))
        KL(q(z) || p(z)) = TC(q(z)) + sum_u KL(q(u) || p(u))        where the prior's units are independent

    kl                  the mean over rows of KL(q(z | x) || p(z))
    mutual_information  I(x; z) under q, between the number of the row and z: at most log N
    marginal_kl         KL(q(z) || p(z)) of the aggregated posterior, the mixture of the rows' q(z | x)
    total_correlation   KL(q(z) || prod_u q(u)): how dependent the units are; None where the marginals q(u)
                        have no closed form
    dimension_kl        KL(q(u) || p(u)) of each unit; None where q(u) or p(u) has no closed form
    units               their names
    mixture             rows that stand for q(z): N, or how many at a time
    factorises          whether the prior's units are independent, so that the second line holds
    """

    kl: Quantity
    mutual_information: Quantity
    marginal_kl: Quantity
    total_correlation: Quantity | None
    dimension_kl: tuple[Quantity, ...] | None
    units: tuple[Unit, ...]
    rows: int
    mixture: int
    factorises: bool

    @property
    def ceiling(self) -> float:
        """log N, above which I(x; z) of N rows cannot be."""
        return math.log(self.rows)

    @property
    def bias(self) -> str:
        """A sentence on the direction in which the two parts are off."""
        if self.mixture < self.rows:
            return (
                f"q(z) is estimated from {self.mixture:,} rows at a time, and the logarithm of that estimate "
                f"is too small: on average the marginal KL is too small, and I(x; z) too large by the same "
                f"(the total correlation may be off either way)"
            )
        return (
            f"q(z) is the mixture over these {self.rows:,} rows: as statements about all data, on average "
            f"the marginal KL is too large, and I(x; z) too small by the same, never above log N = "
            f"{self.ceiling:.2f}"
        )

    @property
    def caution(self) -> str:
        """A sentence where the rows are too few to tell; empty otherwise."""
        if self.mixture == self.rows and self.mutual_information.value > NEAR * self.ceiling:
            return (
                f"I(x; z) is near its ceiling, the log of {self.rows:,} rows: it says that q tells the rows "
                f"apart, and no more, and the marginal KL and the total correlation are far too large. Take "
                f"more rows"
            )
        return ""

    def __repr__(self) -> str:
        lines = [
            f"mean KL(q(z | x) || p(z))  {self.kl} nats, of which",
            f"  mutual information       {self.mutual_information}",
            f"  marginal KL              {self.marginal_kl}",
        ]
        if self.total_correlation is not None:
            lines.append(f"    total correlation      {self.total_correlation}")
        if self.dimension_kl is not None:
            total = Quantity(sum(part.value for part in self.dimension_kl), 0.0)
            lines.append(f"    dimension-wise KL      {total} in all")
        return "\n".join([*lines, *(f"{text}." for text in (self.bias, self.caution) if text)])


@torch.no_grad()
def information(
    model: Model, x: Any, *, samples: int = 2, mixture: int | None = None, seed: int = 0
) -> Information:
    """The mutual information of x and z under q, the marginal KL, and the total correlation, in nats.

        I(x; z) = (1/N) sum_n E_q(z|x_n)[log q(z | x_n) - log q(z)],   q(z) = (1/N) sum_n q(z | x_n)
        KL(q(z) || p(z)) = E_q(z)[log q(z) - log p(z)]
        TC = E_q(z)[log q(z) - sum_u log q(u)],   KL(q(u) || p(u)) = E_q(u)[log q(u) - log p(u)]

    samples  draws of z for each row; discrete latents of few states are summed over, without error
    mixture  M rows at a time in the place of all N in q(z), for many rows: the work is S N M U, not S N^2 U

    q(z) of the rows at hand is exact where all of them are the mixture; `Information.bias` says how either
    stands to q(z) of all data. Raises ValueError for fewer than two rows, a model without a latent variable
    or without a density q, a p(z | y) that depends on what is not latent, and samples or mixture below 1.

    Hoffman & Johnson (2016), "ELBO surgery", eq. 5; Chen, Li, Grosse & Duvenaud (2018), "Isolating sources of
    disentanglement in VAEs", eq. 2 and section C.
    """
    for name, count in (("samples", samples), ("mixture", 1 if mixture is None else mixture)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    rows = model.rows(x)
    at_least_two(rows, "mutual information")
    names = latents_of(model, model.batch(rows, slice(0, 1)))
    prior = Prior(model, names)
    states = states_of(model, names, MOST_STATES)
    if states is not None:
        return _summed(model, rows, names, prior, states)
    noise = Noise(seed, model.device, model.dtype)
    if mixture is None or mixture >= len(rows):
        mixture = len(rows)
        found = sampled(model, rows, names, samples, noise)
    else:
        found = sampled_by_minibatch(model, rows, names, samples, mixture, noise)
    shape = found.own.shape
    points = {name: value.flatten(0, 1) for name, value in found.latents.items()}
    log_p = prior.log_prob(points).double().reshape(shape)
    by_unit = prior.entries(points)
    correlation = dimension = None
    if found.entries is not None:
        correlation = _quantity(found, found.log_q - found.entries.sum(-1))
        if by_unit is not None:
            value, error = found.mean(found.entries - by_unit.double().reshape(*shape, -1))
            dimension = tuple(map(Quantity, value.tolist(), error.tolist()))
    return Information(
        kl=_quantity(found, found.own - log_p),
        mutual_information=_quantity(found, found.own - found.log_q),
        marginal_kl=_quantity(found, found.log_q - log_p),
        total_correlation=correlation,
        dimension_kl=dimension,
        units=units_of(model, names),
        rows=len(rows),
        mixture=mixture,
        factorises=prior.factorises,
    )


def _quantity(found: Sampled, terms: Tensor) -> Quantity:
    value, error = found.mean(terms)
    return Quantity(float(value), float(error))


def _summed(model: Model, rows: Rows, names: tuple[str, ...], prior: Prior, states: Latents) -> Information:
    """The same for discrete latents, summed over all their states."""
    log_n = math.log(len(rows))
    joint, entries = log_sums(model, rows, names, states)
    log_q, log_p, by_unit = joint - log_n, prior.log_prob(states).double(), prior.entries(states)
    kl = mean_over_states(model, rows, names, states, log_p)
    marginal = float(weighed(log_q, log_q - log_p).sum())
    correlation = dimension = None
    if entries is not None:
        entries = entries - log_n
        correlation = Quantity(float(weighed(log_q, log_q - entries.sum(-1)).sum()), 0.0)
        if by_unit is not None:
            parts = weighed(log_q.unsqueeze(-1), entries - by_unit.double()).sum(0)
            dimension = tuple(Quantity(float(part), 0.0) for part in parts)
    return Information(
        kl=Quantity(kl, 0.0),
        mutual_information=Quantity(kl - marginal, 0.0),
        marginal_kl=Quantity(marginal, 0.0),
        total_correlation=correlation,
        dimension_kl=dimension,
        units=units_of(model, names),
        rows=len(rows),
        mixture=len(rows),
        factorises=prior.factorises,
    )
