"""StandardNormal: the prior N(0, I) of most latent variables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from .._recorded import recorded
from ..factor import Affine, Factor
from ..noise import BoundNoise
from .gaussian import DiagonalNormal, IndependentNormal


@recorded
class StandardNormal(Factor):
    """N(0, I): `StandardNormal(20)` for 20 entries, or an event shape."""

    def __init__(self, event: int | Sequence[int]) -> None:
        super().__init__(event=event)
        self.register_buffer("loc", torch.zeros(self.event), persistent=False)
        self.register_buffer("scale", torch.ones(self.event), persistent=False)

    def distribution(self, *parents: Tensor) -> Distribution:
        loc, scale = self.get_buffer("loc"), self.get_buffer("scale")
        return IndependentNormal(DiagonalNormal(loc, scale), len(self.event), validate_args=False)

    def affine(self, *parents: Tensor | None) -> Affine | None:
        return Affine((), self.get_buffer("loc"), self.get_buffer("scale"))

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return noise(self.event, "normal")
