"""Networks that parameterise factors: MLP, convolutional encoder and decoder, table, constant.

A net sees one batch dimension and returns one tensor. Its `out_shape` tells the factor the shape of an output
without the batch; a net of the user's own may have it too, or the factor is told `event=`. With
`missing=True` a net expects the mask of observed entries beside the values: as many features, or channels,
again.

B batch, C channels, H height, W width, K rows of a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from ._recorded import recorded
from .numerics import softplus, tanh

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": tanh,
    "sigmoid": torch.sigmoid,
    "softplus": softplus,
    "elu": nn.functional.elu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "leaky_relu": nn.functional.leaky_relu,
}


def _shape(size: int | Sequence[int]) -> tuple[int, ...]:
    shape = (size,) if isinstance(size, int) else tuple(size)
    if any(side < 1 for side in shape):
        raise ValueError(f"sizes must be at least 1, got {shape}")
    return shape


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown: choose among {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _affine(layer: nn.Linear, x: Tensor) -> Tensor:
    """W x + b.

    In a compiled graph -b is taken off the product, and so becomes part of the operation that follows. A sum
    of both torch would merge into one call, which on a CPU first fills its result with copies of b.
    """
    if torch.compiler.is_compiling():
        product = x @ layer.weight.mT
        return product - (-layer.bias).to(product.dtype)
    return nn.functional.linear(x, layer.weight, layer.bias)


@recorded
class MLP(nn.Module):
    """Multilayer perceptron; several inputs are flattened and concatenated. `hidden=()` is linear, Wx + b.

    inputs, outputs: number of features, or an event shape such as (1, 28, 28), in which case the result is
    reshaped to it.
    """

    takes_codes = False

    def __init__(
        self,
        inputs: int | Sequence[int],
        outputs: int | Sequence[int],
        hidden: Sequence[int] = (),
        activation: str = "relu",
        missing: bool = False,
    ) -> None:
        super().__init__()
        self.out_shape = _shape(outputs)
        self.missing = missing
        self.activation = _activation(activation)
        first = math.prod(_shape(inputs)) * (2 if missing else 1)
        sizes = [first, *_shape(hidden), math.prod(self.out_shape)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, *inputs: Tensor) -> Tensor:
        h = inputs[0].flatten(1) if len(inputs) == 1 else torch.cat([x.flatten(1) for x in inputs], dim=1)
        first, *rest = cast("Iterable[nn.Linear]", self.layers)
        if h.shape[1] != first.in_features:
            raise ValueError(
                f"this MLP was built for {first.in_features} input features and got {h.shape[1]}"
            )
        out = _affine(first, h)
        for layer in rest:
            out = _affine(layer, self.activation(out))
        return out if len(self.out_shape) == 1 else out.reshape(-1, *self.out_shape)


def _halvings(shape: tuple[int, ...], channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """The image's (H, W) before each halving and after the last, for stride-2 convolutions."""
    if len(shape) != 3:
        raise ValueError(f"a convolutional net needs an image shape (channels, height, width), got {shape}")
    sizes = [(shape[1], shape[2])]
    for _ in channels:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    if min(sizes[-1]) < 1:
        raise ValueError(
            f"{shape[1]}x{shape[2]} images are too small for {len(channels)} halvings: use fewer channels, "
            f"such as channels={channels[: max(1, int(math.log2(min(shape[1:]))))]}"
        )
    return sizes


