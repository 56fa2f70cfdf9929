"""Elementary functions in the form that is fastest where they run.

torch's own kernels win in eager mode, but for softplus and where exp underflows; in a compiled graph the
forms below vectorise and the library's do not.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 2**14  # entries, below which the call of a function of our own costs more than it saves
FACTORS = 112  # numbers in (1, 2], as many as float32 can multiply and stay below 2^128
FEWEST = 8  # factors of a product, below which it is not worth it
LOG2_E = math.log2(math.e)  # exp(x) = 2^(x log2 e), and 2^x takes less than exp(x)


def _softplus(x: Tensor) -> Tensor:
    """max(x, 0) - log sigmoid(|x|); beyond 60 the latter is 0, and further on exp a slow subnormal number."""
    return x.clamp(min=0).sub_(x.abs().clamp_(max=60).sigmoid_().log_())


class _Softplus(torch.autograd.Function):
    """max(x, 0) + log(1 + exp(-|x|)), whose gradient is sigmoid(x): less work than autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _softplus(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * torch.sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow.

    torch's log1p takes ten times as long where exp(x) is so small that its square underflows, as for the
    logits of pixels that are never black. In float64 its precision for such x matters more.
    """
    if torch.compiler.is_compiling() or _is_large(x):
        return _Softplus.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    return F.softplus(x)


class _LogBernoulli(torch.autograd.Function):
    """The sum of x l - log(1 + exp(l)) over the last dimensions; in a compiled graph with one logarithm for
    all of the last.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, dims: int) -> Tensor:
        ctx.dims, over = dims, tuple(range(-dims, 0))
        if torch.compiler.is_compiling():
            ctx.save_for_backward(value, logits, None)
            product = (torch.exp2(-LOG2_E * logits.abs()) + 1).prod(-1)
            return ((value * logits - logits.clamp(min=0)).sum(-1) - product.log()).sum(over[1:])
        pi = torch.sigmoid(logits)
        ctx.save_for_backward(value, logits if ctx.needs_input_grad[1] else None, pi)
        log_likelier = (1 - pi).clamp_(min=pi).log_()  # log sigmoid(|l|)
        return torch.addcmul(log_likelier, value, logits).sub_(logits.clamp(min=0)).sum(over)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        value, logits, pi = ctx.saved_tensors
        outer = gradients[0].reshape(*gradients[0].shape, *(1,) * ctx.dims)
        of_value = (outer * logits).sum_to_size(value.shape) if ctx.needs_input_grad[1] else None
        pi = torch.sigmoid(logits) if pi is None else pi
        return (value - pi).mul_(outer).sum_to_size(pi.shape), of_value, None


def log_bernoulli(logits: Tensor, value: Tensor, dims: int) -> Tensor:
    """sum_d x_d l_d - log(1 + exp(l_d)) over the last `dims` dimensions, of logits l and values x.

    In a compiled graph by the logarithm of products of many 1 + exp(-|l|), each between 1 and 2: one
    logarithm in a hundred.
    """
    if dims and torch.compiler.is_compiling():
        logits, value, dims = logits.flatten(-dims), value.flatten(-dims), 1
        size = logits.shape[-1]
        factors = max(n for n in range(1, min(size, FACTORS) + 1) if size % n == 0)
        if factors >= FEWEST:
            shape = (-1, factors)
            parts = torch.unflatten(logits, -1, shape), torch.unflatten(value, -1, shape)
            return _LogBernoulli.apply(*parts, 2)  # type: ignore[no-any-return, no-untyped-call]
    elif dims and _is_large(logits):
        return _LogBernoulli.apply(logits, value, dims)  # type: ignore[no-any-return, no-untyped-call]
    return sum_event(value * logits - softplus(logits), dims)


def _is_large(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.numel() > FEW


def tanh(x: Tensor) -> Tensor:
    """tanh(x) = 2 sigmoid(2x) - 1 = 1 - 2 / (1 + exp(2x)); the latter is faster and has no safe gradient."""
    if not torch.compiler.is_compiling():
        return torch.tanh(x)
    if x.requires_grad:
        return 2 * torch.sigmoid(2 * x) - 1
    return 1 - 2 / (1 + torch.exp2(2 * LOG2_E * x))


def inverse_softplus(y: float) -> float:
    """The x with softplus(x) = y, for y > 0: log(exp(y) - 1)."""
    return float(y + torch.log(-torch.expm1(torch.tensor(-y, dtype=torch.float64))).item())


def exp(x: Tensor) -> Tensor:
    """exp(x), with 0 for what is about the smallest normal number or less.

    On a CPU torch takes 20 to 100 times as long for arguments whose exp underflows, -inf among them.
    """
    if torch.compiler.is_compiling() or x.requires_grad:
        return torch.exp(x)
    least = 4 * torch.finfo(x.dtype).tiny
    rounded = 1.001 * least  # what the smallest argument may give
    found: Tensor = F.threshold(x.clamp(min=math.log(least)).exp_(), rounded, 0.0, inplace=True)
    return found


def logsumexp(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """log sum exp(x) over some dimensions, by `exp`: terms too small to count cost no more than others."""
    if torch.compiler.is_compiling() or x.requires_grad:
        return torch.logsumexp(x, dims)
    largest = x.amax(dims, keepdim=True)
    finite = largest.masked_fill(largest.isinf(), 0.0)
    return exp(x - finite).sum(dims).log_().add_(finite.squeeze(dims))


def sum_event(entries: Tensor, dims: int) -> Tensor:
    """The sum over the last `dims` dimensions; zero dimensions leave the tensor as it is."""
    return entries.flatten(-dims).sum(-1) if dims else entries
