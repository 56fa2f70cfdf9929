"""Estimate: a number with its direction and its two errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..objectives.bound import Direction

MEANING = {
    "exact": "the exact log-evidence",
    "lower": "a lower bound on {}",
    "upper": "an upper bound on {}",
    "estimate": "an estimate of {}, neither bound",
    "none": "no statement about {}",
}

SIDES = {"exact": "{}", "lower": "{}, at least", "upper": "{}, at most"}


@dataclass(frozen=True)
class Estimate:
    """log p(x), or what is known of it, for N rows.

    values     `[N]`, nats per example; larger is better
    mc_errors  `[N]`, the Monte Carlo standard error of each, given its row; NaN where one sample cannot tell
    direction  "exact", "lower" (its expectation is at most log p), "upper", "estimate" or "none"
    units      "data": a density of the data in their own units; "model": after preprocessing
    terms      means over the rows of the bound's terms
    dimensions entries of one observed example, for bits per dimension
    effective  `[N]`, the effective sample size of importance sampling; None for other methods
    bias       `[N]`, E[value] - log p(x) as the delta method estimates it: of importance sampling, negative
    k_hat      `[N]`, the Pareto shape of the weights' tail: above 0.7 errors and bias are not to be trusted
    caution    a sentence on why the number is not to be trusted, or not what it seems; empty otherwise
    of         what is told or bounded: log p(x, y) where labels y are given too, log p(x | c) given inputs c
    """

    values: Tensor
    mc_errors: Tensor
    direction: Direction
    method: str
    samples: int
    units: str = "model"
    terms: Mapping[str, float] = field(default_factory=dict)
    dimensions: int = 1
    effective: Tensor | None = None
    bias: Tensor | None = None
    k_hat: Tensor | None = None
    caution: str = ""
    of: str = "log p(x)"

    def __getitem__(self, index: Tensor | slice) -> Estimate:
        """The same of some of the rows; `terms` and `caution` stay those of all."""
        rows = ("values", "mc_errors", "effective", "bias", "k_hat")
        parts = {name: getattr(self, name) for name in rows}
        return replace(self, **{name: part[index] for name, part in parts.items() if part is not None})

    @property
    def side(self) -> str:
        """What is told and on which side of it the value is, such as "log p(x), at least"."""
        return SIDES.get(self.direction, "{}, about").format(self.of)

    @property
    def mean(self) -> float:
        """Mean over the rows, nats per example."""
        return float(self.values.double().mean())

    @property
    def mc_error(self) -> float:
        """Monte Carlo standard error of the mean, given these rows: sqrt(sum_i e_i^2) / N."""
        return float(self.mc_errors.double().square().sum().sqrt()) / len(self.values)

    @property
    def se(self) -> float:
        """Standard error of the mean over rows: what another sample of rows would change. NaN for one row."""
        if len(self.values) < 2:
            return math.nan
        return float(self.values.double().std() / math.sqrt(len(self.values)))

    @property
    def bits_per_dimension(self) -> float:
        """-mean / (D ln 2)."""
        return -self.mean / (self.dimensions * math.log(2))

    @property
    def name(self) -> str:
        """How the field writes it: ELBO, L_1000."""
        names = {
            "importance": f"L_{self.samples}",
            "elbo": "ELBO",
            "ais": "AIS",
            "naive": "naive Monte Carlo",
        }
        return names.get(self.method, self.method)

    @property
    def meaning(self) -> str:
        """What kind of number it is, in words."""
        return MEANING[self.direction].format(self.of)

    def __repr__(self) -> str:
        unknown = math.isnan(self.mc_error)
        error = "unknown Monte Carlo error" if unknown else f"Monte Carlo {self.mc_error:.2g}"
        rows = f"rows {self.se:.2g}" if not math.isnan(self.se) else "one row"
        samples = "" if self.direction == "exact" else f", samples = {self.samples}"
        caution = f". {self.caution}" if self.caution else ""
        return (
            f"{self.name} = {self.mean:.4f} nats per example (standard errors: {error}, {rows}; "
            f"N = {len(self.values)}{samples}): {self.meaning}, in {self.units} units{caution}"
        )


def concatenate(parts: list[Tensor]) -> Tensor:
    """Row chunks put together, on the CPU."""
    return torch.cat([part.detach().cpu() for part in parts])
