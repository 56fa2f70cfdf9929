"""Variational autoencoders and what becomes of them when q is linear or deterministic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from ..factor import Factor
from ..factors import Bernoulli, Deterministic, Diagonal, Normal, StandardNormal, gaussian_outputs
from ..factors.normal import Covariance
from ..joint import Joint
from ..model import Model
from ..nets import MLP, ConvDecoder, ConvEncoder
from ._build import seeded

if TYPE_CHECKING:
    from ..data import Data

Likelihood = str | Callable[[nn.Module, str], Factor]


@seeded
def vae(
    event: int | Sequence[int] | None = None,
    latent: int = 16,
    *,
    hidden: Sequence[int] = (400,),
    conv: bool = False,
    channels: Sequence[int] = (32, 64),
    activation: str = "relu",
    likelihood: Likelihood | None = None,
    covariance: Covariance = Diagonal(),  # noqa: B008 (frozen)
    missing: bool = False,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(z) p(x | z), z ~ N(0, I), with q(z | x) = N(mu(x), Sigma(x)).

    event        shape of one example, such as 64 or (1, 28, 28); taken from `data` where that is given
    latent       number of latent dimensions
    hidden       sizes of the encoder's hidden layers; the decoder mirrors them; () makes both linear
    conv         convolutional encoder and decoder with `channels`, for images (C, H, W)
    likelihood   "bernoulli", "normal" (one learnt scale, the default), "normal_network" (a scale per entry
                 from the decoder), or a function (net, given) -> Factor with an attribute `parameters`, how
                 many numbers it needs per entry (1)
    covariance   of q: Diagonal(), Full() or LowRank(rank)
    missing      the encoder takes the mask of observed entries beside the values
    data         chooses event, likelihood and missing as the command line does; the model takes its schema

    Raises ValueError for sizes below 1, an unknown likelihood, or conv with an event that is no image.
    Kingma & Welling (2014), "Auto-encoding variational Bayes".
    """
    shape, likelihood, missing = _from_data(event, likelihood, missing, data)
    _at_least_one(latent)
    outputs = gaussian_outputs(latent, covariance)
    encoder = _encoder(shape, outputs, hidden, conv, channels, activation, missing)
    decoder = _observed(shape, latent, hidden, conv, channels, activation, likelihood)
    p = Joint(z=StandardNormal(latent), x=decoder)
    q = Joint(z=Normal(encoder, given="x", covariance=covariance, event=latent))
    return Model(p, q, data.schema if data is not None else None)


@seeded
def linear_vae(
    event: int | Sequence[int] | None = None, latent: int = 16, *, data: Data | None = None, seed: int = 0
) -> Model:
    """p(z) N(x; Wz + b, sigma^2 I) with a linear encoder: at its optimum the ELBO is PPCA's log-likelihood.

    Lucas, Tucker, Grosse & Norouzi (2019), "Don't blame the ELBO!"; Tipping & Bishop (1999).
    """
    return vae(event, latent, hidden=(), likelihood="normal", data=data, seed=seed)


@seeded
def autoencoder(
    event: int | Sequence[int] | None = None,
    latent: int = 16,
    *,
    hidden: Sequence[int] = (400,),
    conv: bool = False,
    channels: Sequence[int] = (32, 64),
    activation: str = "relu",
    likelihood: Likelihood | None = None,
    missing: bool = False,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(x | z) with z = f(x): an encoder without noise.

    It reconstructs and embeds; it has no prior, so no samples and no evidence.
    The arguments are those of `vae`.
    """
    shape, likelihood, missing = _from_data(event, likelihood, missing, data)
    _at_least_one(latent)
    encoder = _encoder(shape, latent, hidden, conv, channels, activation, missing)
    p = Joint(x=_observed(shape, latent, hidden, conv, channels, activation, likelihood))
    q = Joint(z=Deterministic(encoder, given="x"))
    return Model(p, q, data.schema if data is not None else None)


def _normal(net: nn.Module, given: str) -> Factor:
    return Normal(net, given, scale="learnt")


def _normal_network(net: nn.Module, given: str) -> Factor:
    return Normal(net, given, floor=1e-2)


LIKELIHOODS: dict[str, tuple[Callable[[nn.Module, str], Factor], int]] = {
    "bernoulli": (Bernoulli, 1),
    "normal": (_normal, 1),
    "normal_network": (_normal_network, 2),
}


def _observed(
    shape: tuple[int, ...],
    latent: int,
    hidden: Sequence[int],
    conv: bool,
    channels: Sequence[int],
    activation: str,
    likelihood: Likelihood,
) -> Factor:
    """p(x | z): the decoder that mirrors the encoder, its outputs as many as the likelihood needs."""
    if isinstance(likelihood, str):
        if likelihood not in LIKELIHOODS:
            known = ", ".join(LIKELIHOODS)
            raise ValueError(
                f"likelihood {likelihood!r} is unknown: use {known}, or a function of (net, given)"
            )
        make, parameters = LIKELIHOODS[likelihood]
    else:
        make, parameters = likelihood, int(getattr(likelihood, "parameters", 1))
    outputs = (parameters * shape[0], *shape[1:])
    if conv:
        return make(ConvDecoder(latent, outputs, channels, activation), "z")
    return make(MLP(latent, outputs, tuple(reversed(tuple(hidden))), activation), "z")


def _encoder(
    shape: tuple[int, ...],
    outputs: int,
    hidden: Sequence[int],
    conv: bool,
    channels: Sequence[int],
    activation: str,
    missing: bool,
) -> nn.Module:
    if conv:
        return ConvEncoder(shape, outputs, channels, activation, missing)
    return MLP(shape, outputs, hidden, activation, missing)


def _from_data(
    event: int | Sequence[int] | None, likelihood: Likelihood | None, missing: bool, data: Data | None
) -> tuple[tuple[int, ...], Likelihood, bool]:
    if event is None and data is None:
        raise ValueError("say the shape of one example with event=, such as event=64, or pass data=")
    if data is not None:
        event = data.event_shape if event is None else event
        likelihood = data.schema.likelihood if likelihood is None else likelihood
        missing = missing or any(field.missing for field in data.schema.fields.values())
    shape = (event,) if isinstance(event, int) else tuple(event or ())
    if not shape or any(side < 1 for side in shape):
        raise ValueError(f"event sizes must be at least 1, got {event}")
    return shape, likelihood or "normal", missing


def _at_least_one(latent: int) -> None:
    if latent < 1:
        raise ValueError(f"a model needs at least 1 latent dimension, got latent={latent}")
