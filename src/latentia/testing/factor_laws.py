"""The laws of a factor, each a function that raises AssertionError where it is broken.

S samples, B rows; everything is checked in float64, on a copy of the factor.
"""

from __future__ import annotations

import copy
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from ..factor import Draw, Factor
from ..factors.categorical import Categorical
from ..noise import BoundNoise, GivenNoise, Noise
from .integration import Nodes, all_nodes, is_discrete, line_nodes, support_of

Parents = Sequence[Tensor | int | Sequence[int]]

BATCH = 3
DRAWS = 20_000
FALSE_ALARM = 2e-5
EXACT = 1e-9
QUADRATURE = 1e-5


def check_factor(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> dict[str, str]:
    """Hold a factor against every law; the report says "holds" or why a law does not apply.

    parents   one per name in `given`: a tensor `[B, *event]` (integer codes for a net that takes codes, one-hot
              vectors for others), or an event shape, which is filled with standard normal numbers
    seed      of the parents and draws; a fixed seed gives a fixed answer
    support   of one entry, as a `torch.distributions.constraints` object; by default what the distribution says

    Use small events, of 1 or 2 numbers or up to 4,096 states: what is larger cannot be integrated, and the report
    says so. Raises AssertionError with a sentence for a broken law. A statistical law fails by chance less often
    than once in 50,000.
    """
    report = {}
    for law in FACTOR_LAWS:
        word = law(factor, parents, seed=seed, support=support)
        report[law.__name__] = "holds" if word is None else f"does not apply: {word}"
    return report


def check_density_integrates(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """sum or integral of p(value | parents) over all values = 1, for each row."""
    case = _Case.of(factor, parents, seed, support)
    nodes = case.nodes()
    if isinstance(nodes, str):
        return nodes
    mass = (case.log_prob(nodes.values) + nodes.log_weights).logsumexp(0).exp()
    _require(
        bool((mass - 1).abs().max() < QUADRATURE),
        f"{case.name}: log_prob must be that of a normalised density, and it sums to {_numbers(mass)} over all values",
    )
    return None


def check_samples_follow_log_prob(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """The mean of bounded functions over draws is their mean under exp(log_prob), and draw returns log_prob.

    Cosines and sines of random frequencies (for listed values random signs and indicators too), within the empirical
    Bernstein bound: Maurer & Pontil (2009), theorem 4.
    """
    case = _Case.of(factor, parents, seed, support)
    if not factor.has_density:
        return "no density"
    drawn = case.draw((DRAWS, case.batch))
    difference = (drawn.log_prob - case.log_prob(drawn.value)).abs().max()
    _require(
        bool(difference < EXACT * (1 + drawn.log_prob.abs().max())),
        f"{case.name}: draw must return log_prob of the value it draws, and is off by {float(difference):.3g}",
    )
    nodes = case.nodes()
    if isinstance(nodes, str):
        return nodes
    functions = _bounded_functions(case, drawn.value, seed)
    weights = (case.log_prob(nodes.values) + nodes.log_weights).exp()
    for function in functions:
        expected = (weights * function(nodes.values)).sum(0)
        seen = function(drawn.value)
        radius = _bernstein(seen, FALSE_ALARM / (len(functions) * case.batch))
        excess = (seen.mean(0) - expected).abs() - radius - QUADRATURE
        _require(
            bool((excess <= 0).all()),
            f"{case.name}: draws must follow exp(log_prob), and the mean of a function of {DRAWS:,} draws is "
            f"{_numbers(seen.mean(0))} where log_prob gives {_numbers(expected)} (chance explains {_numbers(radius)})",
        )
    return None


def check_gradients_reach_every_parameter(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """Every parameter that requires a gradient gets one of log_prob (a Deterministic node: of its value) that is finite
    and not zero."""
    case = _Case.of(factor, parents, seed, support)
    names = {name: p for name, p in case.factor.named_parameters() if p.requires_grad}
    if not names:
        return "no trainable parameters"
    if factor.has_density:
        case.log_prob(case.draw((64, case.batch)).value.detach()).sum().backward()
    else:
        case.value().square().sum().backward()
    for name, parameter in names.items():
        gradient = parameter.grad
        _require(gradient is not None, f"{case.name}: no gradient reaches its parameter {name}")
        if gradient is not None:
            _require(bool(gradient.isfinite().all()), f"{case.name}: the gradient of {name} is not finite")
            _require(
                bool((gradient != 0).any()), f"{case.name}: the gradient of its parameter {name} is zero"
            )
    return None


def check_lead_dimensions(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """`[*lead, B]` in, `[*lead, B]` out: as if each lead index came alone, and each row alone."""
    case = _Case.of(factor, parents, seed, support)
    for lead in ((2,), (3, 2)):
        led = tuple(_led(parent, lead, case.generator) for parent in case.parents)
        values = case.draw((*lead, case.batch), led).value if factor.has_density else case.value(led)
        _require(
            tuple(values.shape) == (*lead, case.batch, *factor.event),
            f"{case.name}: values must have shape [*lead, B, *event] = {[*lead, case.batch, *factor.event]}, and draw "
            f"or value gave {list(values.shape)}",
        )
        whole = case.log_prob(values, led) if factor.has_density else values
        shape = (*lead, case.batch) if factor.has_density else values.shape
        _require(
            whole.shape == shape,
            f"{case.name}: log_prob must have shape [*lead, B] = {list(shape)}, and has {list(whole.shape)}",
        )
        for index in (
            torch.cartesian_prod(*[torch.arange(size) for size in lead]).reshape(-1, len(lead)).tolist()
        ):
            place = tuple(index)
            one = tuple(parent[place] for parent in led)
            alone = case.log_prob(values[place], one) if factor.has_density else case.value(one)
            _require(
                _close(whole[place], alone),
                f"{case.name}: a lead dimension must act as a batch, and index {index} of {list(lead)} differs from the "
                f"same values alone",
            )
    return _rows_stand_alone(case)


def _rows_stand_alone(case: _Case) -> str | None:
    first = tuple(parent[:1] for parent in case.parents)
    if not case.factor.has_density:
        same = _close(case.value()[:1], case.value(first))
    else:
        drawn = case.draw((500, case.batch))
        same = _close(case.log_prob(drawn.value)[:, :1], case.log_prob(drawn.value[:, :1], first))
        shared = not case.parents and bool((drawn.value[:, 0] == drawn.value[:, 1]).all())
        _require(
            not shared, f"{case.name}: a root factor must draw for each row of the batch, and shares one draw"
        )
        _require(
            tuple(drawn.value.shape) == (500, case.batch, *case.factor.event),
            f"{case.name}: draw must fill [*lead, B, *event], and gave {list(drawn.value.shape)}",
        )
        _require(
            tuple(drawn.log_prob.shape) == (500, case.batch),
            f"{case.name}: draw's log_prob must be [*lead, B], and has shape {list(drawn.log_prob.shape)}",
        )
    _require(same, f"{case.name}: a row must not depend on the other rows of its batch, and does")
    return None


def check_masks(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """observed `[B]` leaves whole rows out; observed `[B, *event]` marginalises the entries that are missing."""
    case = _Case.of(factor, parents, seed, support)
    if not factor.has_density:
        return "no density"
    value = case.draw((4, case.batch)).value
    plain = case.log_prob(value)
    rows = torch.arange(case.batch) % 2 == 0
    masked = case.log_prob(value, observed=rows)
    _require(
        _close(masked, torch.where(rows, plain, torch.zeros_like(plain))),
        f"{case.name}: with observed [B], log_prob must be zero in rows that are missing and as ever in the others",
    )
    if not factor.event:
        return None
    seen = torch.ones(case.batch, *factor.event, dtype=torch.bool)
    try:
        whole = case.log_prob(value, observed=seen)
    except ValueError as refusal:
        return f"single entries cannot be missing ({refusal})"
    _require(_close(whole, plain), f"{case.name}: with nothing missing, a mask must not change log_prob")
    nothing = case.log_prob(value, observed=~seen)
    _require(
        _close(nothing, torch.zeros_like(plain)),
        f"{case.name}: with every entry missing, log_prob must be zero",
    )
    hidden = seen.clone().flatten(1)
    hidden[:, 0] = False
    hidden = hidden.reshape(seen.shape)
    zeroed = torch.where(hidden, value, torch.zeros_like(value))
    marginal = case.log_prob(zeroed, observed=hidden)
    _require(
        _close(marginal, case.log_prob(torch.where(hidden, value, value.flip(0)), observed=hidden)),
        f"{case.name}: what stands in a missing entry must not matter, and it changes log_prob",
    )
    integral = _summed_over_first_entry(case, value)
    _require(
        bool((marginal - integral).abs().max() < QUADRATURE),
        f"{case.name}: with an entry missing, log_prob must be that of the others, and is {_numbers(marginal[0])} where "
        f"the marginal is {_numbers(integral[0])}",
    )
    return None


def check_noise_is_an_input(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """value = g(noise, parents): the same noise gives the same value, and torch's global generator is left alone."""
    case = _Case.of(factor, parents, seed, support)
    if not factor.has_density:
        return "nothing is drawn"
    state = torch.random.get_rng_state()
    source = _Recorder(seed)
    shape = (5, case.batch)
    first = case.factor.draw(BoundNoise(source, "value", shape), *case.parents).value
    again = case.draw(shape, seed=seed).value
    other = case.draw((100, case.batch), seed=seed + 1).value
    _require(
        torch.equal(state, torch.random.get_rng_state()),
        f"{case.name}: draw must take its randomness from `noise`, and it moved torch's global generator",
    )
    _require(torch.equal(first, again), f"{case.name}: the same noise must give the same value, and does not")
    _require(
        bool((other[:1] != other).any()),
        f"{case.name}: other noise must give other values, and draws are all the same",
    )
    if not source.replayable:
        return (
            "it has no form g(noise, parents), so it is drawn under a forked generator and runs eagerly only"
        )
    given = case.factor.draw(BoundNoise(GivenNoise(source.taken), "value", shape), *case.parents).value
    _require(
        torch.equal(first, given), f"{case.name}: given the same tensors as noise, draw must repeat its value"
    )
    return None


def check_detached_stops_parameters(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """detached() computes the same, with gradients for value and parents and none for parameters."""
    case = _Case.of(factor, parents, seed, support)
    value = case.draw((4, case.batch)).value.detach() if factor.has_density else torch.zeros(())
    inputs = [t.requires_grad_() for t in (value, *case.parents) if t.is_floating_point()]
    outcomes, gradients = [], []
    for one in (case.factor, case.factor.detached()):
        result = one.log_prob(value, *case.parents) if factor.has_density else one.value(*case.parents)  # type: ignore[operator]
        outcomes.append(result.detach())
        if result.requires_grad:
            gradients.append(torch.autograd.grad(result.sum(), inputs, allow_unused=True, retain_graph=True))
        if one is not case.factor and result.requires_grad:
            result.sum().backward()
    _require(torch.equal(*outcomes), f"{case.name}: detached() must compute the same log_prob")
    touched = [name for name, parameter in case.factor.named_parameters() if parameter.grad is not None]
    _require(
        not touched,
        f"{case.name}: detached() must stop its parameters, and a gradient reaches {', '.join(touched)}",
    )
    if len(gradients) == 2:
        same = all((a is None) == (b is None) for a, b in zip(*gradients, strict=True)) and all(
            a is None or _close(a, b) for a, b in zip(*gradients, strict=True)
        )
        _require(
            same, f"{case.name}: detached() must let the gradients of value and parents through unchanged"
        )
    return None


def check_archive_round_trip(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Constraint | None = None
) -> str | None:
    """Saved and loaded, the factor computes the same bits; one of the user's own class is loaded `into` a copy."""
    from ..archive import foreign_parts, load_model, save
    from ..joint import Joint
    from ..model import Model

    case = _Case.of(factor, parents, seed, support)
    own = copy.deepcopy(factor)
    name = next(word for word in ("value", "the_value") if word not in factor.given)
    model = Model(Joint({name: own}))
    copied = Model(Joint({name: copy.deepcopy(own)}))
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1.0)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        save(model, folder)
        loaded = load_model(folder, into=copied if foreign_parts(model) else None)
    one, other = (
        _Case.of(own, case.parents, seed, support),
        _Case.of(loaded.p[name], case.parents, seed, support),
    )
    if factor.has_density:
        value = one.draw((4, case.batch)).value
        same = torch.equal(one.log_prob(value), other.log_prob(value))
    else:
        same = torch.equal(one.value(), other.value())
    _require(same, f"{case.name}: a factor that was saved and loaded must compute the same, and does not")
    return None


FACTOR_LAWS: tuple[Callable[..., str | None], ...] = (
    check_density_integrates,
    check_samples_follow_log_prob,
    check_gradients_reach_every_parameter,
    check_lead_dimensions,
    check_masks,
    check_noise_is_an_input,
    check_detached_stops_parameters,
    check_archive_round_trip,
)


class _Recorder(Noise):
    """Noise in float64 that keeps what it handed out."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, dtype=torch.float64)
        self.taken: dict[str, Tensor] = {}

    def take(self, key: str, request: object) -> Tensor:
        self.taken[key] = super().take(key, request)  # type: ignore[arg-type]
        return self.taken[key]


@dataclass
class _Case:
    """A float64 copy of a factor with parents for B rows."""

    factor: Factor
    parents: tuple[Tensor, ...]
    batch: int
    seed: int
    support: Constraint | None
    generator: torch.Generator

    @staticmethod
    def of(factor: Factor, parents: Parents, seed: int, support: Constraint | None) -> _Case:
        if len(parents) != len(factor.given):
            raise ValueError(
                f"{type(factor).__name__} has {len(factor.given)} parents, {', '.join(factor.given) or 'none'}, and "
                f"{len(parents)} were given"
            )
        generator = torch.Generator().manual_seed(seed)
        batch = next((len(parent) for parent in parents if isinstance(parent, Tensor)), BATCH)
        tensors = []
        for parent in parents:
            if isinstance(parent, Tensor):
                tensors.append(parent.detach().double() if parent.is_floating_point() else parent)
            else:
                event = (parent,) if isinstance(parent, int) else tuple(parent)
                tensors.append(torch.randn(batch, *event, generator=generator, dtype=torch.float64))
        own = copy.deepcopy(factor).double()
        own.zero_grad()
        own.bind([parent.ndim - 1 for parent in tensors])
        return _Case(own, tuple(tensors), batch, seed, support, generator)

    @property
    def name(self) -> str:
        return type(self.factor).__name__

    def draw(
        self, shape: tuple[int, ...], parents: tuple[Tensor, ...] | None = None, seed: int | None = None
    ) -> Draw:
        noise = Noise(self.seed if seed is None else seed, dtype=torch.float64)
        return self.factor.draw(
            BoundNoise(noise, "value", shape), *(self.parents if parents is None else parents)
        )

    def value(self, parents: tuple[Tensor, ...] | None = None) -> Tensor:
        return self.factor.value(*(self.parents if parents is None else parents))  # type: ignore[operator, no-any-return]

    def log_prob(
        self, value: Tensor, parents: tuple[Tensor, ...] | None = None, observed: Tensor | None = None
    ) -> Tensor:
        return self.factor.log_prob(value, *(self.parents if parents is None else parents), observed=observed)

    def sample(self) -> tuple[Tensor, Constraint]:
        """2,000 draws `[S, B, *event]` and the support of one entry."""
        drawn = self.draw((2000, self.batch))
        support = support_of(drawn.distribution, drawn.value) if self.support is None else self.support
        return drawn.value.detach(), support

    def nodes(self) -> Nodes | str:
        """Nodes over whole events, or why there are none."""
        if not self.factor.has_density:
            return "no density"
        sample, support = self.sample()
        if isinstance(self.factor, Categorical):
            codes = torch.arange(self.factor.classes).unsqueeze(-1).expand(-1, self.batch)
            return Nodes(codes, torch.zeros(codes.shape, dtype=torch.float64))
        return all_nodes(support, sample, len(self.factor.event))


def _summed_over_first_entry(case: _Case, value: Tensor) -> Tensor:
    """log of the sum, or integral, of p over the first entry of `value` `[S, B, *event]`."""
    sample, support = case.sample()
    nodes = line_nodes(support, sample.flatten(2)[:, :, 0])  # [G, B]
    count, flat = len(nodes.values), value.flatten(2)
    rest = flat[:, :, 1:].expand(count, *flat.shape[:2], -1)
    first = nodes.values[:, None, :, None].expand(count, *flat.shape[:2], 1)
    joined = torch.cat([first, rest], dim=-1).reshape(count, *value.shape)
    return (case.log_prob(joined) + nodes.log_weights.unsqueeze(1)).logsumexp(0)


def _bounded_functions(case: _Case, sample: Tensor, seed: int) -> list[Callable[[Tensor], Tensor]]:
    """Functions of a value with range in [-1, 1], `[*, B, *event]` to `[*, B]`."""
    generator = torch.Generator().manual_seed(seed + 1)
    size, dims = math.prod(case.factor.event), len(case.factor.event)
    flat = sample.double().reshape(*sample.shape[:2], size)
    centre, spread = (
        flat.median(0).values,
        (flat - flat.median(0).values).abs().median(0).values.clamp(min=1e-9),
    )
    spread = torch.where(spread > 1e-8, spread, flat.std(0).clamp(min=1e-9))
    functions: list[Callable[[Tensor], Tensor]] = []
    for scale in (0.3, 1.0, 1.0, 3.0):
        direction = scale * torch.randn(size, generator=generator, dtype=torch.float64)
        for wave in (torch.cos, torch.sin):

            def function(
                value: Tensor, direction: Tensor = direction, wave: Callable[[Tensor], Tensor] = wave
            ) -> Tensor:
                entries = value.double().reshape(*value.shape[: value.ndim - dims], size)
                return wave(((entries - centre) / spread * direction).sum(-1))

            functions.append(function)
    support = case.sample()[1]
    if isinstance(case.factor, Categorical) or is_discrete(support):
        for state in sample.reshape(-1, *case.factor.event)[:16]:

            def indicator(value: Tensor, state: Tensor = state) -> Tensor:
                return (value == state).reshape(*value.shape[: value.ndim - dims], -1).all(-1).double()

            functions.append(indicator)
    return functions


def _bernstein(seen: Tensor, chance: float) -> Tensor:
    """How far a mean of S draws in [-1, 1] is from its expectation, except with probability `chance`."""
    log_term = math.log(4 / chance)
    return (2 * seen.var(0) * log_term / len(seen)).sqrt() + 14 * log_term / (3 * (len(seen) - 1))


def _led(parent: Tensor, lead: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A parent with lead dimensions, other values at each lead index: rows in another order."""
    order = torch.stack([torch.randperm(len(parent), generator=generator) for _ in range(math.prod(lead))])
    return parent[order].reshape(*lead, *parent.shape)


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=EXACT, atol=EXACT)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.5g}" for value in values.detach().flatten().tolist()[:4])
