"""Student's t, a Gaussian of uncertain scale: what is predicted of a Gaussian whose parameters are not known.

D entries of an event, B examples; batch shapes broadcast.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Chi2, Distribution, Independent

from ..numerics import sum_event
from .gaussian import FullNormal


class Student(Distribution):
    """x = mu + (g - mu) / sqrt(u / nu), g ~ N(mu, Sigma), u ~ chi^2(nu): one u for the D entries of g.

        log p(x) = log G((nu + D) / 2) - log G(nu / 2) - 1/2 log det(nu pi Sigma)
                   - (nu + D) / 2 log(1 + (x - mu)^T Sigma^-1 (x - mu) / nu),   G the gamma function

    degrees   nu, of the Gaussian's batch shape
    gaussian  a DiagonalNormal (D = 1), an IndependentNormal or a FullNormal

    Bishop (2006), eqs. 2.158-2.162.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, degrees: Tensor, gaussian: Distribution) -> None:
        self.degrees, self.gaussian = degrees, gaussian
        super().__init__(gaussian.batch_shape, gaussian.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Student:
        return Student(self.degrees.expand(batch_shape), self.gaussian.expand(batch_shape))

    @property
    def support(self) -> Any:
        return self.gaussian.support

    @property
    def mode(self) -> Tensor:
        """mu, the centre of symmetry, also where there is no mean."""
        return self.gaussian.mean

    @property
    def mean(self) -> Tensor:
        """mu, where nu > 1; elsewhere there is none, NaN."""
        return torch.where(self._by_entry(self.degrees) > 1, self.mode, math.nan)

    @property
    def variance(self) -> Tensor:
        """diag(Sigma) nu / (nu - 2), infinite where nu <= 2."""
        excess = self._by_entry(self.degrees) - 2
        finite = self.gaussian.variance * (1 + 2 / excess.clamp(min=torch.finfo(excess.dtype).tiny))
        return torch.where(excess > 0, finite, math.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        size = torch.Size(sample_shape)
        degrees = self.degrees.expand(self.batch_shape)
        spread = (Chi2(degrees, validate_args=False).rsample(size) / degrees).sqrt()
        return self.mode + (self.gaussian.rsample(size) - self.mode) / self._by_entry(spread)

    def log_prob(self, value: Tensor) -> Tensor:
        peak = self.gaussian.log_prob(self.mode)
        return self._density(peak, self.gaussian.log_prob(value), math.prod(self.event_shape))

    def marginal_log_prob(self, value: Tensor, observed: Tensor) -> Tensor:
        """log density of the observed entries, `[*lead, B]`: that of t with their part of mu and Sigma."""
        count = observed.reshape(len(observed), -1).sum(-1)
        peak, found = (self._marginal(at, observed) for at in (self.mode, value))
        return self._density(peak, found, count)

    def _marginal(self, value: Tensor, observed: Tensor) -> Tensor:
        """The Gaussian's log density of the observed entries."""
        if isinstance(self.gaussian, FullNormal):
            return self.gaussian.marginal_log_prob(value, observed)
        if not isinstance(self.gaussian, Independent):
            raise TypeError("a single entry has no marginal but itself")
        entries = self.gaussian.base_dist.log_prob(value)
        return sum_event(torch.where(observed, entries, torch.zeros_like(entries)), len(self.event_shape))

    def _density(self, peak: Tensor, found: Tensor, entries: int | Tensor) -> Tensor:
        """The log density, from the Gaussian's at mu and at the value: their difference is half the distance.

        Its constants are differences of large numbers, taken in float64.
        """
        nu = self.degrees.double()
        half = (nu + entries) / 2
        constant = torch.lgamma(half) - torch.lgamma(nu / 2) - (nu / 2).log() * entries / 2
        distance = 2 * (peak - found).clamp(min=0)
        return peak + constant.to(peak) - half.to(peak) * (distance / nu.to(peak)).log1p()

    def _by_entry(self, numbers: Tensor) -> Tensor:
        return numbers.reshape(*numbers.shape, *(1,) * len(self.event_shape))
