"""Conjugate distributions of parameters: Kullback-Leibler divergences and expectations, in closed form.

P rows of a precision matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dirichlet_kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(Dirichlet(q) || Dirichlet(p)), concentrations `[K]`: a scalar."""
    difference = torch.lgamma(p).sum() - torch.lgamma(p.sum()) - torch.lgamma(q).sum() + torch.lgamma(q.sum())
    return difference + ((q - p) * (torch.digamma(q) - torch.digamma(q.sum()))).sum()


def expected_log_det(degrees: Tensor, size: int) -> Tensor:
    """E[log det Lambda] + log det C, for Lambda ~ Wishart of `degrees` nu and of mean C^-1, P = size.

        sum_i=1^P digamma((nu + 1 - i) / 2) + P log(2 / nu)

    It is below 0, and 0 in the limit of large nu. Bishop (2006), eq. 10.65; with P = 1 Lambda is
    Gamma(nu / 2, rate nu C / 2).
    """
    return _multivariate_digamma(degrees / 2, size) + size * (2 / degrees).log()


def wishart_kl(degrees: Tensor, root: Tensor, prior_degrees: float, prior_root: Tensor) -> Tensor:
    """KL between Wisharts, each of degrees nu and of mean (L L^T)^-1, L = root `[..., P, P]`: `[...]`.

    With S = nu L L^T, and S_0 of the prior:

        nu_0/2 (log det S - log det S_0) + log G_P(nu_0/2) - log G_P(nu/2) + (nu - nu_0)/2 digamma_P(nu/2)
        + nu/2 (tr(S^-1 S_0) - P)
    """
    size = root.shape[-1]
    half, prior_half = degrees / 2, torch.full_like(degrees, prior_degrees / 2)
    whitened = torch.linalg.solve_triangular(root, prior_root.expand(root.shape), upper=False)
    trace = prior_degrees / degrees * whitened.square().sum((-2, -1))
    log_dets = [2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) for tril in (root, prior_root)]
    log_ratio = log_dets[0] - log_dets[1] + size * (degrees / prior_degrees).log()
    normalisers = torch.mvlgamma(prior_half, size) - torch.mvlgamma(half, size)
    pull = (half - prior_half) * _multivariate_digamma(half, size)
    return prior_half * log_ratio + normalisers + pull + half * (trace - size)


def normal_kl(strength: Tensor, prior_strength: float) -> Tensor:
    """KL(N(m, 1 / strength) || N(m, 1 / prior_strength)) = 1/2 (r - 1 - log r), r = prior_strength / strength.

    Each entry of a mean adds it; `prior_strength` / 2 times the expected distance of the means comes on top.
    """
    ratio = prior_strength / strength
    return 0.5 * (ratio - 1 - ratio.log())


def _multivariate_digamma(x: Tensor, size: int) -> Tensor:
    """sum_i=0^P-1 digamma(x - i / 2), the derivative of log G_P."""
    steps = torch.arange(size, dtype=x.dtype, device=x.device) / 2
    return torch.digamma(x.unsqueeze(-1) - steps).sum(-1)
