"""Factor: one conditional distribution p(value | parents), the library's one extension point.

A value is `[*lead, B, *event]`: lead dimensions (such as S samples), B examples, the event. Most families
write only `distribution(*parents)` and inherit the rest.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from .codings import Coding
from .nets import fold
from .noise import BoundNoise
from .numerics import sum_event

F = TypeVar("F", bound="Factor")

LARGEST_SUPPORT = 2**20  # values of one variable that are enumerated at most


class CannotMarginaliseError(ValueError):
    """A family has no marginal density of some of its entries, so it cannot be given data with holes."""


class NotEnumerableError(ValueError):
    """A family has infinitely many values, or too many to enumerate."""


class Moments(NamedTuple):
    """What an E-step knows of a Gaussian value: its posterior mean and covariance.

    mean        `[*lead, B, D]`
    covariance  `[*lead, B, D, D]`, or `[*lead, 1, D, D]` where it is the same for all examples
    """

    mean: Tensor
    covariance: Tensor


class Affine(NamedTuple):
    """A linear-Gaussian conditional: value = sum_i W_i parent_i + offset + L epsilon, epsilon ~ N(0, I).

    weights   W_i, one for each Gaussian parent, `[*lead, D, M_i]`, or with a batch dimension B before D
    offset    `[*lead, D]`, or `[*lead, B, D]`
    scale     the diagonal of L, of the offset's shape; or L itself, `[..., D, D]`, lower triangular
    full      whether `scale` is the whole L
    """

    weights: tuple[Tensor, ...]
    offset: Tensor
    scale: Tensor
    full: bool = False


class Draw(NamedTuple):
    """A value drawn from a factor, with its log probability from the same pass.

    log_prob      a function without arguments that gives `[*lead, B]`: work that a closed-form KL spares
    distribution  what it was drawn from, where the family has a closed distribution
    """

    value: Tensor
    log_prob: Callable[[], Tensor]
    distribution: Distribution | None


class Factor(nn.Module):
    """p(value | parents), parameterised by the output of `net`.

    net      a module that maps the parents to the family's parameters, which are split along dimension 1
             (features or channels); None for a factor with none
    given    the parents' names, in the order in which the net takes them
    event    the shape of one value; inferred from `net.out_shape` when the net has one
    parameters   how many parameters of the event's shape the net's output holds

    Raises ValueError when the event's shape can be found neither in `event` nor in the net.
    """

    event: tuple[int, ...]
    coding: Coding | None = None  # how nets that are given this variable see it; None: as it is
    has_density = True
    is_bayesian = False  # whether its parameters have a posterior, which `maximize` sets

    def __init__(
        self,
        net: nn.Module | None = None,
        given: str | Sequence[str] = (),
        *,
        event: int | Sequence[int] | None = None,
        parameters: int = 1,
    ) -> None:
        super().__init__()
        self.given = (given,) if isinstance(given, str) else tuple(given)
        self.net = net
        self.event = _event_shape(type(self).__name__, net, event, parameters)
        self.missing = bool(getattr(net, "missing", False))
        self.takes_codes = bool(getattr(net, "takes_codes", False))
        self._parent_dims: tuple[int | None, ...] = (None,) * len(self.given)

    def distribution(self, *parents: Tensor) -> Distribution:
        """The value's distribution given its parents: batch shape `[*lead, B]`, or `[]` for a root factor."""
        raise NotImplementedError(f"{type(self).__name__} must define distribution(*parents)")

    def log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        """log p(value | parents) in nats, `[*lead, B]`.

        observed: bool `[B]` or `[B, *event]`, True where the entry was seen; the others are left out of the
        sum.
        """
        distribution = self.distribution(*parents)
        if observed is None:
            return distribution.log_prob(value)
        if observed.ndim == 1:
            log_p: Tensor = distribution.log_prob(value)
            return torch.where(observed, log_p, torch.zeros_like(log_p))
        return self.marginal_log_prob(distribution, value, observed)

    def marginal_log_prob(self, distribution: Distribution, value: Tensor, observed: Tensor) -> Tensor:
        """log density of the observed entries alone, `[*lead, B]`; a factorised event drops the others.

        Raises CannotMarginaliseError where the family has no such marginal.
        """
        size = len(self.event)
        if isinstance(distribution, Independent) and distribution.reinterpreted_batch_ndims == size:
            entries = distribution.base_dist.log_prob(value)
            return sum_event(torch.where(observed, entries, torch.zeros_like(entries)), size)
        raise CannotMarginaliseError(
            f"{type(self).__name__} cannot marginalise missing entries: its event does not factorise"
        )

    def draw(self, noise: BoundNoise, *parents: Tensor) -> Draw:
        """z = g(noise, parents) for the whole `[*lead, B]` the noise is bound to, with log p(z | parents)."""
        distribution = self.distribution(*parents)
        value = self.transform(noise, distribution)
        return Draw(value, partial(distribution.log_prob, value), distribution)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        """g(noise, parameters); a family without such a form samples under a forked generator, eagerly."""
        return noise.sample(distribution)

    def mean(self, distribution: Distribution) -> Tensor:
        """The value that stands for the distribution in `encode`, `decode` and `reconstruct`: its mean."""
        return distribution.mean

    def check(self, name: str, value: Tensor) -> None:
        """Raise ValueError where values `[B, *event]` cannot come from this family; `fit` asks first."""

    def measures(self, value: Tensor) -> bool:
        """Whether log_prob is a log density, or probability, of such values: False makes it a mere score."""
        return True

    def support(self) -> Tensor:
        """Every value the family can take, `[K, *event]`.

        Raises NotEnumerableError where they are infinitely many, or more than `LARGEST_SUPPORT`.
        """
        raise NotEnumerableError(f"the values of {type(self).__name__} cannot be enumerated")

    def affine(self, *parents: Tensor | None) -> Affine | None:
        """The factor as a linear-Gaussian conditional, or None where it is not one.

        parents: a value for each parent that is known, None for each that is Gaussian and latent.
        """
        return None

    def expected_log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        """E[log p(value | parents, theta)] over the posterior of the parameters theta, `[*lead, B]`.

        log_prob where they are numbers. Where they have a posterior, log_prob is log E[p], the prediction.
        """
        return self.log_prob(value, *parents, observed=observed)

    def parameter_kl(self) -> Tensor:
        """KL(q(theta) || p(theta)) of parameters with a posterior, in nats, a float64 scalar; otherwise 0."""
        return torch.zeros((), dtype=torch.float64)

    @property
    def has_closed_form(self) -> bool:
        """Whether maximum likelihood is closed-form from additive statistics, as `maximize` needs."""
        return False

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Expected sufficient statistics of some examples, additive over chunks of them, in float64.

        weight   posterior weights `[*lead, B]`, with one lead dimension per enumerated variable
        value, parents   enumerated variables are `[*lead, 1, *event]`, never expanded to B; Gaussian latent
                 ones are Moments

        Differences are taken from the parameters at hand, which stay as they are from the first chunk to
        `maximize`, so that large offsets cancel.
        """
        raise NotImplementedError(f"{type(self).__name__} has no closed-form maximum likelihood")

    def fill(self, value: Tensor, *parents: Tensor | Moments, observed: Tensor) -> Moments | None:
        """Missing entries as their conditional mean and covariance given those seen, `[*lead, B, D]`.

        None where missing entries simply leave the sums, as in every factorised event.
        """
        return None

    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """Set the parameters to the maximum of the expected log likelihood, plus `log_prior(prior)`.

        Raises TypeError for a prior that is not conjugate to the family.
        """
        raise NotImplementedError(f"{type(self).__name__} has no closed-form maximum likelihood")

    def troubles(self, name: str) -> list[str]:
        """Sentences on what is wrong with an estimate of p(name | parents): a variance at its floor."""
        return []

    def log_prior(self, prior: object) -> Tensor:
        """log p(parameters) under a conjugate prior, a float64 scalar, without constants."""
        raise TypeError(f"{type(self).__name__} takes no prior such as {prior}")

    @property
    def free_parameters(self) -> int:
        """How many numbers the parameters are, without those that change nothing: for AIC and BIC."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def detached(self: F) -> F:
        """The same factor with its parameters stopped: gradients flow through values and parents only."""
        memo: dict[int, Any] = {id(p): p.detach() for p in self.parameters()}
        memo |= {id(b): b for b in self.buffers()}
        return copy.deepcopy(self, memo)

    def output(self, *parents: Tensor) -> Tensor:
        """The net's raw output for the parents, `[*lead, B, *out]`, at least in float32."""
        net = self.net
        if net is None:
            raise TypeError(f"{type(self).__name__} was built without a net")
        out = fold(net, parents, self._parent_dims)
        return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out

    def parts(self, *parents: Tensor, count: int = 1) -> tuple[Tensor, ...]:
        """The net's output split into `count` parameters, each `[*lead, B, *event]`."""
        event = self.event or (1,)
        shape = (count * event[0], *event[1:])
        out = self.output(*parents)
        lead = out.ndim - out_dims(self.net, len(event))
        batch, found = out.shape[:lead], out.shape[lead:]
        if found != shape:
            if math.prod(found) != math.prod(shape):
                raise ValueError(
                    f"{type(self).__name__} of event {self.event} needs {math.prod(shape)} outputs from its "
                    f"net ({count} per entry), got shape {tuple(found)}"
                )
            out = out.reshape(*batch, *shape)
        parts = out.chunk(count, dim=len(batch)) if count > 1 else (out,)
        return parts if self.event else tuple(p.squeeze(-1) for p in parts)

    def bind(self, parent_dims: Sequence[int | None]) -> None:
        """Tell the factor how many event dimensions each parent has (None: it never has lead dimensions)."""
        self._parent_dims = tuple(parent_dims)

    def extra_repr(self) -> str:
        given = f", given={self.given}" if self.given else ""
        return f"event={self.event}{given}"


def out_dims(net: nn.Module | None, default: int) -> int:
    """How many dimensions a net's output has without the batch; the default where the net does not say."""
    shape = getattr(net, "out_shape", None)
    return default if shape is None else len(shape)


def _event_shape(
    family: str, net: nn.Module | None, event: int | Sequence[int] | None, parameters: int
) -> tuple[int, ...]:
    if event is not None:
        shape = (event,) if isinstance(event, int) else tuple(event)
        if any(side < 1 for side in shape):
            raise ValueError(f"{family}: event sizes must be at least 1, got {shape}")
        return shape
    out = getattr(net, "out_shape", None)
    if out is None:
        raise ValueError(
            f"{family}: the net does not say its output's shape; pass event=, such as event=(1, 28, 28)"
        )
    if out[0] % parameters:
        raise ValueError(
            f"{family} splits its net's output in {parameters} along dimension 1, which has size {out[0]}"
        )
    return (out[0] // parameters, *out[1:])
