"""Bernoulli: binary values, their logits from a net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution, Independent

from .._recorded import recorded
from ..factor import Factor
from ..noise import BoundNoise
from ..numerics import softplus


class LogitBernoulli(TorchBernoulli):
    """Bernoulli: log p(x) = x l - log(1 + e^l) at logit l; grey x in [0, 1] are accepted as weights."""

    def __init__(self, logits: Tensor, validate_args: bool | None = False) -> None:
        self.logits = self._param = logits
        Distribution.__init__(self, logits.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogitBernoulli:
        return LogitBernoulli(self.logits.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return value * self.logits - softplus(self.logits)


@recorded
class Bernoulli(Factor):
    """p(x | parents) = prod_d pi_d^x_d (1 - pi_d)^(1 - x_d), pi = sigmoid(net(parents)).

    A sample is 1[u < pi], u uniform. Grey values in [0, 1] give the cross-entropy that is often used in their
    place, which is no density of grey values.
    """

    def __init__(
        self, net: nn.Module, given: str | Sequence[str] = (), *, event: int | Sequence[int] | None = None
    ) -> None:
        super().__init__(net, given, event=event)

    def check(self, name: str, value: Tensor) -> None:
        low, high = float(value.min()), float(value.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"{name!r} holds values from {low:.4g} to {high:.4g}, and a Bernoulli needs [0, 1]: "
                f"use a Normal likelihood, or binarise the data"
            )

    def measures(self, value: Tensor) -> bool:
        """Of zeros and ones only: of grey values it is a cross-entropy."""
        return bool(((value == 0) | (value == 1)).all())

    def distribution(self, *parents: Tensor) -> Distribution:
        (logits,) = self.parts(*parents)
        return Independent(LogitBernoulli(logits), len(self.event), validate_args=False)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        probs: Tensor = distribution.mean
        return (noise(self.event, "uniform") < probs).to(probs.dtype)
