"""The floor: the bare matrix products and convolutions of a step, forward and backward.

Every product has operands and a result of its own, as in a real step, and nothing else is computed: no bias,
no activation, no loss, no optimiser. The first layer needs no gradient of its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from .contestants import Run
from .tasks import CHANNELS, PIXELS, SIDE, Autoencoder

Product = Callable[[], object]


def build(task: Autoencoder, bf16: bool = False) -> Run:
    dtype = torch.bfloat16 if bf16 else torch.float32
    products = list(_convolutional(task, dtype) if task.conv else _dense(task, dtype))

    def run(steps: int) -> float:
        with torch.no_grad():
            for _ in range(steps):
                for product in products:
                    product()
        return math.nan

    return run


def _dense(task: Autoencoder, dtype: torch.dtype) -> Iterator[Product]:
    for inputs, outputs in pairwise((PIXELS, *task.hidden, 2 * task.latent)):
        yield from _linear(task.batch, inputs, outputs, dtype, first=inputs == PIXELS)
    for inputs, outputs in pairwise((task.latent, *reversed(task.hidden), PIXELS)):
        yield from _linear(task.batch * task.samples, inputs, outputs, dtype)


def _convolutional(task: Autoencoder, dtype: torch.dtype) -> Iterator[Product]:
    sides = [SIDE, SIDE // 2, SIDE // 4]
    widths = [1, *CHANNELS]
    features = widths[-1] * sides[-1] ** 2
    for layer in range(2):
        yield from _convolution(
            task.batch, widths[layer : layer + 2], sides[layer], dtype, transposed=False, first=layer == 0
        )
    yield from _linear(task.batch, features, 2 * task.latent, dtype)
    yield from _linear(task.batch, task.latent, features, dtype)
    for layer in (2, 1):
        yield from _convolution(
            task.batch, [widths[layer], widths[layer - 1]], sides[layer], dtype, transposed=True
        )


def _linear(
    batch: int, inputs: int, outputs: int, dtype: torch.dtype, first: bool = False
) -> Iterator[Product]:
    x, weight, gradient = (
        torch.randn(*shape, dtype=dtype) for shape in ((batch, inputs), (outputs, inputs), (batch, outputs))
    )
    yield _product(x, weight.t())
    yield _product(gradient.t(), x)
    if not first:
        yield _product(gradient, weight)


def _product(a: Tensor, b: Tensor) -> Product:
    result = a.new_empty(a.shape[0], b.shape[1])
    return lambda: torch.mm(a, b, out=result)


def _convolution(
    batch: int, channels: list[int], side: int, dtype: torch.dtype, transposed: bool, first: bool = False
) -> Iterator[Product]:
    inputs, outputs = channels
    x = torch.randn(batch, inputs, side, side, dtype=dtype)
    weight = torch.randn(*((inputs, outputs) if transposed else (outputs, inputs)), 4, 4, dtype=dtype)
    forward = F.conv_transpose2d if transposed else F.conv2d
    gradient = torch.randn_like(forward(x, weight, stride=2, padding=1))
    yield lambda: forward(x, weight, stride=2, padding=1)
    yield lambda: torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [2, 2], [1, 1], [1, 1], transposed, [0, 0], 1, [not first, True, False]
    )