@recorded
class ConvEncoder(nn.Module):
    """Image (C, H, W) to features: a 4x4 convolution of stride 2 per entry of `channels`, then a linear map.

    Works for any image size that can be halved that often; odd sizes are rounded down.
    """

    takes_codes = False

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (32, 64),
        activation: str = "relu",
        missing: bool = False,
    ) -> None:
        super().__init__()
        shape, channels = _shape(inputs), _shape(channels)
        self.out_shape = _shape(outputs)
        self.missing = missing
        self.activation = _activation(activation)
        height, width = _halvings(shape, channels)[-1]
        depths = [shape[0] * (2 if missing else 1), *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=4, stride=2, padding=1)
            for a, b in zip(depths[:-1], channels, strict=True)
        )
        self.linear = nn.Linear(channels[-1] * height * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
        out: Tensor = self.linear(x.flatten(1))
        return out


@recorded
class ConvDecoder(nn.Module):
    """Features to an image (C, H, W): linear, then a 4x4 transposed convolution of stride 2 per channel size.

    The sizes mirror those of `ConvEncoder` with the same `channels`, so any image size comes back exactly.
    """

    takes_codes = False

    def __init__(
        self,
        inputs: int | Sequence[int],
        outputs: Sequence[int],
        channels: Sequence[int] = (32, 64),
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.out_shape, channels = _shape(outputs), _shape(channels)
        self.activation = _activation(activation)
        sizes = _halvings(self.out_shape, channels)
        self.start = (channels[-1], *sizes[-1])
        self.linear = nn.Linear(math.prod(_shape(inputs)), math.prod(self.start))
        depths = [*reversed(channels), self.out_shape[0]]
        doublings = list(zip(sizes[:0:-1], sizes[-2::-1], strict=True))
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(
                a,
                b,
                kernel_size=4,
                stride=2,
                padding=1,
                output_padding=(big[0] - 2 * small[0], big[1] - 2 * small[1]),
            )
            for a, b, (small, big) in zip(depths[:-1], depths[1:], doublings, strict=True)
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        h = inputs[0].flatten(1) if len(inputs) == 1 else torch.cat([x.flatten(1) for x in inputs], dim=1)
        h = self.activation(self.linear(h)).reshape(-1, *self.start)
        first, *rest = self.convolutions
        out: Tensor = first(h)
        for convolution in rest:
            out = convolution(self.activation(out))
        return out


@recorded
class Table(nn.Module):
    """A row of parameters per code: codes `[B]` pick rows, one-hot or relaxed values `[B, K]` mix them."""

    takes_codes = True

    def __init__(self, rows: int, outputs: int | Sequence[int]) -> None:
        super().__init__()
        self.out_shape = _shape(outputs)
        self.weight = nn.Parameter(torch.randn(*_shape(rows), math.prod(self.out_shape)) * 0.1)

    def forward(self, code: Tensor) -> Tensor:
        out = code @ self.weight if code.is_floating_point() else nn.functional.embedding(code, self.weight)
        return out if len(self.out_shape) == 1 else out.reshape(-1, *self.out_shape)


@recorded
class Constant(nn.Module):
    """A learnt parameter without parents, `[*outputs]`: the net of a root factor."""

    takes_codes = False

    def __init__(self, outputs: int | Sequence[int], value: float = 0.0) -> None:
        super().__init__()
        self.out_shape = _shape(outputs)
        self.value = nn.Parameter(torch.full(self.out_shape, float(value)))

    def forward(self) -> Tensor:
        return self.value


def fold(net: nn.Module, parents: Sequence[Tensor], event_dims: Sequence[int | None]) -> Tensor:
    """net(parents), lead dimensions folded into the batch: `[*lead, B, *event]` to `[*lead, B, *out]`.

    event_dims: the number of event dimensions of each parent; None for a parent that never has lead
    dimensions. Parents without lead dimensions are expanded only when another has them.
    """
    if not parents:
        return net()  # type: ignore[no-any-return]
    leads = [
        v.shape[:1] if d is None else v.shape[: v.ndim - d] for v, d in zip(parents, event_dims, strict=True)
    ]
    lead = leads[0]
    if len(leads) > 1 and any(other != lead for other in leads):
        lead = torch.broadcast_shapes(*leads)  # type: ignore[no-untyped-call]
    if len(lead) == 1:
        return net(*parents)  # type: ignore[no-any-return]
    flat = [
        (v if own == lead else v.expand(*lead, *v.shape[len(own) :])).flatten(0, len(lead) - 1)
        for v, own in zip(parents, leads, strict=True)
    ]
    out: Tensor = net(*flat)
    return out.reshape(*lead, *out.shape[1:])
