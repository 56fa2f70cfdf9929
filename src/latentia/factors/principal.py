"""Principal axes: the closed-form maximum likelihood of probabilistic PCA, from moments or from rows.

N rows, D entries of an event, M latent dimensions. Everything is returned in float64.

Tipping & Bishop (1999), "Probabilistic principal component analysis".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2000  # rows whose product is accumulated at once
BLOCK = 112  # of the product's rows, each from its diagonal on
NO_ROWS = "there are no rows, or none has a weight above 0: they have no mean"


@dataclass(frozen=True, eq=False)
class Summary:
    """All that a linear-Gaussian model needs to know of rows without holes, however many they are.

    count       their total weight, a scalar
    mean        `[D]`
    covariance  `[D, D]`, divided by the count (maximum likelihood)
    """

    count: Tensor
    mean: Tensor
    covariance: Tensor


class PrincipalAxes(NamedTuple):
    """The maximum likelihood of x = W z + b + noise, z ~ N(0, I), noise ~ N(0, sigma^2 I).

    mean      b, `[D]`
    weight    W = U_M (Lambda_M - sigma^2 I)^1/2, `[D, M]` (eq. 7); the largest entry of a column is positive
    noise     sigma^2, the mean of the D - M eigenvalues left out (eq. 8), a scalar
    variance  of each entry of the data, `[D]`
    """

    mean: Tensor
    weight: Tensor
    noise: Tensor
    variance: Tensor


def summarise(x: Tensor, weight: Tensor | None = None) -> Summary:
    """Count, mean and covariance of rows `[N, *event]`, each counted `weight` `[N]` times.

    Products are taken of differences from the mean of some rows, in the precision of x, and accumulated in
    float64. Raises ValueError for rows of no weight.
    """
    rows = _rows(x)
    if not len(rows):
        raise ValueError(NO_ROWS)
    share = None if weight is None else weight.to(rows)
    shift = rows[:: -(-len(rows) // CHUNK)].mean(0)
    total = rows.new_zeros(rows.shape[1], dtype=torch.float64)
    products = total.new_zeros(len(total), len(total))
    memory = rows.new_empty(min(CHUNK, len(rows)), len(total))
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        difference = torch.sub(chunk, shift, out=memory[: len(chunk)])
        if share is None:
            total += difference.sum(0)
        else:
            weighing = share[start : start + CHUNK]
            total += weighing @ difference
            difference *= weighing.sqrt().unsqueeze(-1)
        _add_products(products, difference)
    count = total.new_tensor(len(rows)) if share is None else share.double().sum()
    if not count > 0:
        raise ValueError(NO_ROWS)
    away = total / count
    covariance = (products.triu() + products.triu(1).mT) / count - torch.outer(away, away)
    return Summary(count, shift.double() + away, covariance)


def principal_axes(mean: Tensor, covariance: Tensor, latent: int) -> PrincipalAxes:
    """PPCA of M = `latent` dimensions from the mean `[D]` and the covariance `[D, D]`.

    Raises ValueError when M is not below D, or for a covariance that is not finite.
    """
    _check_latent(latent, len(covariance))
    covariance = covariance.detach().double()
    values, vectors = _largest(covariance, latent)
    return _axes(mean.detach().double(), values, vectors, covariance.diagonal())


def principal_axes_of(x: Tensor, latent: int, weight: Tensor | None = None) -> PrincipalAxes:
    """PPCA of rows `[N, *event]`, each counted `weight` `[N]` times.

    By the covariance `[D, D]`, or, with fewer rows than entries, by the rows' inner products `[N, N]`, which
    have the same eigenvalues. Raises ValueError as `principal_axes` and `summarise` do.
    """
    rows = _rows(x)
    _check_latent(latent, rows.shape[1])
    if len(rows) >= rows.shape[1]:
        summary = summarise(rows, weight)
        return principal_axes(summary.mean, summary.covariance, latent)
    share = rows.new_ones(len(rows)) if weight is None else weight
    share = share.double() / share.sum().double()
    if not share.isfinite().all():
        raise ValueError(NO_ROWS)
    mean = share @ rows.double()
    scaled = (rows.double() - mean) * share.sqrt().unsqueeze(-1)
    values, directions = _largest(scaled @ scaled.mT, min(latent, len(rows)))
    vectors = scaled.mT @ directions / values.clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    lacking = latent - len(values)
    values, vectors = (torch.nn.functional.pad(tensor, (0, lacking)) for tensor in (values, vectors))
    return _axes(mean, values, vectors, scaled.square().sum(0))


def _axes(mean: Tensor, values: Tensor, vectors: Tensor, variance: Tensor) -> PrincipalAxes:
    """Equations 7 and 8, from the M largest eigenvalues, their vectors, and all variances."""
    noise = ((variance.sum() - values.sum()) / (len(variance) - len(values))).clamp(min=0)
    weight = vectors * (values - noise).clamp(min=0).sqrt()
    peaks = weight.gather(0, weight.abs().argmax(0, keepdim=True))
    return PrincipalAxes(mean, torch.where(peaks < 0, -weight, weight), noise, variance)


def _rows(x: Tensor) -> Tensor:
    rows = x.detach().flatten(1)
    return rows if rows.dtype in (torch.float32, torch.float64) else rows.float()


def _add_products(total: Tensor, rows: Tensor) -> None:
    """Add rows^T rows to the upper triangle of `total`, on a CPU without what is below it: half the work."""
    if rows.device.type != "cpu":
        total += rows.mT @ rows
    elif rows.dtype == torch.float64:  # BLAS's routine for it, which in float32 is slower than what follows
        from scipy.linalg import blas

        blas.dsyrk(1.0, rows.numpy().T, beta=1.0, c=total.numpy().T, overwrite_c=1, lower=1)
    else:
        for start in range(0, len(total), BLOCK):
            block = slice(start, start + BLOCK)
            total[block, start:] += rows[:, block].mT @ rows[:, start:]


def _largest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of a symmetric matrix, largest first, and their vectors as columns."""
    if not matrix.isfinite().all():
        raise ValueError("the covariance is not finite: are there missing or infinite values?")
    if matrix.device.type == "cpu":
        from scipy.linalg import eigh

        size = len(matrix)
        found = eigh(matrix.numpy(), subset_by_index=[size - count, size - 1])
        values, vectors = (torch.from_numpy(part) for part in found)
    else:
        values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0)[:count].clamp(min=0), vectors.flip(1)[:, :count]


def _check_latent(latent: int, size: int) -> None:
    if not 1 <= latent < size:
        raise ValueError(
            f"{size} entries have principal axes for 1 to {size - 1} latent dimensions, got latent={latent}: "
            f"the noise is estimated from what the axes leave over"
        )
