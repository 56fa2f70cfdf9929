"""What the model functions share: building under a forked generator, and choices made from data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
M = TypeVar("M")


def seeded(build: Callable[P, M]) -> Callable[P, M]:
    """Run a model function under a forked generator seeded by its `seed`: the user's stay untouched."""

    @functools.wraps(build)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> M:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(kwargs.get("seed", 0)))  # type: ignore[call-overload]
            return build(*args, **kwargs)

    return wrapper
