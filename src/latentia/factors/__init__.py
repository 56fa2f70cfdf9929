"""The families, one per file."""

from .bernoulli import Bernoulli
from .categorical import Categorical
from .columns import Columns, columns_outputs
from .deterministic import Deterministic
from .linear_normal import LinearNormal
from .log_linear import LogLinear
from .normal import Diagonal, Full, LowRank, Normal, Spherical, StandardNormal, Tied, gaussian_outputs

__all__ = [
    "Bernoulli",
    "Categorical",
    "Columns",
    "Deterministic",
    "Diagonal",
    "Full",
    "LinearNormal",
    "LogLinear",
    "LowRank",
    "Normal",
    "Spherical",
    "StandardNormal",
    "Tied",
    "columns_outputs",
    "gaussian_outputs",
]
