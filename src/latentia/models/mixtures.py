"""Mixtures: p(x) = sum_k p(k) p(x | k), k a component, whose posterior p(k | x) is exact.

D entries of a flat event, K components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..codings import Kind, checked_columns
from ..exact import Exact
from ..factors import (
    Bernoulli,
    Categorical,
    Columns,
    Diagonal,
    Full,
    Normal,
    columns_outputs,
    gaussian_outputs,
)
from ..factors.covariances import Covariance
from ..joint import Joint
from ..model import Model
from ..nets import Table
from ._build import nets_for, seeded
from ._likelihoods import Likelihood, column_kinds, observed_factor, suited

if TYPE_CHECKING:
    from ..data import Data

MOST_NUMBERS = 2**30  # of all covariances together


@seeded
def gaussian_mixture(
    event: int | Sequence[int] | None = None,
    components: int = 8,
    *,
    covariance: Covariance | None = None,
    floor: float = 1e-3,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(k) N(x; mu_k, Sigma_k): a mixture of Gaussians.

    event        shape of one example, such as 64 or (1, 28, 28); taken from `data` where that is given
    components   number of components
    covariance   Full(), the default of flat events, Diagonal(), that of images, Spherical(), Tied() or
                 LowRank(rank)
    floor        keeps standard deviations away from 0, in the units of the model's x: without it a component
                 can close in on one point, and the likelihood grows without end
    data         chooses the event as the command line does; the model takes its schema

    Raises ValueError for sizes below 1, a covariance other than Diagonal() of images, full covariances of
    more than 2^30 numbers (4 GiB), and data that are not numbers. Dempster, Laird & Rubin (1977), section
    4.3; Bishop (2006), section 9.2.
    """
    shape = _shape_for("normal", event, components, data)
    image = len(shape) > 1
    covariance = covariance or (Diagonal() if image else Full())
    if image and covariance != Diagonal():
        raise ValueError(
            f"{covariance} is for flat events such as (10,), and {shape} is an image: use Diagonal(), or "
            f"flatten the images to rows of {math.prod(shape):,} numbers, x.reshape(len(x), -1), and load "
            f"those (for the command line save them first, numpy.save('flat.npy', ...))"
        )
    outputs = (2 * shape[0], *shape[1:]) if image else gaussian_outputs(shape[0], covariance)
    numbers = components * math.prod(shape) * (math.prod(shape) + 1) // 2
    if covariance == Full() and numbers > MOST_NUMBERS:
        raise ValueError(
            f"{components:,} full covariances of {shape[0]:,} columns are {numbers:,} numbers: use "
            f"Diagonal() or LowRank(rank), or fewer components"
        )
    x = Normal(Table(components, outputs), given="k", covariance=covariance, floor=floor)
    p = Joint(k=Categorical(components), x=x)
    return Model(p, Exact(p), data.schema if data is not None else None)


@seeded
def bernoulli_mixture(
    event: int | Sequence[int] | None = None,
    components: int = 8,
    *,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(k) prod_d Bernoulli(x_d; pi_kd): a mixture of independent binary entries.

    The arguments are those of `gaussian_mixture`. Raises ValueError for sizes below 1, and data that are not
    binary. Bishop (2006), section 9.3.3.
    """
    shape = _shape_for("bernoulli", event, components, data)
    p = Joint(k=Categorical(components), x=Bernoulli(Table(components, shape), given="k"))
    return Model(p, Exact(p), data.schema if data is not None else None)


@seeded
def categorical_mixture(
    columns: Sequence[Kind] | None = None,
    components: int = 8,
    *,
    floor: float = 1e-3,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(k) prod_d p(x_d | k): latent class analysis, of categories and of mixed tables.

    columns      the kind of each column: the number of codes of a category, "binary", "number" or "count"
                 (see `Columns`); taken from `data` where that is given
    components   number of classes
    floor        keeps the scale of a number away from 0

    Raises ValueError for sizes below 1, kinds that there are not, and data that are images. Lazarsfeld &
    Henry (1968), "Latent structure analysis"; Goodman (1974), "Exploratory latent structure analysis using
    both identifiable and unidentifiable models".
    """
    _at_least_one(components)
    kinds = checked_columns(_columns_of(data) if columns is None else columns)
    table = Table(components, columns_outputs(kinds))
    p = Joint(k=Categorical(components), x=Columns(table, given="k", columns=kinds, floor=floor))
    return Model(p, Exact(p), data.schema if data is not None else None)


@seeded
def neural_mixture(
    event: int | Sequence[int] | None = None,
    components: int = 8,
    *,
    hidden: Sequence[int] = (64,),
    conv: bool = False,
    channels: Sequence[int] = (32, 64),
    activation: str = "relu",
    likelihood: Likelihood | None = None,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(k) p(x | f(k)), f a network of the one-hot k: components that share a decoder, fitted by generalised
    EM.

    hidden, conv, channels, activation, likelihood: of the decoder, as in `vae`

    The other arguments are those of `gaussian_mixture`. The M-step of the decoder climbs
    the expected log likelihood by L-BFGS: Dempster, Laird & Rubin (1977), section 1; Neal & Hinton (1998).
    """
    _at_least_one(components)
    shape, likelihood, missing = suited(event, likelihood, False, data)
    _, decode = nets_for(hidden, conv, channels, activation, missing)
    x = observed_factor(likelihood, decode, components, shape, given="k")
    p = Joint(k=Categorical(components), x=x)
    return Model(p, Exact(p), data.schema if data is not None else None)


def _at_least_one(components: int) -> None:
    if components < 1:
        raise ValueError(f"a mixture needs at least 1 component, got components={components}")


def _shape_for(
    likelihood: str, event: int | Sequence[int] | None, components: int, data: Data | None
) -> tuple[int, ...]:
    """The event's shape. Raises ValueError where the data want another likelihood, naming the columns."""
    _at_least_one(components)
    if data is not None and data.schema.likelihood != likelihood:
        kind, what = ("number", "numbers") if likelihood == "normal" else ("binary", "zeros and ones")
        remedies = {
            "columns": "use categorical_mixture, which takes columns of every kind",
            "bernoulli": "use bernoulli_mixture",
            "normal": "binarise them with binarise='threshold', or use gaussian_mixture",
        }
        raise ValueError(
            f"this mixture takes {what}, and the data hold {_contents(data, kind)}: "
            f"{remedies[data.schema.likelihood]}"
        )
    return suited(event, likelihood, False, data)[0]


def _contents(data: Data, kind: str) -> str:
    """What the data hold that is not of this kind."""
    from ..data import Array, Image

    field = data.schema.fields[data.schema.main]
    if isinstance(field, Image):
        return field.units
    if isinstance(field, Array):
        return {"number": "numbers", "binary": "zeros and ones", "category": "codes"}[field.kind]
    others = [f"{column.name!r} ({column.kind})" for column in field.columns if column.kind != kind]
    return ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")


def _columns_of(data: Data | None) -> Sequence[Kind]:
    """The kinds of the data's columns. Raises ValueError without data, or where they are no table."""
    if data is None:
        raise ValueError(
            "say the kinds of the columns, such as columns=(3, 3, 'binary'), or pass data= to have them read"
        )
    from ..data import Array
    from ..data import Table as TableField

    field = data.schema.fields[data.schema.main]
    if isinstance(field, TableField):
        return column_kinds(field)
    if isinstance(field, Array) and len(field.event) == 1:
        return (field.classes or field.kind,) * field.event[0]
    raise ValueError(
        f"categorical_mixture takes a table, and the data are of shape {field.event}: use "
        f"bernoulli_mixture or gaussian_mixture"
    )
