"""The families, one per file."""

from .bernoulli import Bernoulli
from .categorical import Categorical
from .deterministic import Deterministic
from .normal import Diagonal, Full, LowRank, Normal, StandardNormal, gaussian_outputs

__all__ = [
    "Bernoulli",
    "Categorical",
    "Deterministic",
    "Diagonal",
    "Full",
    "LowRank",
    "Normal",
    "StandardNormal",
    "gaussian_outputs",
]
