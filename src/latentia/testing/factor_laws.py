"""The laws of a factor. Each is a function that raises AssertionError with a sentence where it is broken, and
returns None where it holds, or a word where it does not apply.

S samples, B rows.
"""

from __future__ import annotations

import copy
import math
import tempfile
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..factor import Factor
from ..noise import BoundNoise, GivenNoise, Noise, Request
from ._require import close, numbers, require
from .case import FactorCase, Parents, Support
from .estimation_laws import check_maximum_likelihood
from .integration import line_nodes

DRAWS = 20_000
FALSE_ALARM = 2e-5


def check_factor(
    factor: Factor, parents: Parents = (), *, seed: int = 0, support: Support | None = None
) -> dict[str, str]:
    """Hold a factor against every law; the report says of each law "holds", or why it does not apply.

    The arguments are those of `FactorCase`. Use small events, of 1 or 2 numbers, or of up to 100,000 states:
    what is larger cannot be integrated, and the report says so.

    Raises AssertionError with a sentence for a broken law. The statistical law fails by chance less often
    than once in 50,000.
    """
    report = {}
    for law in FACTOR_LAWS:
        word = law(FactorCase(factor, parents, seed=seed, support=support))
        report[law.__name__] = "holds" if word is None else f"does not apply: {word}"
    return report


def check_density_integrates(case: FactorCase) -> str | None:
    """The sum, or integral, of p(value | parents) over all values is 1, for each row."""
    nodes = case.nodes()
    if isinstance(nodes, str):
        return nodes
    mass, error = nodes.integral(case.log_prob(nodes.values).exp())
    require(
        ((mass - 1).abs() <= error).all(),
        f"{case.name}: log_prob must be that of a normalised density, and over all values it sums to "
        f"{numbers(mass)}",
    )
    return None


def check_samples_follow_log_prob(case: FactorCase) -> str | None:
    """`draw` returns log_prob of its value, and means over draws are means under exp(log_prob).

    The means are those of cosines and sines of random frequencies, and of indicators of listed values, held
    against the empirical Bernstein bound: Maurer & Pontil (2009), theorem 4.
    """
    if not case.factor.has_density:
        return "no density"
    drawn = case.draw((DRAWS,))
    log_p = drawn.log_prob()
    require(
        close(log_p, case.log_prob(drawn.value)),
        f"{case.name}: draw must give log_prob of the value it drew, and gives something else",
    )
    nodes = case.nodes()
    if isinstance(nodes, str):
        return nodes
    functions = _bounded_functions(case, drawn.value)
    density = case.log_prob(nodes.values).exp()
    for function in functions:
        expected, error = nodes.integral(density, function(nodes.values))
        seen = function(drawn.value)
        chance = _bernstein(seen, FALSE_ALARM / (len(functions) * case.rows))
        require(
            ((seen.mean(0) - expected).abs() <= chance + error).all(),
            f"{case.name}: draws must follow exp(log_prob), and a function's mean over {DRAWS:,} draws is "
            f"{numbers(seen.mean(0))} where log_prob gives {numbers(expected)} (chance explains "
            f"{numbers(chance)})",
        )
    return None


def check_gradients_reach_every_parameter(case: FactorCase) -> str | None:
    """Each trainable parameter gets a finite gradient of log_prob (without density: of the value), not all
    zero.
    """
    trainable = {name: p for name, p in case.factor.named_parameters() if p.requires_grad}
    if not trainable:
        return "no trainable parameters"
    if case.factor.has_density:
        case.log_prob(case.draw((64,)).value.detach()).sum().backward()  # type: ignore[no-untyped-call]
    else:
        case.computed().square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in trainable.items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        require(gradient.isfinite().all(), f"{case.name}: the gradient of its parameter {name} is not finite")
        require((gradient != 0).any(), f"{case.name}: no gradient reaches its parameter {name}")
    return None


def check_lead_dimensions(case: FactorCase) -> str | None:
    """`[*lead, B]` in, `[*lead, B]` out: each lead index as if it came alone, and each row."""
    evaluate = case.log_prob if case.factor.has_density else lambda value, parents: case.computed(parents)
    for lead in ((2,), (3, 2)):
        led = tuple(_led(parent, lead, case.generator) for parent in case.parents)
        values = case.draw(lead, led).value if case.factor.has_density else case.computed(led)
        shape = (*lead, case.rows, *case.factor.event)
        require(
            values.shape == shape,
            f"{case.name}: a value must be [*lead, B, *event] = {list(shape)}, and is {list(values.shape)}",
        )
        whole = evaluate(values, led)
        expected = shape[: len(lead) + 1] if case.factor.has_density else shape
        require(
            whole.shape == expected,
            f"{case.name}: log_prob must be [*lead, B] = {list(expected)}, and is {list(whole.shape)}",
        )
        for place in torch.cartesian_prod(*map(torch.arange, lead)).reshape(-1, len(lead)).tolist():
            alone = evaluate(values[tuple(place)], tuple(parent[tuple(place)] for parent in led))
            require(
                close(whole[tuple(place)], alone),
                f"{case.name}: lead dimensions must act as a batch, and index {place} of {list(lead)} "
                f"differs from the same values alone",
            )
    _check_rows_stand_alone(case)
    return None


