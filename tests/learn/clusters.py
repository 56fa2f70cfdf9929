"""Rows in three clusters, mixtures of them, and what EM leaves behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import latentia as lt


def clusters(rows: int = 200, entries: int = 2, seed: int = 0) -> Tensor:
    """Three round clusters, in the order of their number modulo 3."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[-4.0, 0.0], [0.0, 3.0], [4.0, -1.0]], dtype=torch.float64)
    noise = torch.randn(rows, entries, generator=generator, dtype=torch.float64)
    return noise + centres[torch.arange(rows) % 3, :entries]


def mixture(seed: int = 0, components: int = 3, entries: int = 2, **options: Any) -> lt.Model:
    return lt.models.gaussian_mixture(entries, components, seed=seed, **options).double()


def fitted(model: lt.Model, x: Any, **options: object) -> lt.Run:
    return lt.fit(model, x, **({"progress": False} | options))


def weights(model: lt.Model) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def bounds(run: lt.Run) -> list[float]:
    return [record["bound"] for record in run.history if record["split"] == "train"]


def bits_of_a_net() -> lt.Joint:
    x = lt.Bernoulli(lt.MLP(3, 2, hidden=(4,)), given="h")
    return lt.Joint(h=lt.Bernoulli(lt.Constant(3)), x=x)
