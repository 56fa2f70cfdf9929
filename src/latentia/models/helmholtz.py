"""Models with binary or categorical latents: Helmholtz machines and the categorical VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ..factor import Factor
from ..factors import AutoregressiveBernoulli, Bernoulli, Categorical
from ..factors.relaxed import Concrete, StraightThrough
from ..joint import Joint
from ..model import Model
from ..nets import Constant
from ._build import nets_for, seeded
from ._likelihoods import Likelihood, encoder_inputs, observed_factor, start_at_log_odds, suited

if TYPE_CHECKING:
    from ..data import Data

PRIORS: dict[str, Callable[[int], Factor]] = {
    "learnt": lambda size: Bernoulli(Constant(size)),
    "autoregressive": AutoregressiveBernoulli,
}
RELAXATIONS: dict[str, Callable[[Factor], Factor]] = {
    "none": lambda factor: factor,
    "concrete": Concrete,
    "straight_through": StraightThrough,
}


@seeded
def helmholtz_machine(
    event: int | Sequence[int] | None = None,
    layers: Sequence[int] = (200,),
    *,
    hidden: Sequence[int] = (),
    activation: str = "tanh",
    prior: str = "learnt",
    relaxation: str = "none",
    likelihood: Likelihood | None = None,
    missing: bool = False,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(h_L) ... p(h_1 | h_2) p(x | h_1) with q(h_1 | x) q(h_2 | h_1) ..., layers of binary units.

    event        shape of one example, such as 64 or (1, 28, 28); taken from `data` where that is given
    layers       number of units of h1, h2, ..., the first nearest to x
    hidden       sizes of the hidden layers of each conditional's network; () makes all linear, a sigmoid
                 belief net with a recognition net
    prior        of the top layer: "learnt", independent units, or "autoregressive", each given those before
    relaxation   of the draws of q: "none", for objectives for discrete latents such as wake_sleep;
                 "concrete" or "straight_through", whose gradients let elbo and iwae train it
    likelihood, missing   of x, as in `vae`: visible units need not be binary
    data         chooses event, likelihood and missing as the command line does; the model takes its schema;
                 p(x | h1) of binary data starts at their log odds

    Raises ValueError for sizes below 1, no layer, and an unknown prior or likelihood. Hinton, Dayan, Frey &
    Neal (1995); Dayan, Hinton, Neal & Zemel (1995), "The Helmholtz machine"; Saul, Jaakkola & Jordan (1996).
    """
    shape, likelihood, missing = suited(event, likelihood, missing, data)
    sizes, relaxed = _checked(layers), _chosen("relaxation", relaxation, RELAXATIONS)
    encode, decode = nets_for(hidden, False, (), activation, missing)
    upward, downward = nets_for(hidden, False, (), activation, False)
    names = [f"h{i + 1}" for i in range(len(sizes))]
    p: dict[str, Factor] = {names[-1]: _chosen("prior", prior, PRIORS)(sizes[-1])}
    encoder = encode(encoder_inputs(likelihood, shape), sizes[0])
    q: dict[str, Factor] = {"h1": relaxed(Bernoulli(encoder, given="x"))}
    for (below, above), (size, size_above) in zip(pairwise(names), pairwise(sizes), strict=True):
        q[above] = relaxed(Bernoulli(upward(size, size_above), given=below))
    for (below, above), (size, size_above) in reversed([*zip(pairwise(names), pairwise(sizes), strict=True)]):
        p[below] = Bernoulli(downward(size_above, size), given=above)
    p["x"] = observed_factor(likelihood, decode, sizes[0], shape, given="h1")
    start_at_log_odds(p["x"], data)
    return Model(Joint(p), Joint(q), data.schema if data is not None else None)


@seeded
def categorical_vae(
    event: int | Sequence[int] | None = None,
    latent: int = 20,
    classes: int = 10,
    *,
    hidden: Sequence[int] = (400,),
    conv: bool = False,
    channels: Sequence[int] = (32, 64),
    activation: str = "relu",
    relaxation: str = "concrete",
    likelihood: Likelihood | None = None,
    missing: bool = False,
    data: Data | None = None,
    seed: int = 0,
) -> Model:
    """p(z) p(x | z), z a vector of codes, each uniform over the classes, with q(z | x) = prod_i q(z_i | x).

    latent      number of codes
    classes     number of values of each
    relaxation  of the draws of q, as in `helmholtz_machine`

    The other arguments are those of `vae`. Raises ValueError for fewer than 1 code or 2 classes. Jang, Gu &
    Poole (2017), "Categorical reparameterization with Gumbel-softmax"; Maddison, Mnih & Teh (2017).
    """
    if not (isinstance(latent, int) and isinstance(classes, int) and latent >= 1 and classes >= 2):
        raise ValueError(f"at least 1 code of 2 classes is needed, got latent={latent}, classes={classes}")
    shape, likelihood, missing = suited(event, likelihood, missing, data)
    encode, decode = nets_for(hidden, conv, channels, activation, missing)
    encoder = encode(encoder_inputs(likelihood, shape), latent * classes)
    p = Joint(
        z=Categorical(classes, event=latent, logits="uniform"),
        x=observed_factor(likelihood, decode, latent * classes, shape),
    )
    start_at_log_odds(p["x"], data)
    codes = Categorical(encoder, given="x", classes=classes, event=latent)
    q = Joint(z=_chosen("relaxation", relaxation, RELAXATIONS)(codes))
    return Model(p, q, data.schema if data is not None else None)


def _checked(layers: Sequence[int]) -> tuple[int, ...]:
    """The sizes of the layers. Raises ValueError for none, and for one below 1."""
    sizes = (layers,) if isinstance(layers, int) else tuple(layers)
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(
            f"a Helmholtz machine needs at least 1 layer of at least 1 unit, such as layers=(200, 200), got "
            f"layers={layers!r}"
        )
    return sizes


def _chosen(what: str, name: str, known: Mapping[str, Callable[..., Factor]]) -> Callable[..., Factor]:
    if name not in known:
        raise ValueError(f"{what} {name!r} is unknown: use {', '.join(map(repr, known))}")
    return known[name]