def _check_rows_stand_alone(case: FactorCase) -> None:
    first = tuple(parent[:1] for parent in case.parents)
    if not case.factor.has_density:
        same = close(case.computed()[:1], case.computed(first))
    else:
        drawn = case.draw((500,))
        log_p = drawn.log_prob()
        require(
            drawn.value.shape == (500, case.rows, *case.factor.event) and log_p.shape == (500, case.rows),
            f"{case.name}: draw must fill [*lead, B], and gives values {list(drawn.value.shape)} with log "
            f"probabilities {list(log_p.shape)}",
        )
        shared = not case.parents and bool((drawn.value[:, 0] == drawn.value[:, 1]).all())
        require(not shared, f"{case.name}: a root factor must draw for each row, and the rows share one draw")
        same = close(case.log_prob(drawn.value)[:, :1], case.log_prob(drawn.value[:, :1], first))
    require(same, f"{case.name}: a row must not depend on the other rows of its batch, and does")


def check_masks(case: FactorCase) -> str | None:
    """observed `[B]` leaves rows out; observed `[B, *event]` leaves the marginal of the entries that are
    there.
    """
    if not case.factor.has_density:
        return "no density"
    value = case.draw((4,)).value
    plain, nothing = case.log_prob(value), torch.zeros(4, case.rows, dtype=torch.float64)
    rows = torch.arange(case.rows) % 2 == 0
    require(
        close(case.log_prob(value, observed=rows), torch.where(rows, plain, nothing)),
        f"{case.name}: with observed [B], log_prob must be zero in missing rows and the same in the others",
    )
    if not case.factor.event:
        return None
    every = torch.ones(case.rows, *case.factor.event, dtype=torch.bool)
    try:
        whole = case.log_prob(value, observed=every)
    except ValueError as refusal:
        return f"of single entries: {refusal}"
    require(close(whole, plain), f"{case.name}: with nothing missing, a mask must not change log_prob")
    require(
        close(case.log_prob(value, observed=~every), nothing),
        f"{case.name}: with every entry missing, log_prob must be zero",
    )
    seen = every.flatten(1).clone()
    seen[:, 0] = False
    seen = seen.reshape(every.shape)
    marginal = case.log_prob(torch.where(seen, value, torch.zeros_like(value)), observed=seen)
    require(
        close(marginal, case.log_prob(torch.where(seen, value, value.flip(0)), observed=seen)),
        f"{case.name}: what stands in a missing entry must not matter, and it changes log_prob",
    )
    integral, error = _summed_over_first_entry(case, value)
    require(
        ((marginal.exp() - integral).abs() <= error).all(),
        f"{case.name}: with an entry missing, log_prob must be that of the others, and is "
        f"{numbers(marginal[0])} where the marginal is {numbers(integral[0].log())}",
    )
    return None


def check_noise_is_an_input(case: FactorCase) -> str | None:
    """value = g(noise, parents): the same noise gives the same value, and no global generator moves."""
    if not case.factor.has_density:
        return "nothing is drawn"
    state = torch.random.get_rng_state()
    source = _Recorder(case.seed)
    first = case.factor.draw(BoundNoise(source, "value", (100, case.rows)), *case.parents).value
    again, other = case.draw((100,)).value, case.draw((100,), seed=1).value
    require(
        torch.equal(state, torch.random.get_rng_state()),
        f"{case.name}: draw must take its randomness from `noise`, and it moved torch's global generator",
    )
    require(torch.equal(first, again), f"{case.name}: the same noise must give the same value, and does not")
    require(not torch.equal(first, other), f"{case.name}: other noise must give other values, and does not")
    if not source.replayable:
        return "it has no form g(noise, parents): it is drawn under a forked generator and runs eagerly only"
    given = BoundNoise(GivenNoise(source.taken), "value", (100, case.rows))
    require(
        torch.equal(first, case.factor.draw(given, *case.parents).value),
        f"{case.name}: given the same tensors as noise, draw must repeat its value, and does not",
    )
    return None


def check_detached_stops_parameters(case: FactorCase) -> str | None:
    """`detached()` computes the same; gradients flow to the value and the parents, and to no parameter."""
    value = case.draw((4,)).value.detach() if case.factor.has_density else torch.zeros(())
    inputs = [tensor.requires_grad_() for tensor in (value, *case.parents) if tensor.is_floating_point()]
    stopped = FactorCase(case.original, case.parents, seed=case.seed)
    stopped.factor = case.factor.detached()
    outcomes, gradients = [], []
    for one in (case, stopped):
        result = one.log_prob(value, case.parents) if one.factor.has_density else one.computed(case.parents)
        outcomes.append(result.detach())
        if result.requires_grad and inputs:
            found = torch.autograd.grad(result.sum(), inputs, allow_unused=True, retain_graph=True)
            gradients.append([torch.zeros(()) if gradient is None else gradient for gradient in found])
    require(torch.equal(*outcomes), f"{case.name}: detached() must compute the same, and does not")
    if result.requires_grad:
        result.sum().backward()  # type: ignore[no-untyped-call]
    touched = [name for name, parameter in case.factor.named_parameters() if parameter.grad is not None]
    require(not touched, f"{case.name}: detached() must stop parameters, and reaches {', '.join(touched)}")
    if (
        len(gradients) == 1
    ):  # a result that value and parents do not reach has no gradient once it is detached
        reached = any(bool((gradient != 0).any()) for gradient in gradients[0])
        require(not reached, f"{case.name}: detached() must let gradients of value and parents through")
        return None
    for one, other in zip(*gradients, strict=True) if gradients else ():
        require(close(one, other), f"{case.name}: detached() must not change gradients of value and parents")
    return None


