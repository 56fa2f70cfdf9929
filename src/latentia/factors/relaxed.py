"""Relaxed factors: discrete latents with a gradient through their draws, for `elbo` and `iwae`.

K codes of a Categorical, tau the temperature.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from .._recorded import recorded
from ..factor import Factor
from ..noise import BoundNoise
from .bernoulli import Bernoulli, LogitBernoulli
from .categorical import Categorical, logits_of


class Relaxed(Factor):
    """A Bernoulli or Categorical whose draws have a gradient while something is learnt: Concrete or
    StraightThrough.

    In evaluation mode (`model.eval()`, where `fit` leaves a model), and under `torch.no_grad()`, it is the
    discrete factor itself, from the same noise; log probabilities are the discrete ones always, extended
    linearly to relaxed values: sum_d z_d l_d - log(1 + exp(l_d)) at logits l, and sum_k z_k log pi_k.

    discrete     the factor that is relaxed; its net and parents are this factor's
    temperature  a 0-d buffer, which the keyword `temperature` of `elbo` and `iwae` sets at each step
    """

    def __init__(self, factor: Factor, temperature: float) -> None:
        if not isinstance(factor, Bernoulli | Categorical):
            raise TypeError(
                f"{type(self).__name__} relaxes a Bernoulli or a Categorical, got {type(factor).__name__}"
            )
        refuse_temperature(temperature)
        super().__init__(given=factor.given, event=factor.event)
        self.discrete = factor
        self.coding, self.missing, self.takes_codes = factor.coding, factor.missing, factor.takes_codes
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    discrete: Bernoulli | Categorical
    temperature: Tensor

    @property
    def relaxes(self) -> bool:
        """Whether draws are relaxed, or straight-through: in training mode, where gradients are recorded."""
        return self.training and torch.is_grad_enabled()

    def distribution(self, *parents: Tensor) -> Distribution:
        return self.discrete.distribution(*parents)

    def log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        return self.discrete.log_prob(value, *parents, observed=observed)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return (
            self.relaxed(noise, distribution)
            if self.relaxes
            else self.discrete.transform(noise, distribution)
        )

    def relaxed(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        """The draw that has a gradient; of a Categorical `[*lead, B, *event, K]`."""
        raise NotImplementedError

    def perturbed(self, noise: BoundNoise, distribution: Distribution) -> tuple[Tensor, Tensor]:
        """Logits plus noise, whose sign (whose largest entry) is the discrete draw, and the relaxed value.

        Logistic noise log(1 - u) - log u for the u of a Bernoulli's 1[u < pi], Gumbel noise for a
        Categorical's argmax.
        """
        tau = self.temperature.clone()  # it may be set again before the backward pass
        if isinstance(self.discrete, Categorical):
            logits = logits_of(distribution)
            scores = logits + noise((*self.event, logits.shape[-1]), "gumbel")
            return scores, torch.softmax(scores / tau, -1)
        uniform = noise(self.event, "uniform")
        scores = _bernoulli_logits(distribution) - torch.logit(uniform, eps=torch.finfo(uniform.dtype).eps)
        return scores, torch.sigmoid(scores / tau)

    def mean(self, distribution: Distribution) -> Tensor:
        return self.discrete.mean(distribution)

    def check(self, name: str, value: Tensor) -> None:
        self.discrete.check(name, value)

    def measures(self, value: Tensor) -> bool:
        return self.discrete.measures(value)

    def support(self) -> Tensor:
        return self.discrete.support()

    def bind(self, parent_dims: object) -> None:
        self.discrete.bind(parent_dims)  # type: ignore[arg-type]

    @property
    def free_parameters(self) -> int:
        return self.discrete.free_parameters

    def extra_repr(self) -> str:
        return f"{type(self.discrete).__name__}, {super().extra_repr()}"


@recorded
class Concrete(Relaxed):
    """A relaxed Bernoulli or Categorical: z = sigmoid((l + logistic noise) / tau) at logits l, in (0, 1), or
    z = softmax((log pi + Gumbel noise) / tau), on the simplex.

        q = Joint(z=Concrete(Bernoulli(encoder, given="x"), temperature=0.5))

    As tau falls to 0 the draw becomes the discrete one and the gradient's variance grows as 1 / tau. What is
    learnt is the objective of the relaxed values, whose gradient is a biased estimate of the discrete one's;
    the bias vanishes with tau. A bound is then on neither side of log p(x), direction "none"; validation,
    evidence and codes are of the discrete model. Log probabilities are discrete masses (see `Relaxed`), so
    that KL(q || p) is the closed form between them, as in Jang et al.; Maddison et al. take densities of
    relaxed values in their place.

    Raises TypeError for another factor, ValueError unless the temperature is positive.

    Maddison, Mnih & Teh (2017); Jang, Gu & Poole (2017), eq. 2.
    """

    def __init__(self, factor: Factor, temperature: float = 2 / 3) -> None:
        super().__init__(factor, temperature)

    def relaxed(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return self.perturbed(noise, distribution)[1]


@recorded
class StraightThrough(Relaxed):
    """A discrete draw whose gradient is that of the relaxed one: z = hard + soft - stopped(soft).

        q = Joint(z=StraightThrough(Categorical(encoder, given="x")))

    hard is 1[u < pi] or the one-hot argmax, soft what Concrete draws from the same noise. The value of a
    bound is an honest one at discrete draws; its gradient is biased, also as tau falls to 0, where its
    variance grows.

    Raises TypeError for another factor, ValueError unless the temperature is positive.

    Bengio, Leonard & Courville (2013); Jang, Gu & Poole (2017), section 2.2.
    """

    def __init__(self, factor: Factor, temperature: float = 1.0) -> None:
        super().__init__(factor, temperature)

    def relaxed(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        scores, soft = self.perturbed(noise, distribution)
        if isinstance(self.discrete, Categorical):
            hard = nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(soft.dtype)
        else:
            hard = (scores > 0).to(soft.dtype)
        return hard + (soft - soft.detach())


def set_temperature(q: object, temperature: float | Tensor) -> None:
    """Set the temperature of every relaxed factor of q; a 0-d tensor where it changes during a run.

    Raises ValueError where q has none, and unless the temperature is positive; a tensor is looked at where
    that costs nothing, in eager steps on the CPU.
    """
    names = getattr(q, "variables", ())
    relaxed = [factor for factor in (q[name] for name in names) if isinstance(factor, Relaxed)]  # type: ignore[index]
    if not relaxed:
        raise ValueError(
            "temperature= is that of relaxed factors, and q has none: give it one, such as "
            "Concrete(Bernoulli(net, given='x')), or leave out temperature="
        )
    if not isinstance(temperature, Tensor):
        refuse_temperature(temperature)
    elif temperature.device.type == "cpu" and not torch.compiler.is_compiling():
        refuse_temperature(float(temperature))
    for factor in relaxed:
        factor.temperature.copy_(torch.as_tensor(temperature))


def refuse_temperature(temperature: float) -> None:
    """Raise ValueError unless a temperature is positive and finite."""
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError(
            f"a temperature must be positive, got {temperature}: the discrete draw is its limit at 0, where "
            f"there is no gradient; use 0.1 to 1"
        )


def _bernoulli_logits(distribution: Distribution) -> Tensor:
    base = distribution.base_dist if isinstance(distribution, Independent) else distribution
    if not isinstance(base, LogitBernoulli):
        raise TypeError(f"not a distribution of binary values: {distribution}")
    return base.logits
