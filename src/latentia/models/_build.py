"""What the model functions share: a forked generator, the pair of networks, a check of sizes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from ..nets import MLP, ConvDecoder, ConvEncoder

P = ParamSpec("P")
M = TypeVar("M")
Net = Callable[[Any, Any], nn.Module]


def seeded(build: Callable[P, M]) -> Callable[P, M]:
    """Run a model function under a forked generator seeded by its `seed`; the user's stay untouched."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> M:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(bound.arguments["seed"]))
            return build(*args, **kwargs)

    return wrapper


def nets_for(
    hidden: Sequence[int], conv: bool, channels: Sequence[int], activation: str, missing: bool
) -> tuple[Net, Net]:
    """The encoder and the decoder that mirrors it, each waiting for (inputs, outputs)."""
    if conv:
        return (
            partial(ConvEncoder, channels=channels, activation=activation, missing=missing),
            partial(ConvDecoder, channels=channels, activation=activation),
        )
    return (
        partial(MLP, hidden=hidden, activation=activation, missing=missing),
        partial(MLP, hidden=tuple(hidden)[::-1], activation=activation),
    )


def at_least_one(latent: int) -> None:
    """Raise ValueError for a latent size below 1."""
    if latent < 1:
        raise ValueError(f"a model needs at least 1 latent dimension, got latent={latent}")
