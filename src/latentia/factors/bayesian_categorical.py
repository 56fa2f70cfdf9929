"""BayesianCategorical: codes whose probabilities have a Dirichlet posterior.

K codes, B examples.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution

from .._recorded import recorded
from ..codings import OneHot
from ..factor import Moments
from ..noise import BoundNoise
from ._conjugacy import Numbers, dirichlet_kl, numbers_of, refuse_prior
from ._tabular import Tabular, plain, refuse_large, seen_of


@recorded
class BayesianCategorical(Tabular):
    """p(k | pi) = pi_k, pi ~ Dirichlet(a): codes whose probabilities have a posterior.

    classes        K
    concentration  a_0 of the prior, one number for all codes or one per code; 1/K by default, under which
                   codes that the data do not need die out

    `maximize` sets a = a_0 + n from the expected counts n. `log_prob` is the prediction log E[pi_k] =
    log(a_k / sum_j a_j), `expected_log_prob` is E[log pi_k] = digamma(a_k) - digamma(sum_j a_j). Raises
    ValueError for sizes below 1, or concentrations that are not positive or not K.
    """

    is_bayesian = True
    concentration: Tensor

    def __init__(self, classes: int, concentration: Numbers | None = None) -> None:
        if classes < 1:
            raise ValueError(f"BayesianCategorical needs at least 1 class, got {classes}")
        super().__init__(event=())
        self.classes, self.coding = classes, OneHot(classes)
        prior = numbers_of("concentration", 1 / classes if concentration is None else concentration, classes)
        self.prior = prior.expand(classes).clone()
        self.register_buffer("concentration", self.prior.to(torch.get_default_dtype()))

    @property
    def has_closed_form(self) -> bool:
        return True

    @property
    def rows(self) -> Tensor:
        return self.concentration.unsqueeze(0)

    def distribution(self, *parents: Tensor) -> Distribution:
        """The prediction of one code."""
        return TorchCategorical(logits=self.concentration.log(), validate_args=False)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return torch.argmax(self.concentration.log() + noise((self.classes,), "gumbel"), dim=-1)

    def mean(self, distribution: Distribution) -> Tensor:
        """The most probable code."""
        return distribution.logits.argmax(-1)  # type: ignore[attr-defined, no-any-return]

    def support(self) -> Tensor:
        """The codes 0 ... K - 1, `[K]`."""
        refuse_large("BayesianCategorical", self.classes)
        return torch.arange(self.classes, device=self.concentration.device)

    def expected_log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        a = self.concentration.double()
        log_p = (torch.digamma(a) - torch.digamma(a.sum())).to(self.concentration)[value]
        return log_p if observed is None else torch.where(observed, log_p, torch.zeros_like(log_p))

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """count: expected counts of the codes, `[1, K]`."""
        hot = torch.nn.functional.one_hot(plain(self, value), self.classes).double()
        if observed is not None:
            hot = hot * seen_of(observed, hot)
        return {"count": self.sums(hot, parents, weight)}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """The posterior, Dirichlet(a_0 + n). Raises TypeError for a prior: it was given at construction."""
        refuse_prior(self, prior)
        self.concentration.copy_(self.prior.to(statistics["count"]) + statistics["count"].squeeze(0))

    @property
    def free_parameters(self) -> int:
        """K - 1, as of Categorical: the prediction learns as many numbers from the data."""
        return self.classes - 1

    def parameter_kl(self) -> Tensor:
        a = self.concentration.double()
        return dirichlet_kl(a, self.prior.to(a))