def check_archive_round_trip(case: FactorCase) -> str | None:
    """Saved and loaded, the factor computes the same bits; a user's own class is loaded `into` a copy."""
    from ..archive import foreign_parts, load_model, save
    from ..joint import Joint
    from ..model import Model

    name = next(word for word in ("value", "its_value") if word not in case.original.given)
    model, other = (Model(Joint({name: copy.deepcopy(case.original).double()})) for _ in range(2))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        save(model, folder)
        loaded = load_model(folder, into=other if foreign_parts(model) else None)
    again = FactorCase(loaded.p[name], case.parents, seed=case.seed)
    value = case.draw((4,)).value if case.factor.has_density else torch.zeros(())
    one, two = ((c.log_prob(value) if c.factor.has_density else c.computed()) for c in (case, again))
    require(torch.equal(one, two), f"{case.name}: saved and loaded, it must compute the same, and does not")
    return None


FACTOR_LAWS: tuple[Callable[[FactorCase], str | None], ...] = (
    check_lead_dimensions,
    check_density_integrates,
    check_samples_follow_log_prob,
    check_gradients_reach_every_parameter,
    check_masks,
    check_noise_is_an_input,
    check_detached_stops_parameters,
    check_maximum_likelihood,
    check_archive_round_trip,
)


class _Recorder(Noise):
    """Noise in float64 that keeps what it handed out."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, dtype=torch.float64)
        self.taken: dict[str, Tensor] = {}

    def take(self, key: str, request: Request) -> Tensor:
        self.taken[key] = super().take(key, request)
        return self.taken[key]


def _summed_over_first_entry(case: FactorCase, value: Tensor) -> tuple[Tensor, Tensor]:
    """The sum, or integral, of p over the first entry of `value` `[S, B, *event]`, and its error."""
    sample, supports = case.sample()
    nodes = line_nodes(supports[0], sample.flatten(2)[:, :, 0])  # [G, B]
    flat = value.flatten(2)
    shape = (len(nodes.values), *flat.shape[:2])
    first = nodes.values[:, None, :, None].expand(*shape, 1)
    joined = torch.cat([first, flat[:, :, 1:].expand(*shape, -1)], dim=-1).reshape(shape[0], *value.shape)
    return nodes.integral(case.log_prob(joined).exp())


def _bounded_functions(case: FactorCase, drawn: Tensor) -> list[Callable[[Tensor], Tensor]]:
    """Functions of a value with range in [-1, 1], `[*, B, *event]` to `[*, B]`."""
    generator = torch.Generator().manual_seed(case.seed + 1)
    size, dims = math.prod(case.factor.event), len(case.factor.event)
    flat = drawn.double().reshape(*drawn.shape[:2], size)
    lower, centre, upper = torch.quantile(flat, flat.new_tensor([0.16, 0.5, 0.84]), dim=0)
    spread = (upper - lower) / 2
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))

    def wave(direction: Tensor, shape: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def function(value: Tensor) -> Tensor:
            entries = value.double().reshape(*value.shape[: value.ndim - dims], size)
            return shape(((entries - centre) / spread * direction).sum(-1))

        return function

    def indicator(state: Tensor) -> Callable[[Tensor], Tensor]:
        def function(value: Tensor) -> Tensor:
            return (value == state).reshape(*value.shape[: value.ndim - dims], -1).all(-1).double()

        return function

    scales = torch.tensor([0.3, 1.0, 1.0, 3.0], dtype=torch.float64).unsqueeze(-1)
    directions = scales * torch.randn(4, size, generator=generator, dtype=torch.float64)
    functions = [wave(direction, shape) for direction in directions for shape in (torch.cos, torch.sin)]
    if all(support.is_discrete for support in case.sample()[1]):
        functions += [indicator(state) for state in drawn[:4].flatten(0, 1)]
    return functions


def _bernstein(seen: Tensor, chance: float) -> Tensor:
    """How far a mean of S draws in [-1, 1] is from its expectation, except with probability `chance`."""
    log_term = math.log(4 / chance)
    return (2 * seen.var(0) * log_term / len(seen)).sqrt() + 14 * log_term / (3 * (len(seen) - 1))


def _led(parent: Tensor, lead: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A parent with lead dimensions, its rows in another order at each lead index."""
    orders = [torch.randperm(len(parent), generator=generator) for _ in range(math.prod(lead))]
    return parent[torch.stack(orders)].reshape(*lead, *parent.shape)
