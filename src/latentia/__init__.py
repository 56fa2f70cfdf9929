"""Latentia: latent-variable models, and honestly how probable the data are under them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import data, diagnostics, errors, models, nets, plots, schedules, testing
    from .archive import load_model, save
    from .comparison import Comparison, compare
    from .conditional import condition, impute, marginal
    from .data import load_data
    from .evidence.bdmc import Sandwich, bdmc
    from .evidence.estimate import Estimate
    from .evidence.log_evidence import log_evidence
    from .exact import Exact
    from .factor import Draw, Factor
    from .factors import (
        AutoregressiveBernoulli,
        BayesianCategorical,
        BayesianNormal,
        Bernoulli,
        Categorical,
        Columns,
        Concrete,
        Deterministic,
        Diagonal,
        Full,
        LinearNormal,
        LogLinear,
        LowRank,
        Normal,
        Spherical,
        StandardNormal,
        StraightThrough,
        Tied,
    )
    from .factors.priors import Beta, Dirichlet, GaussianPrior, NormalInverseWishart
    from .joint import Joint
    from .learn.fit import fit
    from .learn.run import Run
    from .model import Model
    from .nets import MLP, Constant, ConvDecoder, ConvEncoder, Table
    from .noise import GivenNoise, Noise
    from .objectives import Bound, Reinforce, arm, disarm, elbo, iwae, nvil, renyi, rws, vimco, wake_sleep
    from .posteriors import fit_posteriors
    from .schedules import exponential_decay, linear_warmup

_HOME = {
    ".archive": ("load_model", "save"),
    ".comparison": ("Comparison", "compare"),
    ".conditional": ("condition", "impute", "marginal"),
    ".data": ("load_data",),
    ".evidence": ("Estimate", "Sandwich", "bdmc", "log_evidence"),
    ".exact": ("Exact",),
    ".factor": ("Draw", "Factor"),
    ".factors": (
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
    ),
    ".factors.priors": ("Beta", "Dirichlet", "GaussianPrior", "NormalInverseWishart"),
    ".joint": ("Joint",),
    ".learn": ("Run", "fit"),
    ".model": ("Model",),
    ".nets": ("MLP", "Constant", "ConvDecoder", "ConvEncoder", "Table"),
    ".noise": ("GivenNoise", "Noise"),
    ".objectives": (
        "Bound",
        "Reinforce",
        "arm",
        "disarm",
        "elbo",
        "iwae",
        "nvil",
        "renyi",
        "rws",
        "vimco",
        "wake_sleep",
    ),
    ".posteriors": ("fit_posteriors",),
    ".schedules": ("exponential_decay", "linear_warmup"),
}
_MODULES = ("data", "diagnostics", "errors", "models", "nets", "plots", "schedules", "testing")
_WHERE = {name: home for home, names in _HOME.items() for name in names}

__all__ = [
    "MLP",
    "AutoregressiveBernoulli",
    "BayesianCategorical",
    "BayesianNormal",
    "Bernoulli",
    "Beta",
    "Bound",
    "Categorical",
    "Columns",
    "Comparison",
    "Concrete",
    "Constant",
    "ConvDecoder",
    "ConvEncoder",
    "Deterministic",
    "Diagonal",
    "Dirichlet",
    "Draw",
    "Estimate",
    "Exact",
    "Factor",
    "Full",
    "GaussianPrior",
    "GivenNoise",
    "Joint",
    "LinearNormal",
    "LogLinear",
    "LowRank",
    "Model",
    "Noise",
    "Normal",
    "NormalInverseWishart",
    "Reinforce",
    "Run",
    "Sandwich",
    "Spherical",
    "StandardNormal",
    "StraightThrough",
    "Table",
    "arm",
    "bdmc",
    "Tied",
    "compare",
    "condition",
    "data",
    "diagnostics",
    "disarm",
    "elbo",
    "errors",
    "exponential_decay",
    "fit",
    "fit_posteriors",
    "impute",
    "iwae",
    "linear_warmup",
    "load_data",
    "load_model",
    "log_evidence",
    "marginal",
    "models",
    "nets",
    "nvil",
    "plots",
    "renyi",
    "rws",
    "save",
    "schedules",
    "testing",
    "vimco",
    "wake_sleep",
]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `import latentia` costs nothing."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module 'latentia' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
