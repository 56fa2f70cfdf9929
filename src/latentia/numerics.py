"""Elementary functions in the form that is fastest where they run.

torch's own kernels win in eager mode; in a compiled graph the forms below vectorise and the library's do not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _Softplus(torch.autograd.Function):
    """max(x, 0) + log(1 + exp(-|x|)), whose gradient is sigmoid(x): less work than autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0) + torch.log(1 + torch.exp(-x.abs()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * torch.sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    if torch.compiler.is_compiling():
        return _Softplus.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    return F.softplus(x)


def tanh(x: Tensor) -> Tensor:
    """tanh(x) = 2 sigmoid(2x) - 1."""
    if torch.compiler.is_compiling():
        return 2 * torch.sigmoid(2 * x) - 1
    return torch.tanh(x)


def inverse_softplus(y: float) -> float:
    """The x with softplus(x) = y, for y > 0: log(exp(y) - 1)."""
    return float(y + torch.log(-torch.expm1(torch.tensor(-y, dtype=torch.float64))).item())


def sum_event(entries: Tensor, dims: int) -> Tensor:
    """The sum over the last `dims` dimensions; zero dimensions leave the tensor as it is."""
    return entries.flatten(-dims).sum(-1) if dims else entries
