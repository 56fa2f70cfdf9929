"""BayesianNormal: Gaussians whose means and precisions have a posterior. Bishop (2006), section 10.2.

K states, D entries of an event, P rows of one Wishart, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from .._recorded import recorded
from ..factor import CannotMarginaliseError, Moments
from ..numerics import sum_event
from ._conjugacy import Numbers, expected_log_det, normal_kl, normal_wishart, refuse_prior, wishart_kl
from ._tabular import Tabular, plain
from .covariances import Covariance, Diagonal, Full, LowRank, Spherical, Tied
from .gaussian import DiagonalNormal, FullNormal, IndependentNormal
from .normal_estimation import by_state, constrained_tril, scatter_sums, shifted_scatter, variance_sums
from .student import Student


@recorded
class BayesianNormal(Tabular):
    """p(x | k, mu, Lambda) = N(x; mu_k, Lambda_k^-1), whose means and precisions have a posterior.

        Full      Lambda_k ~ Wishart(nu_k, S_k^-1),       mu_k | Lambda_k ~ N(m_k, (beta_k Lambda_k)^-1)
        Tied      the same with one Lambda for all states
        Diagonal  each precision ~ Gamma(nu_k / 2, rate S_kd / 2), a Wishart with D = 1
        Spherical lambda_k ~ Gamma(D nu_k / 2, rate D S_k / 2)

    states            K, of a parent that is given as integer codes; 1 where nothing is given
    event             the shape of one value; Full() and Tied() are for flat events
    mean_prior        m_0, one number for all entries or one per entry
    strength          beta_0: how many examples the prior mean counts for
    degrees           nu_0, above D - 1 with Full() and Tied(), above 0 with the others; by default D. The
                      prior expects a precision of nu_0 S_0^-1
    covariance_prior  S_0: a number (times I), a variance per entry, or with Full() and Tied() a matrix

    `maximize` sets the posterior, nu = nu_0 + N, beta = beta_0 + N, and m and S of Bishop's eqs. 10.60-10.63.
    `log_prob` is the prediction, a Student's t (eq. 10.81), and `expected_log_prob` E[log p(x | k, mu,
    Lambda)] (eqs. 10.64-10.65, and their counterparts for variances); entries missing under Full() and Tied()
    have no closed form in the latter. Raises ValueError for sizes below 1 and priors that are not proper.
    """

    is_bayesian = True
    loc: Tensor  # m, [K, D]
    strength: Tensor  # beta, [K, 1]; of variances [K, D], as each entry may be seen in other examples
    degrees: Tensor  # of the Wisharts: Full [K, 1], Tied [1, 1], Diagonal [K, D], Spherical [K, 1] (D nu)
    root: Tensor  # L of E[Lambda]^-1 = L L^T: [K, D, D], [1, D, D]; deviations [K, D], [K, 1]

    def __init__(
        self,
        states: int,
        event: int | Sequence[int],
        given: str | Sequence[str] = "k",
        *,
        covariance: Covariance = Full(),  # noqa: B008 (frozen)
        mean_prior: Numbers = 0.0,
        strength: float = 1.0,
        degrees: float | None = None,
        covariance_prior: Numbers = 1.0,
    ) -> None:
        super().__init__(None, given, event=event)
        if states < 1 or len(self.given) > 1 or (not self.given and states > 1):
            raise ValueError(
                f"BayesianNormal has one parent of at least 1 state, or no parent and 1 state, got "
                f"states={states}, given={self.given}"
            )
        if isinstance(covariance, LowRank):
            raise ValueError("the posterior of a LowRank covariance has no closed form: use Full()")
        self.takes_codes = True
        self.states, self.covariance = states, covariance
        if self._whole and len(self.event) != 1:
            raise ValueError(f"{covariance} needs a flat event such as (10,), got {self.event}")
        self.prior = normal_wishart(covariance, self.event, mean_prior, strength, degrees, covariance_prior)
        start, entries, dtype = self.prior, self._entries, torch.get_default_dtype()
        rows = 1 if isinstance(covariance, Tied) else states
        width = entries if isinstance(covariance, Diagonal) else 1
        root = self._root(start.scatter / start.degrees)
        self.register_buffer("loc", start.mean.repeat(states, 1).to(dtype))
        self.register_buffer(
            "strength", torch.full((states, entries if not self._whole else 1), start.strength)
        )
        self.register_buffer("degrees", torch.full((rows, width), start.degrees))
        self.register_buffer("root", root.repeat(rows, *(1,) * root.ndim).to(dtype))

    @property
    def has_closed_form(self) -> bool:
        return True

    @property
    def covariances(self) -> Tensor:
        """E[Lambda]^-1 = S / nu: `[K, D, D]`; Tied `[1, D, D]`, Diagonal `[K, D]`, Spherical `[K, 1]`."""
        return self.root @ self.root.mT if self._whole else self.root.square()

    @property
    def _whole(self) -> bool:
        """Whether a precision is a matrix, not a list of numbers."""
        return isinstance(self.covariance, Full | Tied)

    @property
    def _entries(self) -> int:
        return math.prod(self.event)

    @property
    def _size(self) -> int:
        """P, the rows of one Wishart."""
        return self._entries if self._whole else 1

    def _root(self, covariance: Tensor) -> Tensor:
        return constrained_tril(covariance, 0.0) if self._whole else covariance.sqrt()

    def _codes_of(self, parents: Sequence[Tensor]) -> Tensor:
        return self._codes(parents, self.loc)

    def _gaussian(self, codes: Tensor, wider: Tensor | None = None) -> Distribution:
        """N(m, E[Lambda]^-1) of states `[*, B]`, deviations times `wider`, which is `[K, 1]` or `[K, D]`."""
        shape = (*codes.shape, *self.event)
        loc = self.loc[codes].reshape(shape)
        if self._whole:
            tied = isinstance(self.covariance, Tied)
            root = self.root[0] if tied else self.root[codes]
            return FullNormal(loc, root if wider is None else root * wider[codes].unsqueeze(-1))
        scale = self.root if wider is None else self.root * wider
        scale = scale.expand(self.loc.shape)[codes].reshape(shape)
        if wider is not None and isinstance(self.covariance, Diagonal):
            return DiagonalNormal(loc, scale)
        return IndependentNormal(DiagonalNormal(loc, scale), len(self.event), validate_args=False)

    def distribution(self, *parents: Tensor) -> Distribution:
        """The prediction of one value: t of nu + 1 - P degrees, its Sigma S (1 + 1/beta) / (nu + 1 - P)."""
        codes = self._codes_of(parents)
        degrees = self.degrees + 1 - self._size
        wider = (self.degrees / degrees * (1 + 1 / self.strength)).sqrt()
        gaussian = self._gaussian(codes, wider)
        if isinstance(self.covariance, Diagonal):
            student = Student(degrees[codes].reshape(*codes.shape, *self.event), gaussian)
            return Independent(student, len(self.event), validate_args=False)
        return Student(degrees.expand(self.states, 1)[codes].squeeze(-1), gaussian)

    def marginal_log_prob(self, distribution: Distribution, value: Tensor, observed: Tensor) -> Tensor:
        """The exact marginal of the prediction."""
        if isinstance(distribution, Student):
            return distribution.marginal_log_prob(value, observed)
        return super().marginal_log_prob(distribution, value, observed)

    def mean(self, distribution: Distribution) -> Tensor:
        """m, the prediction's centre: it has no mean where a state of one degree of freedom is empty."""
        return distribution.mode

    def expected_log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        """log N(x; m, E[Lambda]^-1) + 1/2 (E[log det Lambda] + log det E[Lambda]^-1 - D / beta).

        Raises CannotMarginaliseError for entries missing under Full() and Tied().
        """
        codes = self._codes_of(parents)
        gaussian, surplus = self._gaussian(codes), self._surplus().to(self.loc)[codes]
        if observed is None or observed.ndim == 1:
            log_p: Tensor = gaussian.log_prob(value) + surplus.sum(-1)
            return log_p if observed is None else torch.where(observed, log_p, torch.zeros_like(log_p))
        if not isinstance(gaussian, Independent):
            raise CannotMarginaliseError(
                f"BayesianNormal with {self.covariance} has no closed-form posterior of its parameters then: "
                f"use covariance=Diagonal() or Spherical(), or gaussian_mixture"
            )
        entries = gaussian.base_dist.log_prob(value) + surplus.reshape(gaussian.base_dist.loc.shape)
        return sum_event(torch.where(observed, entries, torch.zeros_like(entries)), len(self.event))

    def _surplus(self) -> Tensor:
        """What the uncertainty of mu and Lambda adds to log N(x; m, E[Lambda]^-1): `[K, 1]`, or by entry."""
        log_det = expected_log_det(self.degrees.double(), self._size)
        return 0.5 * (log_det - self._size / self.strength.double())

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """count, first and second about m, as `Normal.statistics` gives them."""
        mean = plain(self, value)
        mean = mean.reshape(*mean.shape[: mean.ndim - len(self.event)], self._entries)
        if observed is not None and observed.ndim > 1:
            observed = observed.reshape(len(observed), self._entries)
        given = by_state(self.states, self._codes(parents, weight), mean, None, observed, weight)
        if self._whole:
            return scatter_sums(given, self.loc.double(), isinstance(self.covariance, Tied))
        return variance_sums(given, self.loc.double())

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """The posterior of means and precisions, from N = sum w and x_bar of each state:

            beta = beta_0 + N,  m = (beta_0 m_0 + N x_bar) / beta,  nu = nu_0 + N
            S = S_0 + sum w (x - m)(x - m)^T + beta_0 (m - m_0)(m - m_0)^T

        Under Tied() nu and S have the sums over all states, under Spherical() S has the mean over entries.

        Raises TypeError for a prior: it was given at construction.
        """
        refuse_prior(self, prior)
        count, first, second = (statistics[name] for name in ("count", "first", "second"))
        start, loc = self.prior, self.loc.double()
        mean, scatter = start.mean.to(loc), start.scatter.to(loc)
        strength = start.strength + count
        move = (first + start.strength * (mean - loc)) / strength
        beyond = loc + move - mean
        if self._whole:
            sums = shifted_scatter(count, first, move)
            sums = sums + start.strength * beyond.unsqueeze(-1) * beyond.unsqueeze(-2)
            if isinstance(self.covariance, Tied):
                sums, count = sums.sum(0, keepdim=True), count.sum(0, keepdim=True)
            sums = second + sums
        else:
            sums = second - 2 * move * first + count * move.square() + start.strength * beyond.square()
            sums = sums.clamp(min=0)
            if isinstance(self.covariance, Spherical):
                sums, count = sums.sum(1, keepdim=True), count.sum(1, keepdim=True)
        degrees = start.degrees + count
        covariance = (scatter + sums) / (degrees.unsqueeze(-1) if self._whole else degrees)
        self.loc.copy_(loc + move)
        self.strength.copy_(strength)
        self.degrees.copy_(degrees)
        self.root.copy_(self._root(covariance))

    def parameter_kl(self) -> Tensor:
        """That of the means, and that of the precisions. Bishop (2006), eqs. 10.74 and 10.77."""
        start, root, degrees = self.prior, self.root.double(), self.degrees.double()
        beyond = self.loc.double() - start.mean.to(root)
        prior_root = self._root(start.scatter.to(root) / start.degrees)
        if self._whole:
            away = torch.linalg.solve_triangular(root, beyond.unsqueeze(-1), upper=False)
            degrees = degrees.squeeze(-1)
        else:
            away = beyond / root
            root, prior_root = root[..., None, None], prior_root[..., None, None]
        means: Tensor = self._size * normal_kl(self.strength.double(), start.strength).sum()
        means = means + 0.5 * start.strength * away.square().sum()
        return means + wishart_kl(degrees, root, start.degrees, prior_root).sum()

    @property
    def free_parameters(self) -> int:
        """As many as Normal has: the prediction learns as many numbers from the data."""
        size = self._entries
        return self.loc.numel() + (
            len(self.root) * size * (size + 1) // 2 if self._whole else self.root.numel()
        )

    def extra_repr(self) -> str:
        return f"{self.states} states, {super().extra_repr()}, {self.covariance}"
