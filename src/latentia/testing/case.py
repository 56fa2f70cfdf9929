"""A factor under examination, in float64, with parents for a few rows.

S samples, B rows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from ..factor import Draw, Factor
from ..noise import BoundNoise, Noise
from .integration import Nodes, event_nodes, support_of

ROWS = 3

Parents = Sequence[Tensor | int | Sequence[int]]
Support = Constraint | Sequence[Constraint]


class FactorCase:
    """A float64 copy of a factor, with its parents.

    parents   one per name in `given`: a tensor `[B, *event]` as the factor's net takes it (integer codes for
              a net that takes codes, one-hot vectors for others), or an event shape, which is filled with
              standard normal numbers
    seed      of the parents and of the draws; a fixed seed gives a fixed answer
    support   the set of values of one entry, or of each, as `torch.distributions.constraints`; by default
              what the distribution says

    Raises ValueError for another number of parents than the factor has.
    """

    def __init__(
        self, factor: Factor, parents: Parents = (), *, seed: int = 0, support: Support | None = None
    ) -> None:
        if len(parents) != len(factor.given):
            raise ValueError(
                f"{type(factor).__name__} has {len(factor.given)} parents "
                f"({', '.join(factor.given) or 'none'}), and {len(parents)} were given"
            )
        self.original, self.seed, self.support = factor, seed, support
        self.generator = torch.Generator().manual_seed(seed)
        self.rows = next((len(parent) for parent in parents if isinstance(parent, Tensor)), ROWS)
        self.parents = tuple(self._parent(parent) for parent in parents)
        self.factor = copy.deepcopy(factor).double()
        self.factor.zero_grad()
        self.factor.bind([parent.ndim - 1 for parent in self.parents])
        self.name = type(factor).__name__

    def _parent(self, parent: Tensor | int | Sequence[int]) -> Tensor:
        if isinstance(parent, Tensor):
            return parent.detach().double() if parent.is_floating_point() else parent
        event = (parent,) if isinstance(parent, int) else tuple(parent)
        return torch.randn(self.rows, *event, generator=self.generator, dtype=torch.float64)

    def draw(self, lead: tuple[int, ...], parents: tuple[Tensor, ...] | None = None, seed: int = 0) -> Draw:
        """A draw of `[*lead, B, *event]`."""
        bound = BoundNoise(Noise(self.seed + seed, dtype=torch.float64), "value", (*lead, self.rows))
        return self.factor.draw(bound, *(self.parents if parents is None else parents))

    def log_prob(
        self, value: Tensor, parents: tuple[Tensor, ...] | None = None, observed: Tensor | None = None
    ) -> Tensor:
        """The factor's log_prob, at the case's own parents unless others are given."""
        return self.factor.log_prob(value, *(self.parents if parents is None else parents), observed=observed)

    def computed(self, parents: tuple[Tensor, ...] | None = None) -> Tensor:
        """The value of a node without density."""
        value: Tensor = self.factor.value(  # type: ignore[operator]
            *(self.parents if parents is None else parents)
        )
        return value

    def sample(self) -> tuple[Tensor, list[Constraint]]:
        """2,000 draws `[S, B, *event]` and the support of each entry."""
        drawn = self.draw((2000,))
        support = support_of(drawn.distribution, drawn.value) if self.support is None else self.support
        entries = math.prod(self.factor.event)
        supports = [support] * entries if isinstance(support, Constraint) else list(support)
        return drawn.value.detach(), supports

    def nodes(self) -> Nodes | str:
        """Nodes over whole events, or why there are none."""
        if not self.factor.has_density:
            return "no density"
        sample, supports = self.sample()
        return event_nodes(supports, sample, self.factor.event)
