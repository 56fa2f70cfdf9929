"""Categorical: one of K codes, their logits from a net, learnt, or uniform."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution

from .._recorded import recorded
from ..codings import OneHot
from ..factor import Factor
from ..nets import Constant
from ..noise import BoundNoise


@recorded
class Categorical(Factor):
    """p(k | parents) = softmax(net(parents))_k, k an integer code `[*lead, B]`.

    A sample is argmax(logits + Gumbel noise). Categorical(K) is a root factor with learnt logits;
    `logits="uniform"` fixes them at 1/K.
    """

    def __init__(
        self,
        net: nn.Module | int,
        given: str | Sequence[str] = (),
        *,
        logits: str = "learnt",
        classes: int | None = None,
    ) -> None:
        if logits not in ("learnt", "uniform"):
            raise ValueError(f"logits must be 'learnt' or 'uniform', got {logits!r}")
        if isinstance(net, int):
            net = Constant(net)
            net.requires_grad_(logits == "learnt")
        if classes is None:
            shape = getattr(net, "out_shape", None)
            if shape is None:
                raise ValueError("Categorical: the net does not say its output's shape; pass classes=K")
            classes = int(shape[0])
        super().__init__(net, given, event=())
        self.classes = classes
        self.coding = OneHot(classes)

    def check(self, name: str, value: Tensor) -> None:
        if value.is_floating_point() or int(value.min()) < 0 or int(value.max()) >= self.classes:
            raise ValueError(
                f"{name!r} must hold integer codes from 0 to {self.classes - 1}, got {value.dtype}"
            )

    def distribution(self, *parents: Tensor) -> Distribution:
        return TorchCategorical(logits=self.output(*parents), validate_args=False)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        logits: Tensor = distribution.logits  # type: ignore[attr-defined]
        return torch.argmax(logits + noise((logits.shape[-1],), "gumbel"), dim=-1)

    def mean(self, distribution: Distribution) -> Tensor:
        """The most probable code."""
        return distribution.logits.argmax(-1)  # type: ignore[attr-defined, no-any-return]
