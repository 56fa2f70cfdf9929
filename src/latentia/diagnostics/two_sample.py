"""Distances between two samples: are the model's samples distributed as the data are?

N rows of x, M of y, D entries of an event, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LIVE = 2**22  # distances held at a time
MOST_ENTRIES = 256  # beyond which a covariance of raw values says little and features are asked for


@dataclass(frozen=True)
class EnergyDistance:
    """The energy distance of two samples, and how surprising it is if they have one distribution.

    value    2 E|X - Y| - E|X - X'| - E|Y - Y'| of the samples' empirical distributions: 0 if they are equal
    null     its mean over random relabellings: what samples of these sizes differ by if nothing is different
    p_value  the share of relabellings, the given one among them, with a value at least as large
    sizes    (N, M)
    """

    value: float
    null: float
    p_value: float
    sizes: tuple[int, int]
    permutations: int

    def __repr__(self) -> str:
        told = self.p_value <= 0.01
        verdict = "the samples differ" if told else "no difference is seen at samples of this size"
        return (
            f"energy distance {self.value:.4g} (by chance {self.null:.4g}; p = {self.p_value:.3g} of "
            f"{self.permutations:,} permutations; {self.sizes[0]:,} and {self.sizes[1]:,} rows): {verdict}"
        )


@dataclass(frozen=True)
class FrechetDistance:
    """The squared Frechet distance of the Gaussians of two samples' features.

    value     |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))
    features  what the Gaussians are of
    width     F
    sizes     (N, M)
    """

    value: float
    features: str
    width: int
    sizes: tuple[int, int]

    @property
    def caution(self) -> str:
        """A sentence where the covariances are of too few rows; empty otherwise."""
        if min(self.sizes) <= 2 * self.width:
            return (
                f"{min(self.sizes):,} rows for {self.width} features: the covariances are ill-determined and "
                f"the distance is too large; compare it with that between two halves of the data"
            )
        return ""

    def __repr__(self) -> str:
        caution = f". {self.caution}" if self.caution else ""
        return (
            f"Frechet distance {self.value:.4g} (squared) of {self.features}, {self.width} features, "
            f"{self.sizes[0]:,} and {self.sizes[1]:,} rows{caution}"
        )


@torch.no_grad()
def energy_distance(x: Any, y: Any, *, permutations: int = 999, seed: int = 0) -> EnergyDistance:
    """The energy distance of two samples, with a permutation test of equal distributions.

        E = (2 / NM) sum_ij |x_i - y_j| - (1 / N^2) sum_ij |x_i - x_j| - (1 / M^2) sum_ij |y_i - y_j|

    x, y          `[N, *event]` and `[M, *event]`: arrays or tensors, in the same units; scale columns whose
                  units differ
    permutations  random relabellings of the rows; 0 for none, and a p-value that is NaN

    E is never negative, zero only for equal samples, and its population value only for equal distributions.
    In one dimension it is 2 int (F - G)^2. Distances are made a few rows at a time: the memory is that of the
    samples and (N + M) x permutations numbers. Raises ValueError for fewer than two rows, events of different
    sizes, and values that are not finite.

    Szekely & Rizzo (2013), "Energy statistics: a class of statistics based on distances", eq. 6.1.
    """
    if permutations < 0:
        raise ValueError(f"permutations must not be negative, got {permutations}")
    one, other = _samples(x, y)
    n, m = len(one), len(other)
    together = torch.cat([one, other])
    generator = torch.Generator(together.device).manual_seed(seed)
    labels = torch.zeros(n + m, permutations + 1, dtype=torch.float64, device=together.device)
    labels[:n, 0] = 1
    for k in range(permutations):
        order = torch.randperm(n + m, generator=generator, device=together.device)
        labels[order[:n], k + 1] = 1
    within, across = torch.zeros(2, permutations + 1, dtype=torch.float64, device=together.device)
    whole, step = 0.0, max(1, LIVE // (n + m))
    for start in range(0, n + m, step):
        at = slice(start, start + step)
        distances = torch.cdist(together[at], together)
        distances[torch.arange(len(distances)), torch.arange(start, start + len(distances))] = 0.0
        to_x = distances @ labels  # [rows, permutations + 1]
        within += (labels[at] * to_x).sum(0)
        across += ((1 - labels[at]) * to_x).sum(0)
        whole += float(distances.sum())
    energy = 2 * across / (n * m) - within / n**2 - (whole - within - 2 * across) / m**2
    value, others = float(energy[0]), energy[1:]
    rounding = 1e-12 * whole / (n + m) ** 2
    p = (1 + int((others >= value - rounding).sum())) / (1 + permutations) if permutations else math.nan
    null = float(others.mean()) if permutations else math.nan
    return EnergyDistance(max(0.0, value), null, p, (n, m), permutations)


@torch.no_grad()
def frechet_distance(
    x: Any, y: Any, features: Callable[[Tensor], Tensor] | None = None, *, chunk: int = 1000
) -> FrechetDistance:
    """The squared Frechet (2-Wasserstein) distance of Gaussians fitted to the features of two samples.

        d^2 = |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))

    x, y      `[N, *event]` and `[M, *event]`: arrays or tensors, in the same units
    features  maps a float tensor `[chunk, *event]` to `[chunk, F]`; the values themselves by default, for at
              most 256 entries
    chunk     rows given to `features` at a time

    With the features of an Inception network it is what the field calls FID; with others it is another
    number, comparable only to those of the same features. It is zero if both have the same mean and
    covariance, and on average too large for few rows. Raises ValueError for fewer than two rows, events of
    different shapes, values that are not finite, and more entries than 256 without `features`.

    Dowson & Landau (1982), "The Frechet distance between multivariate normal distributions", eq. 4; Heusel et
    al. (2017), "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", eq. 6.
    """
    one, other = _as_tensor(x, "x"), _as_tensor(y, "y")
    if one.shape[1:] != other.shape[1:]:
        raise ValueError(f"x has events of shape {tuple(one.shape[1:])}, and y {tuple(other.shape[1:])}")
    if features is None:
        if one[0].numel() > MOST_ENTRIES:
            raise ValueError(
                f"{one[0].numel():,} raw entries have no meaningful Gaussian: pass features=, a function "
                f"from [N, {', '.join(map(str, one.shape[1:]))}] to [N, F], such as a classifier's last "
                f"hidden layer"
            )
        first, second = _samples(x, y)
    else:
        first, second = (_featured(features, sample, chunk) for sample in (one, other))
    name = "the values themselves" if features is None else _name_of(features)
    mean_x, mean_y = first.mean(0), second.mean(0)
    cov_x, cov_y = _covariance(first, mean_x), _covariance(second, mean_y)
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT  # S_x^(1/2)
    overlap = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum()
    square = (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * overlap
    return FrechetDistance(max(0.0, float(square)), name, first.shape[1], (len(first), len(second)))


def _name_of(features: Callable[[Tensor], Tensor]) -> str:
    name = str(getattr(features, "__name__", type(features).__name__))
    return "given features" if name.startswith("<") else name


def _covariance(rows: Tensor, mean: Tensor) -> Tensor:
    centred = rows - mean
    return centred.mT @ centred / (len(rows) - 1)


def _featured(features: Callable[[Tensor], Tensor], sample: Tensor, chunk: int) -> Tensor:
    parts = []
    for some in torch.split(sample, chunk):
        found = features(some)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(some):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"features must give a tensor [{len(some)}, F], got {got}")
        parts.append(found.double())
    whole = torch.cat(parts)
    if not bool(torch.isfinite(whole).all()):
        raise ValueError("features gave values that are not finite")
    return whole


def _samples(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both samples flat, `[N, D]` and `[M, D]` in float64, less the mean of x."""
    one, other = (_as_tensor(v, name).double().flatten(1) for v, name in ((x, "x"), (y, "y")))
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"x has {one.shape[1]} entries per row, and y has {other.shape[1]}")
    centre = one.mean(0)
    return one - centre, other - centre


def _as_tensor(value: Any, name: str) -> Tensor:
    tensor = torch.as_tensor(value)
    if tensor.ndim == 1:
        tensor = tensor.unsqueeze(1)
    if tensor.ndim == 0 or len(tensor) < 2:
        raise ValueError(f"{name} must hold at least two rows, got shape {tuple(tensor.shape)}")
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} holds values that are not finite: leave out rows with missing entries")
    return tensor
