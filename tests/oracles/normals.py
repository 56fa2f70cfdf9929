"""Normals of each covariance with random parameters, and data for them.

K states, D entries.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import latentia as lt
from latentia.factors import gaussian_outputs

OPTIONS: dict[str, dict[str, Any]] = {
    "diagonal": {"covariance": lt.Diagonal()},
    "spherical": {"covariance": lt.Spherical(), "link": "exp"},
    "full": {"covariance": lt.Full()},
    "tied": {"covariance": lt.Tied(), "link": "exp"},
    "learnt": {"scale": "learnt"},
    "fixed": {"scale": torch.tensor([0.5, 0.7, 1.1])},
}
D = 3
PRECISION = {"rtol": 1e-9, "atol": 1e-10}


def made(kind: str, states: int, entries: int = D, floor: float = 1e-4, seed: int = 0) -> lt.Normal:
    """A Normal with random parameters; one state is a root."""
    options = OPTIONS[kind]
    own = "scale" in options
    outputs = entries if own else gaussian_outputs(entries, options["covariance"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = lt.Constant(outputs, value=0.3) if states == 1 else lt.Table(states, outputs)
        return lt.Normal(net, "k" if states > 1 else (), floor=floor, **options).double()


def support(states: int) -> list[Tensor]:
    return [torch.arange(states).unsqueeze(1)] if states > 1 else []


def rows(count: int = 40, entries: int = D, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(entries, entries, generator=generator, dtype=torch.float64)
    x = torch.randn(count, entries, generator=generator, dtype=torch.float64) @ mixing
    return x + 3 * (torch.rand(count, 1, generator=generator, dtype=torch.float64) > 0.5)
