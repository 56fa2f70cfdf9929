"""Conjugate distributions of parameters: priors, divergences and expectations, in closed form.

D entries of an event, P rows of a precision matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..factor import Factor
from .covariances import Covariance, Full, Spherical, Tied

Numbers = float | Sequence[float] | Tensor


@dataclass(frozen=True)
class NormalWishart:
    """mu ~ N(mean, (strength Lambda)^-1), Lambda ~ Wishart(degrees, scatter^-1), in float64.

    mean     `[D]`
    scatter  S_0, `[D, D]`, of variances `[D]`, or `[1]`
    """

    mean: Tensor
    strength: float
    degrees: float
    scatter: Tensor


def normal_wishart(
    covariance: Covariance,
    event: Sequence[int],
    mean: Numbers,
    strength: float,
    degrees: float | None,
    scatter: Numbers,
) -> NormalWishart:
    """The prior of a covariance's means and precisions; a spherical one counts the D entries of each example.

    Raises ValueError where it is not proper, or not of the event's size.
    """
    entries = math.prod(event)
    whole = isinstance(covariance, Full | Tied)
    least, nu = entries - 1 if whole else 0, float(entries if degrees is None else degrees)
    if not strength > 0 or not nu > least:
        raise ValueError(f"strength must be above 0 and degrees above {least}, got {strength} and {nu:g}")
    location = torch.as_tensor(mean, dtype=torch.float64).reshape(-1)
    if location.numel() not in (1, entries) or not bool(location.isfinite().all()):
        raise ValueError(f"mean_prior must be one number or {entries}, all finite, got {mean}")
    if whole:
        found = torch.as_tensor(scatter, dtype=torch.float64)
        found = found * torch.eye(entries, dtype=torch.float64) if found.ndim < 2 else found
        symmetric = found.shape == (entries, entries) and torch.allclose(found, found.mT)
        if not symmetric or torch.linalg.cholesky_ex(found).info > 0:
            raise ValueError(
                f"covariance_prior must be a positive number, or a positive definite matrix of "
                f"{entries} x {entries}, got {scatter}"
            )
    elif isinstance(covariance, Spherical):
        nu, found = nu * entries, entries * numbers_of("covariance_prior", scatter, 1)
    else:
        found = numbers_of("covariance_prior", scatter, entries).expand(entries)
    return NormalWishart(location.expand(entries), float(strength), nu, found.clone())


def numbers_of(name: str, value: Numbers, count: int) -> Tensor:
    """Positive numbers, one or `count`, as float64 `[1]` or `[count]`. Raises ValueError for others."""
    numbers = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    if numbers.numel() not in (1, count) or not bool((numbers.isfinite() & (numbers > 0)).all()):
        many = f"one positive number or {count}" if count > 1 else "a positive number"
        raise ValueError(f"{name} must be {many}, got {value}")
    return numbers


def refuse_prior(factor: Factor, prior: object | None) -> None:
    """Raise TypeError for a prior at `maximize`: a Bayesian factor has its own."""
    if prior is not None:
        raise TypeError(f"{type(factor).__name__} was given its prior when it was built, got {prior} too")


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
    divergence: Tensor = prior_half * log_ratio + normalisers + pull + half * (trace - size)
    return divergence


def normal_kl(strength: Tensor, prior_strength: float) -> Tensor:
    """KL between normals of one mean: 1/2 (r - 1 - log r), r = prior_strength / strength.

    Each entry of a mean adds it; `prior_strength` / 2 times the expected distance of the means comes on top.
    """
    ratio = prior_strength / strength
    return 0.5 * (ratio - 1 - ratio.log())


def _multivariate_digamma(x: Tensor, size: int) -> Tensor:
    """sum_i=0^P-1 digamma(x - i / 2), the derivative of log G_P."""
    steps = torch.arange(size, dtype=x.dtype, device=x.device) / 2
    return torch.digamma(x.unsqueeze(-1) - steps).sum(-1)
