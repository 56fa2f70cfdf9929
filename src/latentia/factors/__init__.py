"""The families, one per file."""

from .autoregressive import AutoregressiveBernoulli
from .bayesian_categorical import BayesianCategorical
from .bayesian_normal import BayesianNormal
from .bernoulli import Bernoulli
from .categorical import Categorical
from .columns import Columns, columns_outputs
from .deterministic import Deterministic
from .linear_normal import LinearNormal
from .log_linear import LogLinear
from .normal import Diagonal, Full, LowRank, Normal, Spherical, Tied, gaussian_outputs
from .relaxed import Concrete, StraightThrough
from .standard_normal import StandardNormal

__all__ = [
    "AutoregressiveBernoulli",
    "BayesianCategorical",
    "BayesianNormal",
    "Bernoulli",
    "Categorical",
    "Columns",
    "Concrete",
    "Deterministic",
    "Diagonal",
    "Full",
    "LinearNormal",
    "LogLinear",
    "LowRank",
    "Normal",
    "Spherical",
    "StandardNormal",
    "StraightThrough",
    "Tied",
    "columns_outputs",
    "gaussian_outputs",
]
