"""Small pairs (p, q) with discrete latents, their exact gradients, and the means of estimated ones.

G groups of draws, R repetitions of each row, M states of all latents, B rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

import latentia as lt
from latentia.joint import total
from latentia.noise import Noise

GROUPS, PER_GROUP = 100, 60  # groups of draws, and repetitions of each row in one
ERRORS = 5.0
PRECISION = {"rtol": 1e-10, "atol": 1e-12}
ROWS = torch.tensor([[1.0, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.float64)

Objective = Callable[..., lt.Bound]
Gradients = dict[str, Tensor]


def pair(p: Mapping[str, lt.Factor], q: Mapping[str, lt.Factor], seed: int = 3) -> lt.Model:
    """A float64 model whose parameters are all random, none at a symmetric start."""
    model = lt.Model(lt.Joint(p), lt.Joint(q)).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.8 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def one_layer() -> lt.Model:
    return pair(
        {"z": lt.Bernoulli(lt.Constant(3)), "x": lt.Bernoulli(lt.MLP(3, 4), given="z")},
        {"z": lt.Bernoulli(lt.MLP(4, 3), given="x")},
    )


def two_layers() -> lt.Model:
    return pair(
        {
            "h": lt.Bernoulli(lt.Constant(2)),
            "z": lt.Bernoulli(lt.MLP(2, 3), given="h"),
            "x": lt.Bernoulli(lt.MLP(3, 4), given="z"),
        },
        {"z": lt.Bernoulli(lt.MLP(4, 3), given="x"), "h": lt.Bernoulli(lt.MLP(3, 2), given="z")},
    )


def categorical() -> lt.Model:
    return pair(
        {"k": lt.Categorical(4), "x": lt.Bernoulli(lt.MLP(4, 4), given="k")},
        {"k": lt.Categorical(lt.MLP(4, 4), given="x")},
    )


def computed() -> lt.Model:
    """Two independent bits in q, of which p computes something that it draws from, and a head they share."""
    return pair(
        {
            "a": lt.Bernoulli(lt.Constant(1)),
            "b": lt.Bernoulli(lt.Constant(2)),
            "c": lt.Deterministic(lt.MLP(1, 2, hidden=(2,), activation="tanh"), given="a"),
            "x": lt.Bernoulli(lt.MLP(4, 4), given=("c", "b")),
        },
        {
            "f": lt.Deterministic(lt.MLP(4, 3), given="x"),
            "a": lt.Bernoulli(lt.MLP(3, 1), given="f"),
            "b": lt.Bernoulli(lt.MLP(3, 2), given="f"),
        },
    )


def mixed() -> lt.Model:
    """A Gaussian, bits drawn given it, and a Gaussian given the bits."""
    return pair(
        {
            "u": lt.StandardNormal(1),
            "b": lt.Bernoulli(lt.MLP(1, 2), given="u"),
            "v": lt.Normal(lt.MLP(2, 1), given="b", scale=1.0),
            "x": lt.Bernoulli(lt.MLP(4, 4), given=("u", "b", "v")),
        },
        {
            "u": lt.Normal(lt.MLP(4, 2), given="x"),
            "b": lt.Bernoulli(lt.MLP(5, 2), given=("x", "u")),
            "v": lt.Normal(lt.MLP(6, 2), given=("x", "b")),
        },
    )


MODELS = {make.__name__: make for make in (one_layer, two_layers, categorical, computed, mixed)}


def named(model: lt.Model) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def repeated(values: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    return {name: value.repeat(times, *(1,) * (value.ndim - 1)) for name, value in values.items()}


def estimated(
    model: lt.Model, objective: Objective, values: Mapping[str, Tensor], seed: int = 0, groups: int = GROUPS
) -> Gradients:
    """The gradient of the surrogate's mean over the rows in each group of draws, `[G, *parameter]`."""
    noise, many = Noise(seed, dtype=torch.float64), repeated(values, PER_GROUP)
    found = [
        exact_gradient(model, objective(model.p, model.q, many, noise).surrogate.mean())
        for _ in range(groups)
    ]
    return {name: torch.stack([gradient[name] for gradient in found]) for name in named(model)}


