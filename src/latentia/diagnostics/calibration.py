"""Simulation-based calibration: is q(z | x) the posterior of p, for x that p itself makes?

n simulations, L draws of z for each, U units, J bins of a histogram.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._door import in_model_units, takes_row
from .._words import counted
from ..joint import Values, total
from ..noise import Noise
from ._posteriors import Latents, draw
from ._rows import LIVE, Unit, latents_of, units_of

if TYPE_CHECKING:
    from ..model import Model

BINS = 20
FEWEST = 5.0  # expected simulations in a bin, for the chi-square distribution to hold
LIKELIHOOD = Unit("log p(x | z)", None)
STRIKING = 4.0  # standard errors of the ranks' mean or variance that name a fault
ROUNDING = 100.0  # of the floating-point type's epsilon: likelihoods closer than this are the same


@dataclass(frozen=True)
class Calibration:
    """Ranks of true values among posterior draws, which are uniform if the posterior is right.

    ranks    how many of the L draws are below the truth, 0 ... L: int64 `[U, n]`
    units    what they are the ranks of: latent units, and log p(x | z) last
    draws    L
    level    the chance that a right posterior fails the verdict
    """

    ranks: Tensor
    units: tuple[Unit, ...]
    draws: int
    level: float = 0.01

    @property
    def simulations(self) -> int:
        return self.ranks.shape[1]

    @property
    def edges(self) -> NDArray[np.int64]:
        """The bins' edges, `[J + 1]`: bin j holds the ranks from edge j to before edge j + 1."""
        bins = int(min(BINS, self.draws + 1, max(2, self.simulations // FEWEST)))
        return np.arange(bins + 1, dtype=np.int64) * (self.draws + 1) // bins

    @property
    def expected(self) -> NDArray[np.float64]:
        """How many simulations a bin holds on average, `[J]`."""
        found: NDArray[np.float64] = np.diff(self.edges) * self.simulations / (self.draws + 1)
        return found

    @property
    def counts(self) -> NDArray[np.int64]:
        """The histograms, `[U, J]`."""
        found = [np.histogram(ranks, self.edges - 0.5)[0] for ranks in self.ranks.numpy()]
        return np.stack(found).astype(np.int64)

    def envelope(self, share: float = 0.99) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and the highest count of each bin, `[J]`, between which that share of the bars of a
        right posterior lie: quantiles of Binomial(n, 1 / J).
        """
        from scipy.stats import binom

        p = self.expected / self.simulations
        low, high = ((1 - share) / 2, (1 + share) / 2)
        return binom.ppf(low, self.simulations, p), binom.ppf(high, self.simulations, p)

    @property
    def p_values(self) -> NDArray[np.float64]:
        """Of Pearson's chi-square test that the ranks of a unit are uniform, `[U]`, each by itself."""
        from scipy.stats import chi2

        statistic = ((self.counts - self.expected) ** 2 / self.expected).sum(1)
        found: NDArray[np.float64] = chi2.sf(statistic, len(self.expected) - 1)
        return found

    @property
    def failing(self) -> tuple[int, ...]:
        """The units whose p-value is below level / U (Bonferroni), the worst first."""
        p = self.p_values
        return tuple(int(i) for i in np.argsort(p, kind="stable") if p[i] < self.level / len(p))

    @property
    def passed(self) -> bool:
        """Whether no unit fails."""
        return not self.failing

    def fault(self, unit: int) -> str:
        """What the ranks of a unit say of the posterior: "too wide", "too narrow", "too low", "too high", or
        "of another shape".
        """
        u = (self.ranks[unit].double() + 0.5) / (self.draws + 1)
        each = 1 / (self.draws + 1)
        shift = float(u.mean() - 0.5) / math.sqrt((1 - each**2) / 12 / self.simulations)
        spread = float((u - 0.5).square().mean() - (1 - each**2) / 12) / math.sqrt(1 / 180 / self.simulations)
        if max(abs(shift), abs(spread)) < STRIKING:
            return "of another shape"
        if abs(shift) > abs(spread):
            return "too low" if shift > 0 else "too high"
        return "too narrow" if spread > 0 else "too wide"

    @property
    def verdict(self) -> str:
        """Whether q passes, in a sentence."""
        p, count = self.p_values, len(self.units)
        least = f"{p.min():.2g}" if p.min() > 0 else "below 1e-300"
        smallest = f"smallest p-value {least} of {count}"
        if self.passed:
            return (
                f"Calibrated as far as {self.simulations:,} simulations can tell: the ranks of the truth "
                f"among draws from q are uniform ({smallest})"
            )
        named = [self._named(i) for i in self.failing[:5]]
        more = f", and {len(self.failing) - 5} more" if len(self.failing) > 5 else ""
        return (
            f"Not calibrated: the ranks of the truth among draws from q are not uniform in "
            f"{len(self.failing)} of {counted(count, 'histogram')} ({smallest}). q's {'; '.join(named)}{more}"
        )

    def _named(self, unit: int) -> str:
        if self.units[unit] != LIKELIHOOD:
            return f"posterior of {self.units[unit]} is {self.fault(unit)}"
        how = {"too low": "worse than", "too high": "better than"}.get(self.fault(unit), "otherwise than")
        return f"draws fit x {how} the true z"

    def __repr__(self) -> str:
        return f"{self.verdict} (ranks among {self.draws} draws, level {self.level:g})."


@torch.no_grad()
def calibration(
    model: Model,
    simulations: int = 2000,
    draws: int = 99,
    *,
    likelihood: bool = True,
    level: float = 0.01,
    seed: int = 0,
    **inputs: Any,
) -> Calibration:
    """Simulation-based calibration of q(z | x), Joint or Exact, on data that p makes.

        z* ~ p(z),   x ~ p(x | z*),   z_1 ... z_L ~ q(z | x),   rank = #{l : z_l < z*}

    If q(z | x) = p(z | x), each unit's rank is uniform on 0 ... L; a posterior too wide piles ranks up in the
    middle, one too narrow at both ends, one too high at the left. Ties, of discrete latents, are broken at
    random, which keeps that true.

    simulations, draws   n and L; L + 1 a multiple of 20 gives bins of one width
    likelihood   log p(x | z) is ranked beside the units, for a pass of the decoder for each draw: without it,
                 a q that ignores x and gives the prior passes (Modrák et al. 2023)
    level        the chance that a right posterior fails, over all tests (Bonferroni)
    inputs       `[n, ...]`, p's inputs, in the data's units

    It says nothing about p and the data. Raises ValueError for a model without latent variables or without a
    density q, a q with a posterior for each row of its own data, fewer than 100 simulations, draws below 1,
    and for missing inputs.

    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), "Validating Bayesian inference algorithms with
    simulation-based calibration", section 4; Modrák et al. (2023), "Simulation-based calibration checking
    for Bayesian computation".
    """
    if simulations < 100 or draws < 1:
        raise ValueError(
            f"calibration needs at least 100 simulations, of at least 1 draw each, got "
            f"simulations={simulations}, draws={draws}"
        )
    names = latents_of(model, {})
    if takes_row(model):
        raise ValueError("q has a posterior for each row that it was fitted to, and none for simulated x")
    given = _inputs(model, inputs, simulations)
    noise = Noise(seed, model.device, model.dtype)
    step = max(1, min(simulations, LIVE // (model.widest * (draws + 1))))
    parts = []
    for start in range(0, simulations, step):
        size = min(step, simulations - start)
        some = {name: value[start : start + size] for name, value in given.items()}
        parts.append(_ranks(model, names, some, size, draws, likelihood, noise))
    units = units_of(model, names) + ((LIKELIHOOD,) if likelihood else ())
    return Calibration(torch.cat(parts, 1).cpu(), units, draws, level)


def _inputs(model: Model, inputs: dict[str, Any], count: int) -> dict[str, Tensor]:
    """p's inputs in model units. Raises ValueError where one is missing, unknown or of another length."""
    for name in model.p.inputs:
        if name not in inputs:
            raise ValueError(
                f"{model.p.equation()} has no distribution for {name!r}, so nothing can be simulated "
                f"without: pass {name}=..., a value for each simulation"
            )
    for name, value in inputs.items():
        if name not in model.p.inputs:
            raise ValueError(f"{name!r} is no input of {model.p.equation()}")
        if len(value) != count:
            raise ValueError(f"{count} simulations need {count} values of {name!r}, got {len(value)}")
    return {name: in_model_units(model, name, value) for name, value in inputs.items()}


def _ranks(
    model: Model,
    names: tuple[str, ...],
    given: dict[str, Tensor],
    size: int,
    draws: int,
    likelihood: bool,
    noise: Noise,
) -> Tensor:
    """The ranks of some simulations, `[U, B]`."""
    made = model.p.complete(given, noise, batch=size)
    truth = {name: made.values[name][0] for name in names}
    values = given | {name: made.values[name][0] for name in made.log_q if name not in names}
    found = draw(model, values, names, draws, noise)
    ranks = [_rank(found[name], truth[name], noise) for name in names]
    if likelihood:
        ranks.append(_likelihood_rank(model, names, values, found, truth, noise))
    return torch.cat(ranks)


def _rank(draws: Tensor, truth: Tensor, noise: Noise, tolerance: Tensor | float = 0.0) -> Tensor:
    """Ranks of `[B, *event]` among `[L, B, *event]`, the entries first: `[U, B]`."""
    difference = (draws - truth).flatten(2) if draws.ndim > 2 else (draws - truth).unsqueeze(-1)
    if difference.is_floating_point() and not bool(torch.isfinite(difference).all()):
        raise ValueError("p or q gave values that are not finite: the fit diverged")
    below, same = (difference < -tolerance).sum(0), (difference.abs() <= tolerance).sum(0)
    uniform = torch.rand(same.shape, generator=noise.generator, device=same.device)
    return (below + (uniform * (same + 1)).long().clamp(max=same)).mT


def _likelihood_rank(
    model: Model, names: tuple[str, ...], values: Values, draws: Latents, truth: Latents, noise: Noise
) -> Tensor:
    """The rank of log p(x | z) at the true z, `[1, B]`."""
    together = {name: torch.cat([truth[name].unsqueeze(0), draws[name]]) for name in names}
    log_p = model.p.log_probs({**values, **together}, without=names)
    whole = total(log_p.values()).expand(len(next(iter(together.values()))), -1)  # [1 + L, B]
    scale = whole.abs().amax(0).clamp(min=1).unsqueeze(-1)
    return _rank(whole[1:], whole[0], noise, ROUNDING * torch.finfo(whole.dtype).eps * scale)
