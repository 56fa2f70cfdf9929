"""The laws of an objective, held on a pair (p, q); by default a linear-Gaussian one whose evidence is known.

Each is a function that raises AssertionError with a sentence where it is broken, and returns None where it
holds, or a word where it does not apply. B examples, R repetitions.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ..factors import Normal, StandardNormal
from ..joint import Joint, Values
from ..nets import MLP
from ..noise import Noise
from ..objectives.bound import Bound, Direction
from ._require import close, numbers, require

REPETITIONS = 400
ERRORS = 6.0  # standard errors; chance exceeds that less than once in 50,000 even for skewed means
WEIGHTS = {"beta": 3.0, "free_bits": 0.7}

Objective = Callable[..., Bound]


class ObjectiveCase:
    """An objective with float64 copies of the pair it is tried on.

    p, q, values   a pair and its observed values `[B, *event]`; by default z in R^2, x in R^3, p
                   linear-Gaussian and q(z | x) another Gaussian than the posterior
    evidence       log p(x) `[B]`, where it is known; known for the default pair
    weights        keywords that weigh terms of the surrogate, with values to try; by default `beta` and
                   `free_bits`, where the objective has them
    keywords       of the objective, such as samples=8
    """

    def __init__(
        self,
        objective: Objective,
        *,
        p: Joint | None = None,
        q: Joint | None = None,
        values: Values | None = None,
        evidence: Tensor | None = None,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        **keywords: Any,
    ) -> None:
        if p is None or values is None:
            p, q, values, evidence = linear_gaussian(seed)
        self.objective: Objective = copy.deepcopy(objective)
        if isinstance(self.objective, nn.Module):
            self.objective.double()
        self.p, self.q = copy.deepcopy(p).double(), None if q is None else copy.deepcopy(q).double()
        self.values = {n: v.double() if v.is_floating_point() else v for n, v in values.items()}
        self.evidence, self.seed, self.keywords = evidence, seed, keywords
        known = inspect.signature(objective.forward if isinstance(objective, nn.Module) else objective)
        tried = {n: w for n, w in WEIGHTS.items() if n in known.parameters} if weights is None else weights
        self.weights = {name: weight for name, weight in tried.items() if name not in keywords}
        self.name = getattr(objective, "__name__", type(objective).__name__)

    def bound(self, seed: int = 0, /, **changed: Any) -> Bound:
        """The objective's Bound, with noise from `seed`."""
        noise = Noise(self.seed + seed, dtype=torch.float64)
        return self.objective(self.p, self.q, self.values, noise, **{**self.keywords, **changed})

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that ascent changes, by name."""
        parts = {"p": self.p, "q": self.q, self.name: self.objective}
        modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        named = (
            (f"{name}.{leaf}", w) for name, part in modules.items() for leaf, w in part.named_parameters()
        )
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def repeated(self, repetitions: int) -> Tensor:
        """Values `[R, B]` with fresh noise each time."""
        with torch.no_grad():
            return torch.stack([self.bound(seed).value for seed in range(repetitions)])


def linear_gaussian(seed: int = 0, rows: int = 5) -> tuple[Joint, Joint, dict[str, Tensor], Tensor]:
    """p(z) N(x; Wz + b, s^2 I), a Gaussian q(z | x), rows x, and log N(x; b, W W^T + s^2 I), in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder, encoder = MLP(2, 3).double(), MLP(3, 4).double()
        x = torch.randn(rows, 3, dtype=torch.float64)
    scale = 0.75
    p = Joint(z=StandardNormal(2), x=Normal(decoder, given="z", scale=scale)).double()
    q = Joint(z=Normal(encoder, given="x")).double()
    weight, bias = (parameter.detach() for parameter in decoder.parameters())
    covariance = weight @ weight.mT + scale**2 * torch.eye(3, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(bias, covariance)
    return p, q, {"x": x}, exact.log_prob(x)  # type: ignore[no-untyped-call]


def check_objective(objective: Objective, **case: Any) -> dict[str, str]:
    """Hold an objective against every law; the report says of each law "holds", or why it does not apply.

    The keywords are those of `ObjectiveCase`: `samples=8` and others go to the objective itself, and `p`, `q`
    and `values` are for objectives that cannot be tried on Gaussian latents.

    Raises AssertionError with a sentence for a broken law.
    """
    report = {}
    for law in OBJECTIVE_LAWS:
        word = law(ObjectiveCase(objective, **case))
        report[law.__name__] = "holds" if word is None else f"does not apply: {word}"
    return report


def check_bound_is_well_formed(case: ObjectiveCase) -> str | None:
    """A Bound of finite numbers `[B]`, one of the five directions, the same for the same noise."""
    state = torch.random.get_rng_state()
    bound, again = case.bound(), case.bound()
    require(isinstance(bound, Bound), f"{case.name}: it must return a Bound, got {type(bound).__name__}")
    rows = len(next(iter(case.values.values())))
    parts = {"value": bound.value, "surrogate": bound.surrogate, **bound.terms}
    for name, part in parts.items():
        require(
            part.shape == (rows,), f"{case.name}: {name} must be [B] = [{rows}], and is {list(part.shape)}"
        )
        require(part.isfinite().all(), f"{case.name}: {name} must be finite, and is {numbers(part)}")
    directions = get_args(Direction)
    require(
        bound.direction in directions,
        f"{case.name}: the direction must be one of {', '.join(directions)}, and is {bound.direction!r}",
    )
    require(
        torch.equal(bound.value, again.value),
        f"{case.name}: the same noise must give the same value, and does not",
    )
    require(
        torch.equal(state, torch.random.get_rng_state()),
        f"{case.name}: it must take its randomness from `noise`, and it moved torch's global generator",
    )
    return None


def check_gradients_reach_p_and_q(case: ObjectiveCase) -> str | None:
    """Each parameter of p, q and the objective gets a finite gradient of the surrogate, not all zero."""
    case.bound().surrogate.sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in case.trainable().items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        require(gradient.isfinite().all(), f"{case.name}: the gradient of {name} is not finite")
        require((gradient != 0).any(), f"{case.name}: no gradient of the surrogate reaches {name}")
    return None


def check_side_of_the_evidence(case: ObjectiveCase) -> str | None:
    """The mean of the value stands to log p(x) as the direction says, row by row."""
    direction = case.bound().direction
    if direction in ("estimate", "none"):
        return f"direction {direction} promises no side"
    if case.evidence is None:
        return "the evidence is not known: pass evidence="
    values = case.repeated(REPETITIONS)
    gap = values.mean(0) - case.evidence
    error = ERRORS * values.std(0) / math.sqrt(len(values)) + 1e-9 * (1 + case.evidence.abs())
    sides = {"lower": gap <= error, "upper": gap >= -error, "exact": (values - case.evidence).abs() <= 1e-6}
    require(
        sides[direction].all(),
        f"{case.name}: its direction is {direction}, and its mean is {numbers(values.mean(0))} where the "
        f"evidence is {numbers(case.evidence)}",
    )
    return None


def check_value_is_free_of_weights(case: ObjectiveCase) -> str | None:
    """Keywords that weigh terms, such as beta, change the surrogate and never the value."""
    if not case.weights:
        return "it has no keywords that weigh terms"
    plain = case.bound()
    for name, weight in case.weights.items():
        weighed = case.bound(0, **{name: weight})
        require(
            close(plain.value, weighed.value),
            f"{case.name}: {name} must not change the value, and {name}={weight} makes it "
            f"{numbers(weighed.value)} instead of {numbers(plain.value)}",
        )
        require(
            not torch.equal(plain.surrogate, weighed.surrogate),
            f"{case.name}: {name}={weight} must change the surrogate, and does not",
        )
    return None


def check_ascent_raises_the_value(case: ObjectiveCase) -> str | None:
    """Larger is better: 100 steps of gradient ascent on the surrogate raise the mean value."""
    before = case.repeated(50).mean()
    optimiser = torch.optim.Adam(case.trainable().values(), lr=0.02, maximize=True)
    for step in range(100):
        optimiser.zero_grad()
        case.bound(step).surrogate.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = case.repeated(50).mean()
    require(
        after > before,
        f"{case.name}: larger is better, and ascent on the surrogate took the value from {numbers(before)} "
        f"to {numbers(after)}: is the sign right?",
    )
    return None


OBJECTIVE_LAWS: tuple[Callable[[ObjectiveCase], str | None], ...] = (
    check_bound_is_well_formed,
    check_gradients_reach_p_and_q,
    check_side_of_the_evidence,
    check_value_is_free_of_weights,
    check_ascent_raises_the_value,
)
