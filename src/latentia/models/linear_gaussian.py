"""Linear maps of Gaussian latent variables: probabilistic PCA, factor analysis, and mixtures of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..exact import Exact
from ..factors import Categorical, Diagonal, LinearNormal, Spherical, StandardNormal
from ..joint import Joint
from ..model import Model
from ._build import at_least_one, seeded
from ._likelihoods import suited

if TYPE_CHECKING:
    from ..data import Data


@seeded
def ppca(
    event: int | Sequence[int] | None = None,
    latent: int = 2,
    *,
    floor: float = 1e-3,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(z) N(x; W z + b, sigma^2 I), z ~ N(0, I): probabilistic principal component analysis; q is exact.

    event    shape of one example, such as 64 or (1, 28, 28); taken from `data` where that is given
    latent   number of latent dimensions, below the number of entries of x
    floor    sigma is not below it (in the data's model units)
    data     chooses the event as the command line does; the model takes its schema

    Raises ValueError for sizes below 1, for as many latent dimensions as entries, and for data whose columns
    are not all numbers. Tipping & Bishop (1999), "Probabilistic principal component analysis".
    """
    shape = _of_numbers(event, latent, data)
    x = LinearNormal(shape, latent, covariance=Spherical(), floor=floor)
    p = Joint(z=StandardNormal(latent), x=x)
    return Model(p, Exact(p), data.schema if data is not None else None)


@seeded
def factor_analysis(
    event: int | Sequence[int] | None = None,
    latent: int = 2,
    *,
    floor: float = 1e-3,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(z) N(x; W z + b, diag(psi)), z ~ N(0, I): each entry has a noise variance of its own; q is exact.

    The arguments and errors are those of `ppca`. Where (D - M)^2 < D + M, for D entries and M latent
    dimensions, several W and psi have the same covariance: the evidence is right, the factors are not to be
    read one by one. Rubin & Thayer (1982), "EM algorithms for ML factor analysis"; Ledermann (1937).
    """
    shape = _of_numbers(event, latent, data)
    x = LinearNormal(shape, latent, covariance=Diagonal(), floor=floor)
    p = Joint(z=StandardNormal(latent), x=x)
    return Model(p, Exact(p), data.schema if data is not None else None)


@seeded
def mixture_of_factor_analysers(
    event: int | Sequence[int] | None = None,
    components: int = 5,
    latent: int = 2,
    *,
    covariance: Diagonal | Spherical = Diagonal(),  # noqa: B008 (frozen)
    floor: float = 1e-3,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(k) p(z) N(x; W_k z + b_k, R_k), k ~ Categorical(pi), z ~ N(0, I); q is exact.

    components   number of codes of k
    covariance   R_k: Diagonal(), or Spherical() for a mixture of PPCAs

    The other arguments and errors are those of `ppca`. Ghahramani & Hinton (1996), "The EM algorithm for
    mixtures of factor analyzers"; Tipping & Bishop (1999), "Mixtures of probabilistic principal component
    analysers".
    """
    shape = _of_numbers(event, latent, data)
    if components < 1:
        raise ValueError(f"a mixture needs at least 1 component, got components={components}")
    x = LinearNormal(shape, latent, ("k", "z"), covariance=covariance, states=components, floor=floor)
    p = Joint(k=Categorical(components), z=StandardNormal(latent), x=x)
    return Model(p, Exact(p), data.schema if data is not None else None)


def _of_numbers(event: int | Sequence[int] | None, latent: int, data: Data | None) -> tuple[int, ...]:
    """The event's shape. Raises ValueError for sizes that make no sense and for data that are not numbers."""
    shape, _, _ = suited(event, None, False, data)
    at_least_one(latent)
    if data is None:
        return _with_room_for_noise(shape, latent)
    from ..data import Image

    field = data.schema.fields[data.schema.main]
    if not isinstance(field, Image) and field.likelihood != "normal":
        columns = getattr(field, "columns", ())
        others = [f"{column.name!r} ({column.kind})" for column in columns if column.kind != "number"]
        shown = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
        fault = f"column {shown}" if others else f"{data.schema.main!r} ({getattr(field, 'kind', 'codes')})"
        raise ValueError(
            f"a linear-Gaussian model takes numbers, and the data hold {fault}: read them with "
            f"types={{name: 'number'}}, or use a model of mixed tables, such as vae"
        )
    return _with_room_for_noise(shape, latent)


def _with_room_for_noise(shape: tuple[int, ...], latent: int) -> tuple[int, ...]:
    """The shape. Raises ValueError where W alone has every covariance: nothing is left to the noise."""
    entries = math.prod(shape)
    if latent < entries:
        return shape
    most = "no latent dimension" if entries == 1 else f"at most latent={entries - 1}"
    columns = "1 column" if entries == 1 else f"{entries:,} columns"
    raise ValueError(
        f"latent={latent} is too many for {columns}, with room for {most}: a linear map of more reaches "
        f"every covariance and leaves nothing to the noise. For a full covariance use "
        f"gaussian_mixture(components=1)"
    )