def exact_gradient(model: lt.Model, scalar: Tensor) -> Gradients:
    parameters = named(model)
    gradients = torch.autograd.grad(scalar, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(parameters.items(), gradients, strict=True)
    }


def enumerated_elbo(model: lt.Model, values: Mapping[str, Tensor]) -> Gradients:
    """The gradient of the ELBO with every discrete latent summed out, `[G, ...]` where others are drawn."""
    discrete = [name for name in model.q if name in MODEL_BITS]
    objective = partial(lt.elbo, enumerate=discrete)
    if all(name in discrete for name in model.q if model.q[name].has_density):
        noise = Noise(dtype=torch.float64)
        return exact_gradient(model, objective(model.p, model.q, values, noise).surrogate.mean())
    return estimated(model, objective, values, seed=77)


MODEL_BITS = {"z", "h", "k", "a", "b", "y"}


def require_equal_means(found: Gradients, exact: Gradients) -> None:
    """Each entry's mean is within 5 standard errors of the exact gradient; so is one that is estimated."""
    assert any(bool((gradient != 0).any()) for gradient in found.values())
    for name, gradient in found.items():
        target = exact[name]
        variance = gradient.var(0) / len(gradient)
        if target.ndim == gradient.ndim:
            variance, target = variance + target.var(0) / len(target), target.mean(0)
        gap = (gradient.mean(0) - target).abs()
        assert (gap <= ERRORS * variance.sqrt() + 1e-9).all(), (
            f"{name}: {gap.max():.4g} off, {(gap / variance.sqrt()).max():.1f} standard errors"
        )


def weights_of_states(model: lt.Model, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """log p(x, z) - log q(z | x) and log q(z | x) of every state of the latents, `[M, B]`."""
    done = model.q.complete(values, Noise(dtype=torch.float64), enumerate=model.q.variables)
    log_q = total(done.log_q.values())
    log_w = model.p.log_prob(done.values) - log_q
    return log_w.flatten(0, -2), log_q.expand_as(log_w).flatten(0, -2)


def split(gradients: Gradients, part: str) -> Gradients:
    return {name: gradient for name, gradient in gradients.items() if name.startswith(f"{part}.")}


def gap(found: Gradients, exact: Gradients) -> float:
    """The distance between the mean of found gradients and the exact one."""
    return math.sqrt(sum(float((g.mean(0) - exact[name]).square().sum()) for name, g in found.items()))


def spread(found: Gradients, part: str = "q") -> float:
    """The variance of one draw's gradient, summed over the parameters."""
    return sum(float(g.var(0).sum()) for g in split(found, part).values()) * PER_GROUP * len(ROWS)


def labelled() -> tuple[lt.Model, dict[str, Tensor]]:
    """Labels y seen in some rows, holes in x, and bits z: p(y) p(z) p(x | y, z), q(y | x) q(z | x, y)."""
    model = pair(
        {
            "y": lt.Bernoulli(lt.Constant(1)),
            "z": lt.Bernoulli(lt.Constant(2)),
            "x": lt.Bernoulli(lt.MLP(3, 4), given=("y", "z")),
        },
        {
            "y": lt.Bernoulli(lt.MLP(4, 1, missing=True), given="x"),
            "z": lt.Bernoulli(lt.MLP(5, 2, missing=True), given=("x", "y")),
        },
    )
    seen = torch.tensor([[True, True, False, True], [True] * 4])
    values = {
        "x": torch.where(seen, ROWS, 0.0),
        "x.observed": seen,
        "y": torch.tensor([[0.0], [1.0]], dtype=torch.float64),
        "y.observed": torch.tensor([False, True]),
    }
    return model, values
