"""A net that is one linear layer, as a linear map of the parents that are not known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def affine_parts(layer: nn.Module, known: Sequence[Tensor | None]) -> tuple[tuple[Tensor, ...], Tensor]:
    """The weights on the unknown parent, and the offset: bias plus what the known parents contribute.

    known: the features `[*lead, B, F]` of each parent, None for the one that is not known, if any. Weights
    are `[D, M]`, the offset `[D]` or `[*lead, B, D]`.
    """
    weight: Tensor = layer.get_parameter("weight")
    offset: Tensor = layer.get_parameter("bias")
    unknown = weight.shape[1] - sum(features.shape[-1] for features in known if features is not None)
    widths = [unknown if features is None else features.shape[-1] for features in known]
    weights = []
    for features, columns in zip(known, torch.split(weight, widths, dim=1), strict=True):
        if features is None:
            weights.append(columns)
        else:
            offset = offset + features @ columns.mT
    return tuple(weights), offset
