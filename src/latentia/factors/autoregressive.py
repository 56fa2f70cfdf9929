"""AutoregressiveBernoulli: binary vectors whose entries each depend on those before them.

D entries of the vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._recorded import recorded
from ..factor import CannotMarginaliseError, Draw, Factor
from ..noise import BoundNoise
from ..numerics import softplus
from ._tabular import check_unit_interval, is_binary, refuse_large
from .lookup import binary_vectors


@recorded
class AutoregressiveBernoulli(Factor):
    """p(h) = prod_d Bernoulli(h_d; sigmoid(b_d + sum_{j < d} W_dj h_j)): a fully visible sigmoid belief net.

    size: D. It is a root factor, such as the prior of the top layer of a Helmholtz machine. log_prob is one
    product with the masked W, `[D, D]`; a draw goes through the entries one after the other, as it must. At
    the start W and b are 0, and so every vector is as probable as any other.

    Raises ValueError for a size below 1. Frey (1998), "Graphical models for machine learning and digital
    communication", section 2.3; Gregor et al. (2014), "Deep autoregressive networks", eq. 4.
    """

    def __init__(self, size: int) -> None:
        if type(size) is not int:
            raise ValueError(
                f"an AutoregressiveBernoulli is a vector of size entries, such as 20, got {size!r}"
            )
        super().__init__(event=size)
        self.bias = nn.Parameter(torch.zeros(size))
        self.weight = nn.Parameter(torch.zeros(size, size))

    def check(self, name: str, value: Tensor) -> None:
        check_unit_interval(name, value, "an AutoregressiveBernoulli", "binarise the data")

    def measures(self, value: Tensor) -> bool:
        return is_binary(value)

    def log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        """log p(h), `[*lead, B]`. Raises CannotMarginaliseError where a part of a vector is missing."""
        if observed is not None and observed.ndim > 1:
            raise CannotMarginaliseError(
                "AutoregressiveBernoulli cannot marginalise missing entries: its event does not factorise"
            )
        value = value.to(self.bias)
        logits = self.bias + value @ self.weight.tril(-1).mT  # [*lead, B, D]
        log_p = (value * logits - softplus(logits)).sum(-1)
        return log_p if observed is None else torch.where(observed, log_p, torch.zeros_like(log_p))

    def draw(self, noise: BoundNoise, *parents: Tensor) -> Draw:
        """Entry by entry, h_d = 1[u_d < sigmoid(logit_d)], with log p(h) from the same pass."""
        uniform = noise(self.event, "uniform")
        thresholds = torch.logit(uniform)  # u < sigmoid(l) where logit(u) < l
        logits, entries = self.bias.expand(uniform.shape), []
        weight = self.weight.tril(-1)
        with torch.no_grad():
            for d in range(self.event[0]):
                entry = (thresholds[..., d] < logits[..., d]).to(uniform.dtype)
                logits = torch.addcmul(logits, entry.unsqueeze(-1), weight[:, d])
                entries.append(entry)
        value = torch.stack(entries, dim=-1)
        return Draw(value, lambda: self.log_prob(value), None)

    def support(self) -> Tensor:
        """Every binary vector, `[2^D, D]`, in the order of counting with the first entry the slowest."""
        refuse_large(f"AutoregressiveBernoulli of event {self.event}", 2 ** self.event[0])
        return binary_vectors(self.event).to(self.bias)

    @property
    def free_parameters(self) -> int:
        """D biases and the weights below the diagonal."""
        size = self.event[0]
        return size + size * (size - 1) // 2
