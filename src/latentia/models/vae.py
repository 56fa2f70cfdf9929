"""Variational autoencoders and what becomes of them when q is linear or deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..factors import Deterministic, Diagonal, Normal, StandardNormal, gaussian_outputs
from ..factors.covariances import Covariance
from ..joint import Joint
from ..model import Model
from ._build import at_least_one, nets_for, seeded
from ._likelihoods import Likelihood, encoder_inputs, observed_factor, suited

if TYPE_CHECKING:
    from ..data import Data


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
                 from the decoder), the kinds of a table's columns such as ("number", "binary", 5) (see
                 `Columns`), or a function (net, given) -> Factor with an attribute `width`, how many numbers
                 it needs per entry (1)
    covariance   of q: Diagonal(), Full() or LowRank(rank)
    missing      the encoder takes the mask of observed entries beside the values
    data         chooses event, likelihood and missing as the command line does; the model takes its schema

    Raises ValueError for sizes below 1, an unknown likelihood, or conv with an event that is no image.
    Kingma & Welling (2014), "Auto-encoding variational Bayes".
    """
    shape, likelihood, missing = suited(event, likelihood, missing, data)
    at_least_one(latent)
    encode, decode = nets_for(hidden, conv, channels, activation, missing)
    encoder = encode(encoder_inputs(likelihood, shape), gaussian_outputs(latent, covariance))
    p = Joint(z=StandardNormal(latent), x=observed_factor(likelihood, decode, latent, shape))
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
    """p(x | z) with z = f(x), an encoder without noise: the VAE's decoder, no prior, q a point.

    It reconstructs and embeds; without a prior it has no samples and no evidence. The arguments are those of
    `vae`.
    """
    shape, likelihood, missing = suited(event, likelihood, missing, data)
    at_least_one(latent)
    encode, decode = nets_for(hidden, conv, channels, activation, missing)
    p = Joint(x=observed_factor(likelihood, decode, latent, shape))
    q = Joint(z=Deterministic(encode(encoder_inputs(likelihood, shape), latent), given="x"))
    return Model(p, q, data.schema if data is not None else None)
