"""ARM and DisARM: gradients for Bernoulli latents from pairs of opposite draws.

S samples, B examples, L layers of Bernoulli latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..exact import Inference
from ..factors import Bernoulli
from ..joint import Completion, Joint, Values, total
from ..noise import Request, Source
from ._draws import evidence_terms, has_draws, latent_in, scored_in
from .bound import Bound
from .elbo import direction_of, elbo

Coefficient = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def arm(p: Joint, q: Inference | None, values: Values, noise: Source, *, samples: int = 1) -> Bound:
    """The ELBO, with the augment-REINFORCE-merge gradient for the Bernoulli latents of q.

    A layer with logits l is drawn as z = 1[u < sigmoid(l)], and opposite as z~ = 1[1 - u < sigmoid(l)]; then

        d ELBO / d l = E_u[(f(z~) - f(z)) (u - 1/2)],   f = log p(x, z) - log q(z | x),

    unbiased, and without a baseline. In a deep q each layer has its opposite draw in turn, the layers above
    it as they were and those below it completed from it by the same noise, all in one pass: S (L + 1)
    evaluations of f. The value averages over all of them. Latents that can be reparameterised keep their
    pathwise gradient. Raises ValueError for any other latent that is not Bernoulli.

    Terms: "reconstruction" and "kl". Yin & Zhou (2019), "ARM: Augment-REINFORCE-merge gradient", theorem 1
    and proposition 3.
    """

    def augmented(u: Tensor, z: Tensor, opposite: Tensor, logits: Tensor) -> Tensor:
        return u - 0.5

    return _from_pairs(p, q, values, noise, samples, "arm", augmented)


def disarm(p: Joint, q: Inference | None, values: Values, noise: Source, *, samples: int = 1) -> Bound:
    """The ELBO, with ARM's gradient averaged over the noise that leads to the same pair of draws.

        d ELBO / d l = E[1/2 (f(z) - f(z~)) (z - z~) sigmoid(|l|)]

    for each unit, so units whose two draws agree add nothing. Its variance is at most ARM's at the same cost,
    and everything else is as in `arm`.

    Dong, Mnih & Tucker (2020), "DisARM: an antithetic gradient estimator for binary latent variables", eq. 7.
    """

    def disintegrated(u: Tensor, z: Tensor, opposite: Tensor, logits: Tensor) -> Tensor:
        return 0.5 * (opposite - z) * torch.sigmoid(logits.abs())

    return _from_pairs(p, q, values, noise, samples, "disarm", disintegrated)


def _from_pairs(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    samples: int,
    name: str,
    coefficient: Coefficient,
) -> Bound:
    """The ELBO with d ELBO / d l = (f(z~) - f(z)) coefficient(u, z, z~, l) for each Bernoulli layer."""
    if not has_draws(q, values):
        return elbo(p, q, values, noise, samples=samples)
    learns = torch.is_grad_enabled()
    layers = [latent for latent in latent_in(q, values) if learns and _is_thresholded(q, latent)]
    branches = Branches(noise, layers)
    done = q.complete(values, branches, samples * (1 + len(layers)))
    scored = scored_in(q, done, name)
    for latent in scored:
        if latent not in layers:
            raise ValueError(
                f"q draws {latent!r} from {type(q[latent]).__name__}, and {name} is for Bernoulli latents: "
                f"use vimco, Reinforce or wake_sleep, or elbo with each discrete latent in enumerate="
            )
    log_p = p.log_probs(done.values)
    terms = evidence_terms(done, log_p)
    value = terms["reconstruction"] - terms["kl"]
    with torch.no_grad():
        f = total(log_p.values()) - total(done.log_q.values())  # [(1 + L) S, B]
        f = _by_branch(f, samples)
    drawn = (-done.log_q[latent] for latent in done.log_q if latent not in scored)
    pathwise = total([*log_p.values(), *drawn])
    surrogate = pathwise.mean(0)
    for place, latent in enumerate(layers, start=1):
        if latent not in scored:
            continue
        z = _by_branch(done.values[latent], samples)
        logits, size = _logits(q, done, latent, samples), len(q[latent].event)
        weight = coefficient(branches.uniforms[latent], z[0], z[place], logits.detach())
        gain = (f[place] - f[0]).reshape(*f.shape[1:], *(1,) * size)
        climbed = gain * weight * logits
        surrogate = surrogate + (climbed.flatten(2).sum(-1) if size else climbed).mean(0)
    return Bound(value, surrogate, terms, direction_of(p, q, values))


class Branches:
    """Noise for 1 + L branches of S draws each: branch v has 1 - u in the place of u for layer v alone.

    layers    the Bernoulli latents, drawn as 1[u < pi]
    uniforms  u of each layer as it was drawn, `[S, B, *event]`
    """

    def __init__(self, source: Source, layers: Sequence[str]) -> None:
        self.source, self.layers = source, list(layers)
        self.uniforms: dict[str, Tensor] = {}

    def take(self, key: str, request: Request) -> Tensor:
        branches, (count, *rest) = 1 + len(self.layers), request.shape
        drawn = self.source.take(key, Request((count // branches, *rest), request.kind))
        parts, name = [drawn] * branches, key.rpartition(".")[0]
        if name in self.layers:
            self.uniforms[name] = drawn
            parts[1 + self.layers.index(name)] = 1 - drawn
        return torch.cat(parts)

    def sample(self, distribution: Distribution) -> Tensor:
        if not self.layers:
            return self.source.sample(distribution)
        family = type(distribution).__name__
        raise ValueError(
            f"{family} has no draw from given noise, and opposite draws share theirs: use vimco or Reinforce"
        )


def _by_branch(value: Tensor, samples: int) -> Tensor:
    """`[(1 + L) S, ...]` to `[1 + L, S, ...]`."""
    return value.reshape(-1, samples, *value.shape[1:])


def _is_thresholded(q: Joint, name: str) -> bool:
    """Whether q draws the variable as 1[u < pi]."""
    factor = q[name]
    return isinstance(factor, Bernoulli) and type(factor).transform is Bernoulli.transform


def _logits(q: Joint, done: Completion, name: str, samples: int) -> Tensor:
    """The logits of a layer in the first branch, `[S, B, *event]`, or without S where they do not need it."""
    distribution = done.distributions.get(name)
    if distribution is None:  # it was drawn in some rows only
        distribution = q[name].distribution(*q.parents(name, done.values))
    logits: Tensor = distribution.base_dist.logits  # type: ignore[attr-defined]
    led = logits.ndim == 2 + len(q[name].event)
    return logits[:samples] if led else logits
