"""LogLinear factors in float64, made in every way, with weights at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import latentia as lt

VALUES = torch.tensor([[0.0, 1.5], [2.0, 1.0], [0.0, 0.0], [1.0, 1.5], [2.0, 0.0]])
STATES = torch.arange(3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def products(x: Tensor, z: Tensor) -> Tensor:
    """x_1, x_2, x_1 x_2 and z x_1, for values `[X, 2]` and codes `[Z]`."""
    x, z = x.unsqueeze(1).expand(-1, len(z), -1), z.to(x).expand(len(x), -1)
    return torch.stack([x[..., 0], x[..., 1], x.prod(-1), z * x[..., 0]], dim=-1)


MADE: dict[str, Callable[[], lt.LogLinear]] = {
    "named": lambda: lt.LogLinear(("unary", "pairwise"), given="z", states=3, event=4),
    "unary": lambda: lt.LogLinear("unary", given="z", states=3, event=(2, 2)),
    "pairwise": lambda: lt.LogLinear(["pairwise"], given="z", states=3, event=3),
    "named of a list": lambda: lt.LogLinear("pairwise, unary", VALUES, "z", states=3),
    "table": lambda: lt.LogLinear(numbers(5, 3, 4), VALUES, given="z"),
    "array": lambda: lt.LogLinear(numbers(5, 3, 4).numpy(), VALUES, given="z"),
    "function": lambda: lt.LogLinear(products, VALUES, given="z", states=3),
    "codes": lambda: lt.LogLinear(numbers(4, 3, 2), torch.tensor([3, 0, 5, 1]), given="z"),
}


def made(name: str, seed: int = 1) -> lt.LogLinear:
    """A factor in float64 with weights at random."""
    factor = MADE[name]().double()
    factor.weights.data.copy_(numbers(len(factor.weights), seed=seed))
    return factor


def states_first(factor: lt.LogLinear) -> Tensor:
    return torch.arange(factor.states).unsqueeze(1)
