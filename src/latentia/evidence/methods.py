"""The methods of log_evidence, each as a function of one batch of values.

B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .._words import did_you_mean
from ..exact import Exact, Inference, NotExactError, is_discrete
from ..joint import Joint
from ..noise import Noise
from .ais import Annealing, ais, executor
from .enumeration import StateSum, has_labels, state_count
from .importance import Weighed, Weigher, elbo_by_groups, joined, streamed

if TYPE_CHECKING:
    from ..model import Model

METHODS = {"exact": 1, "elbo": 100, "importance": 1000, "naive": 1000, "ais": 16}
"""Each method with its number of samples where none is given; of "ais" the number of chains."""

ENUMERATING = ("elbo", "importance", "naive")
"""Those that may sum over discrete latents in place of drawing them."""


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


class Work(NamedTuple):
    """How a method does its work.

    rows       of a batch
    live       samples, times rows, of which p is evaluated at a time
    at_once    samples, times rows, that are drawn at a time
    compile    whether to compile
    enumerate  the latents that are summed over instead of drawn
    """

    rows: int
    live: int
    at_once: int
    compile: bool = False
    enumerate: tuple[str, ...] = ()


FEW_STATES = 2**12
"""Up to so many states of discrete latents a sum over all of them costs about what 1,000 draws do."""


PIECES = 4
"""So many times what lives at a time is drawn at once: a call, compiled above all, has a cost of its own."""

TOGETHER = 16
"""Rows whose weights are judged together, for the same reason."""


MOST_ROWS = 1000
"""Of a batch, however few the samples."""


def live_entries(device: torch.device) -> int:
    """Entries of the widest layer of p, times samples, that live at a time: on a CPU what its cache holds."""
    return 2**20 if device.type == "cpu" else 2**22


def takes_weights(model: Model, method: str, enumerate: Sequence[str]) -> bool:
    """Whether the answer is made of weighed draws: of "importance" and "naive" where they are not exact."""
    q = model.q
    if method not in ("importance", "naive") or q is None or (method == "importance" and q.exact):
        return False
    return not {*model.latent} <= {*enumerate}


def rows_of_a_batch(samples: int, at_once: int, weighs: bool) -> int:
    """Rows that are read, and answered for, at a time."""
    together = max(1, min(at_once // samples, MOST_ROWS))
    return together * math.ceil(TOGETHER / together) if weighs else together


def evaluations_of(method: str, options: Mapping[str, Any]) -> float:
    """Evaluations of p that a sample takes, a gradient counted as another two."""
    if method != "ais":
        return 1.0
    return 3.0 * int(options.get("distributions", 500)) * int(options.get("leapfrogs", 10))


def enumerated_states(model: Model, method: str, names: Sequence[str]) -> int:
    """How many states the variables to enumerate have together, 1 without any.

    Raises ValueError for a method that draws nothing to be enumerated, and for a name that is not latent;
    NotEnumerableError for one that is not discrete, or too many states.
    """
    if not names:
        return 1
    if method not in ENUMERATING:
        *most, last = map(repr, ENUMERATING)
        raise ValueError(
            f"method {method!r} takes no enumerate=: {', '.join(most)} and {last} do, and 'exact' sums over "
            f"every discrete latent"
        )
    for name in names:
        if name not in model.latent:
            there = f"there are {', '.join(map(repr, model.latent))}" if model.latent else "nothing is latent"
            hint = did_you_mean(name, model.latent)
            raise ValueError(f"{name!r} cannot be enumerated: it is no latent variable, {there}{hint}")
    return math.prod(len(values) for values in model.p.states(names).values())


def default_method(model: Model) -> str:
    """ "exact" where it is cheap: nothing is latent, q is exact, or all latents are discrete with few states.

    With more states than `FEW_STATES`, up to 2^20, "exact" is there for who asks for it.
    """
    if model.q is None or model.q.exact or 0 < state_count(model.p, model.latent) <= FEW_STATES:
        return "exact"
    return "importance"


def known(p: Joint, batch: Mapping[str, Tensor]) -> Answer:
    value = p.log_prob(batch)
    return Answer(value, torch.zeros_like(value), "exact")


def estimator_of(
    model: Model, method: str, samples: int, options: Mapping[str, Any], work: Work
) -> Estimator:
    """The method as a function of a batch. Raises ValueError for options that it does not take."""
    p, q = model.p, model.q
    taken = [*Annealing.__dataclass_fields__, "start"] if method == "ais" else []
    for name in options:
        if name not in taken or name == "chains":
            raise ValueError(f"method {method!r} has no option {name!r}{did_you_mean(name, taken)}")
    if q is None:
        return lambda batch, noise: known(p, batch)
    if method == "elbo":
        return lambda batch, noise: Answer(*_elbo(p, q, batch, noise, samples, work.enumerate))
    if method == "ais":
        start = path_start(model, str(options.get("start", "prior")))
        how = Annealing(chains=samples, **{name: value for name, value in options.items() if name != "start"})
        execute = executor(p, start, samples, work.rows) if work.compile else None
        return lambda batch, noise: _lower(ais(p, start, batch, noise, how, execute))
    if not takes_weights(model, method, work.enumerate):
        return _exactly(model)
    proposal = p if method == "naive" else q
    weigh = Weigher(p, proposal, samples, work.compile, work.enumerate, work.live)

    def weighed(batch: dict[str, Tensor], noise: Noise) -> Answer:
        parts = _some_rows_each(batch, max(1, work.at_once // samples))
        weights = [streamed(p, proposal, part, noise, samples, work.at_once, weigh) for part in parts]
        return _lower(joined(weights).weighed())

    return weighed


def _some_rows_each(batch: Mapping[str, Tensor], rows: int) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(next(iter(batch.values()))), rows):
        yield {name: value[start : start + rows] for name, value in batch.items()}


def path_start(model: Model, start: str) -> Joint:
    """f_0 of annealed importance sampling: q, or p, whose latent factors are the prior."""
    if start not in ("prior", "q"):
        raise ValueError(f"start must be 'prior' or 'q', got {start!r}")
    if start == "prior":
        return model.p
    if isinstance(model.q, Joint):
        return model.q
    raise ValueError("start='q' needs an inference network: here q is the exact posterior; use 'prior'")


def _exactly(model: Model) -> Estimator:
    """Exact evidence: where q is none but all latents are discrete, summed over their states."""
    q, latents = model.q, model.latent
    posterior = q if isinstance(q, Exact) else Exact(model.p, latents)
    discrete = not isinstance(q, Exact) and all(is_discrete(model.p[name]) for name in latents)
    summed = StateSum(model.p, latents) if discrete else None

    def estimate(batch: dict[str, Tensor], noise: Noise) -> Answer:
        whole = summed is not None and not has_labels(batch, latents)
        try:
            value = summed(batch) if whole and summed is not None else posterior.log_evidence(batch)
        except NotExactError as error:
            if isinstance(q, Exact):
                raise
            remedy = "bound log p(x) by method='importance' or method='ais'"
            raise NotExactError(error.reason, remedy) from error
        return Answer(value, torch.zeros_like(value), "exact")

    return estimate


def _elbo(
    p: Joint,
    q: Inference,
    batch: Mapping[str, Tensor],
    noise: Noise,
    samples: int,
    enumerate: Sequence[str],
) -> tuple[Tensor, Tensor, str, dict[str, Tensor]]:
    value, error, terms, direction = elbo_by_groups(p, q, batch, noise, samples, enumerate=enumerate)
    return value, error, direction, terms


def _lower(weighed: Weighed) -> Answer:
    value, error, bias, effective, k_hat = weighed
    return Answer(value, error, "lower", {}, effective, bias, k_hat)
