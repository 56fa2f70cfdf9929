"""The methods of log_evidence, each as a function of one batch of values.

B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .._words import did_you_mean
from ..exact import Exact, Inference
from ..joint import Joint
from ..noise import Noise
from .ais import Annealing, ais
from .importance import Weighed, elbo_by_groups, importance

if TYPE_CHECKING:
    from ..model import Model

METHODS = {"exact": 1, "elbo": 100, "importance": 1000, "naive": 1000, "ais": 16}
"""Each method with its number of samples where none is given; of "ais" the number of chains."""


class Answer(NamedTuple):
    """What a method says of a batch, `[B]` each; None where it has no such number."""

    value: Tensor
    error: Tensor
    direction: str
    terms: Mapping[str, Tensor] = MappingProxyType({})
    effective: Tensor | None = None
    bias: Tensor | None = None
    k_hat: Tensor | None = None


Estimator = Callable[[dict[str, Tensor], Noise], Answer]


def default_method(model: Model) -> str:
    return "exact" if model.q is None or model.q.exact else "importance"


def known(p: Joint, batch: Mapping[str, Tensor]) -> Answer:
    value = p.log_prob(batch)
    return Answer(value, torch.zeros_like(value), "exact")


def estimator_of(model: Model, method: str, samples: int, options: Mapping[str, Any], live: int) -> Estimator:
    """The method as a function of a batch. Raises ValueError for options that it does not take."""
    p, q = model.p, model.q
    taken = [*Annealing.__dataclass_fields__, "start"] if method == "ais" else []
    for name in options:
        if name not in taken or name == "chains":
            raise ValueError(f"method {method!r} has no option {name!r}{did_you_mean(name, taken)}")
    if q is None:
        return lambda batch, noise: known(p, batch)
    if method == "exact" or (q.exact and method == "importance"):
        posterior = q if isinstance(q, Exact) else Exact(p, model.latent)
        return lambda batch, noise: _exact(posterior, batch)
    if method == "elbo":
        return lambda batch, noise: Answer(*_elbo(p, q, batch, noise, samples))
    if method == "ais":
        start = path_start(model, str(options.get("start", "prior")))
        how = Annealing(chains=samples, **{name: value for name, value in options.items() if name != "start"})
        return lambda batch, noise: _lower(ais(p, start, batch, noise, how))
    proposal = p if method == "naive" else q
    return lambda batch, noise: _lower(importance(p, proposal, batch, noise, samples, live))


def path_start(model: Model, start: str) -> Joint:
    """f_0 of annealed importance sampling: q, or p, whose latent factors are the prior."""
    if start not in ("prior", "q"):
        raise ValueError(f"start must be 'prior' or 'q', got {start!r}")
    if start == "prior":
        return model.p
    if isinstance(model.q, Joint):
        return model.q
    raise ValueError("start='q' needs an inference network: here q is the exact posterior; use 'prior'")


def _exact(posterior: Exact, batch: Mapping[str, Tensor]) -> Answer:
    value = posterior.log_evidence(batch)
    return Answer(value, torch.zeros_like(value), "exact")


def _elbo(
    p: Joint, q: Inference, batch: Mapping[str, Tensor], noise: Noise, samples: int
) -> tuple[Tensor, Tensor, str, dict[str, Tensor]]:
    value, error, terms, direction = elbo_by_groups(p, q, batch, noise, samples)
    return value, error, direction, terms


def _lower(weighed: Weighed) -> Answer:
    value, error, bias, effective, k_hat = weighed
    return Answer(value, error, "lower", {}, effective, bias, k_hat)
