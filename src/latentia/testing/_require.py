"""What a law asks for, and how it says so."""

from __future__ import annotations

import torch
from torch import Tensor

EXACT = 1e-9


def close(one: Tensor, other: Tensor) -> bool:
    """Equal in float64 up to rounding."""
    return torch.allclose(one.double(), other.double(), rtol=EXACT, atol=EXACT)


def require(holds: bool | Tensor, sentence: str) -> None:
    """Raise AssertionError with the sentence unless the law holds."""
    if not holds:
        raise AssertionError(sentence)


def numbers(values: Tensor) -> str:
    """The first few, for a sentence."""
    return ", ".join(f"{value:.5g}" for value in values.detach().flatten().tolist()[:4])
