"""Models that fit the columns, where a user names none."""

from __future__ import annotations

import math
from collections.abc import Callable

from .. import models
from ..data import Data, Image
from ..errors import UsageError
from ..factors import Diagonal, Full
from ..factors.covariances import Covariance
from ..model import Model

Builder = Callable[[int], Model]


def suited_models(data: Data) -> dict[str, Builder]:
    """Models of the kind of data, as functions of the seed, by how `latentia compare --models` writes them.

    Of numbers: Gaussian mixtures, ppca, factor analysis, mixtures of factor analysers, a VAE. Of zeros and
    ones: mixtures of Bernoullis, a log-linear model of few columns, a VAE. Of mixed tables: mixtures of
    columns, a VAE. Their latent dimensions are about the root of the number of columns.

    Raises UsageError for data of several variables, and for single codes.
    """
    schema = data.schema
    event = data.event_shape
    if len(schema.fields) > 1 or not event:
        held = ", ".join(schema.fields) if len(schema.fields) > 1 else "single codes"
        raise UsageError(f"no models are known by heart for data of {held}: say which to compare")
    size, rows = math.prod(event), len(data.train)
    latent = max(1, min(10, round(math.sqrt(size))))
    found: dict[str, Builder] = {}
    if schema.likelihood == "normal":
        image = isinstance(schema.fields[schema.main], Image) or len(event) > 1
        found |= _gaussian(data, [k for k in (1, 3, 8) if k <= rows], Diagonal() if image else Full())
        if size > 2:
            found |= _linear(data, latent, [k for k in (3,) if k <= rows])
    elif schema.likelihood == "bernoulli":
        found |= _mixtures(data, "bernoulli_mixture", [k for k in (1, 5, 20) if k <= rows])
        if len(event) == 1 and size <= 10:
            found["log_linear:classes=2"] = lambda seed: models.log_linear(data=data, classes=2, seed=seed)
    else:
        found |= _mixtures(data, "categorical_mixture", [k for k in (1, 5, 20) if k <= rows])
    found[f"vae:latent={latent}"] = lambda seed: models.vae(data=data, latent=latent, seed=seed)
    return found


def _gaussian(data: Data, components: list[int], covariance: Covariance) -> dict[str, Builder]:
    """Gaussian mixtures by their numbers of components; of tables, the largest with diagonals as well."""
    found = {
        f"gaussian_mixture:components={k}": _seeded(models.gaussian_mixture, data, components=k)
        for k in components
    }
    if covariance == Full():
        name = f"gaussian_mixture:components={components[-1]}:covariance=diagonal"
        found[name] = _seeded(models.gaussian_mixture, data, components=components[-1], covariance=Diagonal())
    return found


def _linear(data: Data, latent: int, components: list[int]) -> dict[str, Builder]:
    """Linear maps of Gaussian latents."""
    found = {
        f"{make.__name__}:latent={latent}": _seeded(make, data, latent=latent)
        for make in (models.ppca, models.factor_analysis)
    }
    for k in components:
        name = f"mixture_of_factor_analysers:components={k}:latent={latent}"
        make = models.mixture_of_factor_analysers
        found[name] = _seeded(make, data, components=k, latent=latent)
    return found


def _mixtures(data: Data, name: str, components: list[int]) -> dict[str, Builder]:
    """Mixtures of one name by their numbers of components."""
    make = getattr(models, name)
    return {f"{name}:components={k}": _seeded(make, data, components=k) for k in components}


def _seeded(make: Callable[..., Model], data: Data, **arguments: object) -> Builder:
    return lambda seed: make(data=data, seed=seed, **arguments)
