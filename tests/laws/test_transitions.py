"""The moves of annealed importance sampling leave their distribution invariant, on known targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from scipy import stats
from torch import Tensor

import latentia as lt
from latentia.evidence.annealing import Density, Moves, Path
from latentia.evidence.hmc import State, adapted, state_at, transition

CHANCE = 2e-5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double_well(position: Tensor) -> Tensor:
    """-(u^2 - 1)^2 in each entry."""
    return -(position.square() - 1).square().sum(-1)


def evaluate(log_density: Callable[[Tensor], Tensor], position: Tensor) -> State:
    """The state of a density that is base + beta rest at beta = 1."""
    return state_at(lambda u: (-u.square().sum(-1), log_density(u) + u.square().sum(-1)), position)


def exact_draws(count: int, seed: int = 1) -> Tensor:
    """Draws from exp(-(u^2 - 1)^2) by inverting its distribution function on a grid."""
    grid = torch.linspace(-3, 3, 20_001, dtype=torch.float64)
    mass = torch.exp(double_well(grid.unsqueeze(-1))).cumsum(0)
    uniform = torch.rand(count, 1, 1, generator=generator(seed), dtype=torch.float64)
    return grid[torch.searchsorted(mass / mass[-1], uniform).clamp(max=20_000)]


def test_hmc_leaves_a_known_density_invariant() -> None:
    start = exact_draws(20_000)
    state, step = evaluate(double_well, start), torch.full((1,), 0.35, dtype=torch.float64)
    for turn in range(5):
        state, acceptance = transition(partial(evaluate, double_well), state, step, 5, generator(turn))
    assert 0.5 < float(acceptance.mean()) < 1
    assert float((state.position - start).abs().mean()) > 0.3
    moved = state.position.flatten().numpy()
    assert stats.ks_2samp(moved, exact_draws(20_000, seed=2).flatten().numpy()).pvalue > CHANCE


def test_hmc_finds_a_gaussian_from_afar() -> None:
    scale = torch.tensor([1.0, 0.3], dtype=torch.float64)

    def density(position: Tensor) -> Tensor:
        return -0.5 * (position / scale).square().sum(-1)

    state = evaluate(density, torch.full((400, 10, 2), 3.0, dtype=torch.float64))
    step, source = torch.full((10,), 0.05, dtype=torch.float64), generator()
    for _ in range(60):
        state, acceptance = transition(partial(evaluate, density), state, step, 8, source)
        step = adapted(step, acceptance)
    for _ in range(20):
        state, acceptance = transition(partial(evaluate, density), state, step, 8, source)
    assert 0.5 < float(acceptance.mean()) < 0.85
    draws = state.position.flatten(0, 1)
    assert stats.kstest(draws[:, 0].numpy(), "norm").pvalue > CHANCE
    assert stats.kstest((draws[:, 1] / 0.3).numpy(), "norm").pvalue > CHANCE


def test_detailed_balance_of_hmc() -> None:
    """The flux from a to b equals that from b to a: of pairs (before, after) drawn in equilibrium."""
    start = exact_draws(40_000)
    step = torch.full((1,), 0.4, dtype=torch.float64)
    at = partial(evaluate, double_well)
    state, _ = transition(at, at(start), step, 4, generator(3))
    before, after = (
        torch.bucketize(p.flatten(), torch.tensor([-0.5, 0.5]).double()) for p in (start, state.position)
    )
    flux = torch.zeros(3, 3).index_put_((before, after), torch.ones(len(before)), accumulate=True)
    for a in range(3):
        for b in range(a):
            one, other = float(flux[a, b]), float(flux[b, a])
            assert abs(one - other) < 4.5 * math.sqrt(one + other)


def test_a_proposal_that_is_not_finite_is_refused() -> None:
    def walled(position: Tensor) -> Tensor:
        inside = position.abs().amax(-1) < 1
        return torch.where(inside, -position.square().sum(-1), -math.inf)

    state = evaluate(walled, torch.zeros(50, 1, 1))
    for _ in range(20):
        state, probability = transition(
            partial(evaluate, walled), state, torch.full((1,), 3.0), 3, generator()
        )
    assert isinstance(state, State)
    assert bool(torch.isfinite(state.log_density(1.0)).all())
    assert bool(((probability >= 0) & (probability <= 1)).all())


@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("kind", ["bits", "code", "codes"])
def test_discrete_moves_leave_the_path_invariant(kind: str, beta: float) -> None:
    torch.manual_seed(0)
    if kind == "bits":
        p = lt.Joint(h=lt.Bernoulli(lt.Constant(3)), x=lt.Bernoulli(lt.MLP(3, 4), given="h")).double()
    else:
        h = lt.Categorical(5) if kind == "code" else lt.Categorical(3, event=2)
        inputs = 5 if kind == "code" else 6
        p = lt.Joint(h=h, x=lt.Bernoulli(lt.MLP(inputs, 4), given="h")).double()
    with torch.no_grad():
        p["x"].net.layers[0].weight.mul_(4)  # type: ignore[union-attr, index, operator]
    path = Path(Density(p, p), {"x": torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)})
    states = p["h"].support()
    chances = torch.softmax(path.at({"h": states.unsqueeze(1)}, beta).detach().flatten(), 0)
    place = torch.multinomial(chances, 20_000, replacement=True, generator=generator())
    moves = Moves(path, generator(1), torch.ones(1), flips=7)
    point = path.point({"h": states[place].unsqueeze(1)})
    after = moves(point, beta, 0).latents["h"].squeeze(1)
    same = (after.unsqueeze(1) == states).reshape(len(after), len(states), -1).all(-1)
    counts = same.double().sum(0)
    assert float((after != states[place]).double().mean()) > 0.05
    assert stats.chisquare(counts.numpy(), (chances * len(after)).numpy()).pvalue > CHANCE
