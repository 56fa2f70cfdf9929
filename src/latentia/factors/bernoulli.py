"""Bernoulli: binary values, their logits from a net."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution, Independent

from .._recorded import recorded
from ..factor import Moments
from ..noise import BoundNoise
from ..numerics import log_bernoulli, softplus, sum_event
from ._tabular import (
    Tabular,
    check_unit_interval,
    is_binary,
    log_beta,
    log_odds,
    plain,
    refuse_large,
    seen_of,
)
from .lookup import binary_vectors
from .priors import Beta


class LogitBernoulli(TorchBernoulli):
    """Bernoulli: log p(x) = x l - log(1 + e^l) at logit l; grey x in [0, 1] are accepted as weights."""

    def __init__(self, logits: Tensor, validate_args: bool | None = False) -> None:
        self.logits = self._param = logits
        Distribution.__init__(self, logits.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogitBernoulli:
        return LogitBernoulli(self.logits.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return value * self.logits - softplus(self.logits)


class BernoulliVector(Independent[LogitBernoulli]):
    """Independent entries; values `[B, *event]` meet enumerated logits `[*lead, 1, *event]` in a product of
    matrices, so that nothing of the size lead x B x D arises.
    """

    def log_prob(self, value: Tensor, observed: Tensor | None = None) -> Tensor:
        """log p, `[*lead, B]`, of the entries that are observed `[B, *event]`."""
        logits, size = self.base_dist.logits, self.reinterpreted_batch_ndims
        apart = 0 < size == value.ndim - 1 < logits.ndim - 1 and logits.shape[-1 - size] == 1 < value.shape[0]
        if not apart:
            if observed is None:
                return log_bernoulli(logits, value, size)
            entries = self.base_dist.log_prob(value)
            return sum_event(torch.where(observed, entries, torch.zeros_like(entries)), size)
        logits = logits.flatten(-size).squeeze(-2)  # [*lead, D]
        ones = value.to(logits).flatten(1)  # [B, D]
        zeros = 1 - ones
        if observed is not None:
            ones, zeros = ones * observed.flatten(1), zeros * observed.flatten(1)
        return -(softplus(-logits) @ ones.mT + softplus(logits) @ zeros.mT)


@recorded
class Bernoulli(Tabular):
    """p(x | parents) = prod_d pi_d^x_d (1 - pi_d)^(1 - x_d), pi = sigmoid(net(parents)).

    A sample is 1[u < pi], u uniform. Grey values in [0, 1] give the cross-entropy that is often used in their
    place, which is no density of grey values. With Constant or a Table given one discrete parent, maximum
    likelihood is counting, pi_d = n_d / n, and with a Beta prior it is MAP, (n_d + a - 1) / (n + a + b - 2).
    """

    def __init__(
        self, net: nn.Module, given: str | Sequence[str] = (), *, event: int | Sequence[int] | None = None
    ) -> None:
        super().__init__(net, given, event=event)

    def check(self, name: str, value: Tensor) -> None:
        check_unit_interval(name, value, "a Bernoulli", "use a Normal likelihood, or binarise the data")

    def measures(self, value: Tensor) -> bool:
        """Of zeros and ones only: of grey values it is a cross-entropy."""
        return is_binary(value)

    def distribution(self, *parents: Tensor) -> Distribution:
        (logits,) = self.parts(*parents)
        return BernoulliVector(LogitBernoulli(logits), len(self.event), validate_args=False)

    def marginal_log_prob(self, distribution: Distribution, value: Tensor, observed: Tensor) -> Tensor:
        """The sum over the observed entries."""
        if not isinstance(distribution, BernoulliVector):
            raise TypeError(f"not a distribution of binary values: {distribution}")
        return distribution.log_prob(value, observed)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        probs: Tensor = distribution.mean.detach()
        uniform = noise(self.event, "uniform").to(probs.dtype, copy=True)
        return uniform.lt_(probs)  # as numbers at once: a mask takes longer to convert than all the rest

    def support(self) -> Tensor:
        """Every binary value, `[2^D, *event]`, in the order of counting with the first entry the slowest."""
        refuse_large(f"Bernoulli of event {self.event}", 2 ** math.prod(self.event))
        return binary_vectors(self.event).to(next(self.parameters(), torch.empty(0)))

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """ones and total: expected counts of ones, and of observed values, in each state of the parent, both
        `[R, D]`.
        """
        x = plain(self, value).double()
        x = x.flatten(-len(self.event)) if self.event else x.unsqueeze(-1)  # [*lead, B, D]
        size = x.shape[-1]
        if observed is None:
            seen = torch.ones_like(x[..., :1])
        else:
            seen = seen_of(observed, x).double()
            x = x * seen
        sums = self.sums(torch.cat([x, seen], -1), parents, weight)
        return {"ones": sums[:, :size], "total": sums[:, size:].repeat(1, size // seen.shape[-1])}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """Logits at the log odds of (ones + a - 1) / (total + a + b - 2); an entry that has neither count nor
        prior stays.
        """
        beta = self._beta(prior)
        ones, total = statistics["ones"] + beta.a - 1, statistics["total"] + beta.a + beta.b - 2
        self.set_rows(torch.where(total > 0, log_odds(ones, total), self.rows.double()))

    def log_prior(self, prior: object) -> Tensor:
        """sum_d (a - 1) log pi_d + (b - 1) log(1 - pi_d) over the states of the parent: of a Beta."""
        return log_beta(self._beta(prior), self.rows)

    def _beta(self, prior: object | None) -> Beta:
        if prior is None:
            return Beta(1.0, 1.0)
        if isinstance(prior, Beta):
            return prior
        raise TypeError(f"the conjugate prior of a Bernoulli is a Beta, got {prior}")
