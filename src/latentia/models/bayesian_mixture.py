"""The variational Bayes mixture of Gaussians.

D entries of a flat event, K components, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..exact import Exact
from ..factors import BayesianCategorical, BayesianNormal, Diagonal, Full, Spherical, Tied
from ..factors.covariances import Covariance
from ..factors.normal_estimation import constrained_tril
from ..joint import MASK, Joint
from ..model import Model
from ._build import seeded
from .mixtures import _shape_for

if TYPE_CHECKING:
    from ..data import Data

Numbers = float | Sequence[float] | Tensor


@seeded
def bayesian_gaussian_mixture(
    event: int | Sequence[int] | None = None,
    components: int = 8,
    *,
    covariance: Covariance | None = None,
    concentration: float | None = None,
    mean_prior: Numbers | None = None,
    strength: float = 1.0,
    degrees: float | None = None,
    covariance_prior: Numbers | None = None,
    floor: float = 1e-3,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(k | pi) N(x; mu_k, Lambda_k^-1), parameters with a posterior: superfluous components empty out.

    The priors are conjugate, pi ~ Dirichlet and (mu_k, Lambda_k) ~ Normal-Wishart.

    event             as in `gaussian_mixture`, and so `components`, `covariance` (no LowRank) and `data`
    concentration     of the Dirichlet, for each component; 1/K by default
    mean_prior        the mean of mu_k; that of the training rows where `data` are given, otherwise 0
    strength          how many rows it counts for
    degrees           of freedom of each component's Wishart, D by default
    covariance_prior  S_0, an expected precision of degrees S_0^-1; the covariance of the training rows (its
                      diagonal, or the mean of that) where `data` are given, otherwise I
    floor             no standard deviation of that covariance is below it

    These are scikit-learn's defaults for BayesianGaussianMixture. With Tied() the one Wishart has K times the
    degrees and K times S_0, which is what it has there. With Diagonal() and Spherical() scikit-learn takes
    E[log det Lambda] of a full Wishart, we that of the variances, so responsibilities differ a little.

    `fit` is variational Bayes by EM's two steps: it climbs a lower bound on log p(all training rows), in
    which the parameters are integrated out. model.p["k"].concentration is then the prior's plus the rows of
    each component. `log_evidence` is log p(row | what was learnt), exact for the mixture of Student's t that
    predicts a new row: its sum over the training rows is not the model's evidence, which the bound is for.

    Raises ValueError for sizes below 1, priors that are not proper, data that are not numbers, and data with
    holes under Full() and Tied(). Bishop (2006), section 10.2; Attias (1999), "Inferring parameters and
    structure of latent variable models by variational Bayes".
    """
    shape = _shape_for("normal", event, components, data)
    covariance = covariance or (Diagonal() if len(shape) > 1 else Full())
    if data is not None and (mean_prior is None or covariance_prior is None):
        mean, spread = _moments(data, covariance, floor)
        mean_prior = mean if mean_prior is None else mean_prior
        covariance_prior = spread if covariance_prior is None else covariance_prior
    scatter = torch.as_tensor(1.0 if covariance_prior is None else covariance_prior, dtype=torch.float64)
    if isinstance(covariance, Tied):
        degrees, scatter = components * (shape[0] if degrees is None else degrees), components * scatter
    x = BayesianNormal(
        components,
        shape,
        covariance=covariance,
        mean_prior=0.0 if mean_prior is None else mean_prior,
        strength=strength,
        degrees=degrees,
        covariance_prior=scatter,
    )
    p = Joint(k=BayesianCategorical(components, concentration), x=x)
    return Model(p, Exact(p), data.schema if data is not None else None)


def _moments(data: Data, covariance: Covariance, floor: float) -> tuple[Tensor, Tensor]:
    """Mean `[D]` and covariance of the training rows in model units, the latter in the form S_0 has."""
    name = data.schema.main
    values = data.train.batch(slice(None))
    x = values[name].double().flatten(1)
    seen = values[name + MASK].flatten(1) if name + MASK in values else torch.ones_like(x, dtype=torch.bool)
    whole = isinstance(covariance, Full | Tied)
    if whole and not seen.all():
        raise ValueError(
            f"{name!r} has missing entries, and variational Bayes has no closed form for them with "
            f"{covariance}: use covariance=Diagonal() or Spherical(), or gaussian_mixture"
        )
    count = seen.sum(0)
    if (count < 2).any():
        raise ValueError(
            "the prior's covariance needs two training rows, and two entries in each column: pass "
            "mean_prior and covariance_prior"
        )
    mean = torch.where(seen, x, 0).sum(0) / count
    away = torch.where(seen, x - mean, 0)
    if whole:
        root = constrained_tril(away.mT @ away / (len(x) - 1), floor)
        return mean, root @ root.mT
    variance = (away.square().sum(0) / (count - 1)).clamp(min=floor**2)
    return mean, variance.mean() if isinstance(covariance, Spherical) else variance
