"""The models, each a short function with its equation and source."""

from .bayesian_mixture import bayesian_gaussian_mixture
from .helmholtz import categorical_vae, helmholtz_machine
from .linear_gaussian import factor_analysis, mixture_of_factor_analysers, ppca
from .log_linear import log_linear
from .mixtures import bernoulli_mixture, categorical_mixture, gaussian_mixture, neural_mixture
from .vae import autoencoder, linear_vae, vae

__all__ = [
    "autoencoder",
    "bayesian_gaussian_mixture",
    "bernoulli_mixture",
    "categorical_mixture",
    "categorical_vae",
    "factor_analysis",
    "gaussian_mixture",
    "helmholtz_machine",
    "linear_vae",
    "log_linear",
    "mixture_of_factor_analysers",
    "neural_mixture",
    "ppca",
    "vae",
]
