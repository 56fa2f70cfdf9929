"""The families, one per file."""

from .bernoulli import Bernoulli
from .categorical import Categorical
from .columns import Columns, columns_outputs
from .deterministic import Deterministic
from .normal import Diagonal, Full, LowRank, Normal, StandardNormal, gaussian_outputs

__all__ = [
    "Bernoulli",
    "Categorical",
    "Columns",
    "Deterministic",
    "Diagonal",
    "Full",
    "LowRank",
    "Normal",
    "StandardNormal",
    "columns_outputs",
    "gaussian_outputs",
]
