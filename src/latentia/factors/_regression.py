"""Weighted linear regression on a variable of which mean and covariance are known: sums over rows, solutions.

B rows, D entries regressed, M entries of z, K states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDING = 1e-13  # of sums of squares in float64, beside their size


def weighted_sums(
    difference: Tensor, mean: Tensor, covariance: Tensor | None, weight: Tensor, seen: Tensor | None
) -> dict[str, Tensor]:
    """What `LinearNormal.statistics` says, of one state: from d `[B, D]`, E[z] `[B, M]`, weight `[B]`.

    covariance of z: `[B or 1, M, M]`, None for zero. seen: 1 where an entry was observed, 0 in holes,
    `[B, D]`.
    """
    m = mean.shape[-1]
    u = torch.cat([mean, mean.new_ones(len(mean), 1)], dim=-1)
    weighted = weight.unsqueeze(-1) * u
    if seen is None:
        latent = (weighted.mT @ u).unsqueeze(0)
        if covariance is not None:
            shared = len(covariance) == 1
            latent[0, :m, :m] += (
                covariance[0] * weight.sum() if shared else torch.tensordot(weight, covariance, 1)
            )
    else:
        difference = difference * seen
        outer = weighted.unsqueeze(-1) * u.unsqueeze(-2)
        if covariance is not None:
            outer[:, :m, :m] += weight[:, None, None] * covariance
        latent = torch.tensordot(seen, outer, ([0], [0]))
    return {"latent": latent, "cross": difference.mT @ weighted, "square": weight @ difference.square()}


def regression(cross: Tensor, moments: Tensor, before: Tensor) -> Tensor:
    """cross moments^-1, `[..., D, M]`, of least norm where that is singular, the entries of z in one scale.

    moments `[..., 1 or D, M, M]`; before: their diagonal before z was centred, beside which an entry of z
    that does not vary is rounding, and gets no slope.
    """
    spread = moments.diagonal(dim1=-2, dim2=-1)
    scale = spread.where(spread > ROUNDING * before, torch.full_like(spread, math.inf)).sqrt()
    scaled = moments / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
    inverse = torch.linalg.pinv(scaled, rtol=ROUNDING, hermitian=True)
    return torch.einsum("kdm,kdmn->kdn", cross / scale, inverse) / scale
