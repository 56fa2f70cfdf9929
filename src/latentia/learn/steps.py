"""What the two steps of EM do to one chunk of rows, or to one factor.

K states of the enumerated latents, B rows of a chunk, M entries of the Gaussian latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UsageError
from ..exact import Exact, Expectation
from ..factor import Factor, Moments
from ..factors.gaussian import HALF_LOG_TWO_PI
from ..joint import MASK
from ..noise import Noise


class Arguments(NamedTuple):
    """What a factor's statistics are made of."""

    value: Tensor | Moments
    parents: list[Tensor | Moments]
    weight: Tensor
    observed: Tensor | None


def at_one_point(found: Expectation, noise: Noise | None) -> Expectation:
    """The latents at one point of the posterior: the most probable one, or a draw where noise is given.

    The most probable state, with Gaussian latents at their mean given it, or a state and then a Gaussian
    draw. `log_evidence` is then log p(x, z) at that point.
    """
    lead = found.weight.ndim - 1
    flat = found.weight.flatten(0, lead - 1) if lead else found.weight.unsqueeze(0)  # [K, B]
    scores, values = found.posterior.log_weights.reshape(flat.shape), dict(found.values)
    gaussian = found.posterior.gaussian
    if gaussian is not None:
        epsilon = torch.zeros_like(gaussian.loc)
        if noise is not None:
            epsilon = torch.randn(
                epsilon.shape, generator=noise.generator, dtype=epsilon.dtype, device=epsilon.device
            )
        point = gaussian.transform(epsilon)
        log_det = gaussian.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_density = (-0.5 * epsilon.square() - HALF_LOG_TWO_PI).sum(-1) - log_det  # [*lead, B]
        density = log_density.expand(found.weight.shape).reshape(flat.shape)
        for name, place in found.posterior.places.items():
            mean = point[..., place]
            values[name] = Moments(mean, mean.new_zeros(*mean.shape[:-2], 1, mean.shape[-1], mean.shape[-1]))
    else:
        density = torch.zeros_like(flat)
    if noise is None:
        chosen = (scores + density).argmax(0)
    else:
        chosen = torch.multinomial(flat.mT, 1, generator=noise.generator).squeeze(-1)
    one_hot = torch.zeros_like(flat).scatter_(0, chosen.unsqueeze(0), 1.0)
    log_joint = found.log_evidence + (scores + density).gather(0, chosen.unsqueeze(0)).squeeze(0)
    return Expectation(log_joint, one_hot.reshape(found.weight.shape), values, found.posterior)


def statistics_of(name: str, factor: Factor, found: Expectation, exact: Exact) -> dict[str, Tensor]:
    """A factor's expected statistics of one chunk, over the states that it depends on."""
    value, parents, weight, observed = arguments_of(name, factor, found, exact)
    if observed is not None and observed.ndim > 1 and isinstance(value, Tensor):
        filled = factor.fill(value, *parents, observed=observed)
        if filled is not None:
            value, observed = filled, None
    return factor.statistics(value, *parents, weight=weight, observed=observed)


def arguments_of(name: str, factor: Factor, found: Expectation, exact: Exact) -> Arguments:
    """Value, parents, weight and mask of one factor.

    Enumerated variables on which the factor does not depend are summed out of the weight, and averaged out of
    Gaussian moments. Raises UsageError for a factor that joins two Gaussian latents, whose statistics would
    need their covariance with each other, and for one that is given what is computed.
    """
    involved = (name, *factor.given)
    for other in involved:
        if other not in found.values:
            raise UsageError(
                f"p({name} | {', '.join(factor.given)}): {other!r} is computed, and EM has no M-step through "
                f"what is computed: train by method='ascent'"
            )
    out = [place for place, other in enumerate(found.posterior.states) if other not in involved]
    values: dict[str, Tensor | Moments] = dict(found.values)
    for other in involved:
        value = found.values[other]
        if isinstance(value, Moments):
            values[other] = _averaged(value, found.weight, out)
        elif other in found.posterior.states and out:
            values[other] = value.squeeze(out)
    if sum(isinstance(values[other], Moments) for other in involved) > 1:
        raise UsageError(
            f"{name!r} and its parents are Gaussian latents together, and EM has no closed form for them: "
            f"train by method='ascent'"
        )
    known = {other: value for other, value in values.items() if isinstance(value, Tensor)}
    parents: list[Tensor | Moments] = []
    for parent in factor.given:
        value = values[parent]
        parents.append(value if isinstance(value, Moments) else exact.p.feature(name, parent, known))
    weight = found.weight.sum(out) if out else found.weight
    observed = known.get(name + MASK)
    return Arguments(values[name], parents, weight, observed)


def refuse_moments(factor: Factor, arguments: Arguments) -> None:
    """Raise UsageError for a factor without closed form whose value or parent is a Gaussian latent."""
    if any(isinstance(value, Moments) for value in (arguments.value, *arguments.parents)):
        given = f" given {', '.join(factor.given)}" if factor.given else ""
        raise UsageError(
            f"{type(factor).__name__}{given} has no closed-form M-step for a Gaussian latent: use "
            f"LinearNormal in its place, or train by method='ascent'"
        )


def climb(
    factors: Mapping[str, Factor],
    kept: Sequence[Expectation],
    exact: Exact,
    priors: Mapping[str, object],
    iterations: int,
) -> None:
    """The M-step of factors without closed form: L-BFGS on the expected log likelihood, which never falls.

    kept: the E-step of every chunk, as each of the iterations needs all rows again. So the memory is not
    bounded by the chunk: K weights for each row in K states, and beside a latent of M Gaussian entries
    K M (M + 1) numbers more.

    Generalised EM: Dempster, Laird & Rubin (1977), section 1.
    """
    pieces = [
        (factor, arguments_of(name, factor, found, exact))
        for name, factor in factors.items()
        for found in kept
    ]
    weights = [w for factor in factors.values() for w in factor.parameters() if w.requires_grad]
    count = sum(float(found.weight.sum()) for found in kept)
    optimiser = torch.optim.LBFGS(weights, max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        whole = 0.0
        with torch.enable_grad():
            for factor, (value, parents, weight, observed) in pieces:
                log_p = factor.log_prob(value, *parents, observed=observed)  # type: ignore[arg-type]
                part = -(weight * log_p).sum() / count
                part.backward()  # type: ignore[no-untyped-call]
                whole += float(part.detach())
            for name, prior in priors.items():
                if name in factors:
                    part = -factors[name].log_prior(prior) / count
                    part.backward()  # type: ignore[no-untyped-call]
                    whole += float(part.detach())
        return torch.tensor(whole, dtype=torch.float64)

    before, state = float(loss()), [w.detach().clone() for w in weights]
    optimiser.step(loss)  # type: ignore[no-untyped-call]
    if not float(loss()) <= before:
        for w, old in zip(weights, state, strict=True):
            w.data.copy_(old)
    for w in weights:
        w.grad = None


def _averaged(moments: Moments, weight: Tensor, out: list[int]) -> Moments:
    """Mean and covariance of the mixture over some states `[*lead, B]`, by their weights."""
    if not out:
        return moments
    share = weight / weight.sum(out, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    mean = (share.unsqueeze(-1) * moments.mean).sum(out)
    second = moments.covariance + moments.mean.unsqueeze(-1) * moments.mean.unsqueeze(-2)
    second = (share.unsqueeze(-1).unsqueeze(-1) * second).sum(out)
    return Moments(mean, second - mean.unsqueeze(-1) * mean.unsqueeze(-2))
