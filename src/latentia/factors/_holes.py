"""Missing entries of Gaussians whose covariance all rows share, by the precision's block of those entries.

m is the largest number of entries missing in a row; `*lead` as in a factor's contract, B rows, D entries. A
row costs m^3 and not D^3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Filled(NamedTuple):
    """What is known of missing entries given those observed, in float64.

    mean     the conditional mean; observed entries are as they are, `[*lead, B, D]`
    root     lower triangular L with L L^T = P_mm, the precision of the missing entries, `[*lead, B, m, m]`;
             of a row with fewer of them the rest of L is that of the identity
    places   where the missing entries stand, `[B, m]`
    missing  False where a row has fewer, `[B, m]`
    """

    mean: Tensor
    root: Tensor
    places: Tensor
    missing: Tensor

    def log_det(self) -> Tensor:
        """log det L, half of log det P_mm, `[*lead, B]`."""
        return self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def covariance(self) -> Tensor:
        """P_mm^-1 at the missing entries and 0 elsewhere, `[*lead, B, D, D]`."""
        inner = torch.cholesky_inverse(self.root) * _pairs(self.missing)
        size, (rows, count) = self.mean.shape[-1], self.places.shape
        where = (self.places.unsqueeze(-1) * size + self.places.unsqueeze(-2)).reshape(rows, count * count)
        whole = inner.new_zeros(*inner.shape[:-2], size * size)
        whole.scatter_(-1, where.expand(*inner.shape[:-2], -1), inner.flatten(-2))
        return whole.reshape(*inner.shape[:-2], size, size)


def filled(loc: Tensor, inverse: Tensor, value: Tensor, observed: Tensor) -> Filled:
    """Condition N(loc, Sigma) on the entries of value `[B, D]` that were observed, `[B, D]`.

    With P = Sigma^-1 and m, o the missing and the observed entries: N(mu_m - P_mm^-1 P_mo (x_o - mu_o),
    P_mm^-1). inverse: Sigma's L^-1 in float64, `[*lead, D, D]`. Bishop (2006), eqs. 2.73 and 2.75.
    """
    most = int((~observed).sum(-1).max())
    places = observed.int().argsort(dim=-1, stable=True)[:, :most]  # the missing first
    missing = ~observed.gather(-1, places)
    precision = inverse.mT @ inverse
    difference = torch.where(observed, value - loc, 0.0).double()  # [*lead, B, D]
    pull = (difference @ precision).gather(-1, places.expand(*difference.shape[:-1], -1)) * missing
    block = precision[..., places.unsqueeze(-1), places.unsqueeze(-2)] * _pairs(missing)
    root = torch.linalg.cholesky(block + torch.diag_embed((~missing).to(block)))
    step = torch.cholesky_solve(pull.unsqueeze(-1), root).squeeze(-1)
    move = torch.zeros_like(difference).scatter_(-1, places.expand(step.shape), step)
    mean = torch.where(observed, value.double(), loc.double() - move)
    return Filled(mean, root, places, missing)


def _pairs(missing: Tensor) -> Tensor:
    return missing.unsqueeze(-1) & missing.unsqueeze(-2)
