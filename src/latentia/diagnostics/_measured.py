"""A number for each row, and its mean with two errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """A number for each of N rows.

    values     `[N]`; NaN in rows that have none, which the mean leaves out
    mc_errors  `[N]`, the Monte Carlo standard error of each, given its row; zeros where nothing is drawn
    """

    values: Tensor
    mc_errors: Tensor

    @property
    def known(self) -> Tensor:
        """Which rows have a number, `[N]`."""
        return ~self.values.isnan()

    @property
    def mean(self) -> float:
        """Mean over the rows."""
        return float(self.values.double().nanmean())

    @property
    def mc_error(self) -> float:
        """Monte Carlo standard error of the mean, given these rows: sqrt(sum_i e_i^2) / N."""
        return float(self.mc_errors[self.known].double().square().sum().sqrt()) / int(self.known.sum())

    @property
    def se(self) -> float:
        """Standard error of the mean over rows: what another sample of rows would change. NaN for one row."""
        values = self.values[self.known].double()
        return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan

    def __str__(self) -> str:
        parts = [f"Monte Carlo {self.mc_error:.2g}"] if self.mc_error else []
        parts += ["one row"] if math.isnan(self.se) else [f"rows {self.se:.2g}"]
        return f"{self.mean:.4f} (standard errors: {', '.join(parts)})"

    def __repr__(self) -> str:
        return f"{self}, N = {len(self.values)}"
