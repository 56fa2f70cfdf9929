"""Deterministic: a named computation in the graph, z = f(parents), without a density."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from .._recorded import recorded
from ..factor import Draw, Factor
from ..noise import BoundNoise


@recorded
class Deterministic(Factor):
    """z = net(parents): evaluated where z is absent, in no sum, without density (a Delta)."""

    has_density = False

    def __init__(
        self, net: nn.Module, given: str | Sequence[str], *, event: int | Sequence[int] | None = None
    ) -> None:
        super().__init__(net, given, event=event)
        if not self.given:
            raise ValueError("Deterministic is a function of its parents: name them with given=")

    def value(self, *parents: Tensor) -> Tensor:
        """net(parents), `[*lead, B, *event]`."""
        (value,) = self.parts(*parents)
        return value

    def distribution(self, *parents: Tensor) -> Distribution:
        raise TypeError("a Deterministic node has no distribution, only a value")

    def log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        raise TypeError("a Deterministic node has no density")

    def draw(self, noise: BoundNoise, *parents: Tensor) -> Draw:
        raise TypeError("a Deterministic node is computed, not drawn")
