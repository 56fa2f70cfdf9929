"""Annealed importance sampling, forward for a lower bound and backward for an upper one.

C chains, B examples, T intermediate distributions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._compiling import Compiled
from ..joint import Joint, Values
from ..noise import Noise
from .annealing import Density, Execute, Latents, Moves, Path, Point, betas
from .hmc import State
from .importance import Weighed, Weights

SCHEDULES = ("linear", "sigmoidal", "adaptive")
WARM = 10  # transitions at the start of the path, for the step size to settle
PILOT = 4  # the tuning run visits a fourth of the distributions, with a fourth of the chains


@dataclass(frozen=True)
class Annealing:
    """How to anneal.

    distributions  T, how many steps from f_0 to p(x, z)
    chains         C, independent runs per example
    schedule       "linear", "sigmoidal", or "adaptive": steps at equal thermodynamic length
    leapfrogs      of a transition of Hamiltonian Monte Carlo
    """

    distributions: int = 500
    chains: int = 16
    schedule: str = "adaptive"
    leapfrogs: int = 10

    def __post_init__(self) -> None:
        for name in ("distributions", "chains", "leapfrogs"):
            count = getattr(self, name)
            if not isinstance(count, int):
                raise ValueError(f"{name} must be a whole number, got {count!r}")
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if self.schedule not in SCHEDULES:
            known = ", ".join(map(repr, SCHEDULES))
            raise ValueError(f"schedule {self.schedule!r} is unknown: use {known}")


def ais(
    p: Joint, start: Joint, values: Values, noise: Noise, how: Annealing, execute: Execute | None = None
) -> Weighed:
    """log (1/C) sum_c w_c, log w_c = sum_t (beta_t - beta_t-1) log(p(x, z_t-1) / f_0(z_t-1)).

    z_t comes from z_t-1 by a transition that leaves f_beta_t invariant. E[value] <= log p(x). Step sizes, and
    the adaptive schedule, are tuned on a run of their own and then held fixed, so that the weights are
    unbiased. execute: the path's density, compiled.

    Neal (2001); Wu, Burda, Salakhutdinov & Grosse (2017).
    """
    path = Path(Density(p, start), values, execute)
    moves, schedule = tuned(path, noise, how)
    return _weighed(anneal(path.draw(noise, how.chains), moves, schedule))


def reverse_ais(
    p: Joint,
    start: Joint,
    values: Values,
    truth: Latents,
    noise: Noise,
    how: Annealing,
    execute: Execute | None = None,
) -> Weighed:
    """An upper bound, E[value] >= log p(x), for x drawn with z from p: the same path walked backward.

    truth: the z with which x was drawn, `[B, *event]`: an exact draw from p(z | x). Of the backward weights,
    E[1 / w] = 1 / p(x), so -log (1/C) sum_c 1 / w_c is at least log p(x) on average.

    Grosse, Ghahramani & Adams (2015), "Sandwiching the marginal likelihood using bidirectional Monte Carlo".
    """
    path = Path(Density(p, start), values, execute)
    moves, schedule = tuned(path, noise, how)
    # C chains from one exact draw share it, so they are not independent; each alone is an exact draw.
    latents = {name: value.expand(how.chains, *value.shape) for name, value in truth.items()}
    found = _weighed(anneal(path.point(latents), moves, schedule, backward=True))
    return found._replace(value=-found.value, bias=-found.bias)


def executor(p: Joint, start: Joint, chains: int, rows: int) -> Execute:
    """The path's density, compiled for batches of so many rows; others, and the tuning, run as they are."""
    density = Density(p, start)
    quick = Compiled(density.__call__)

    def execute(position: Tensor, codes: Latents, values: Values) -> State:
        run = quick if position.shape[:2] == (chains, rows) else density
        return run(position, codes, values)

    return execute


def anneal(point: Point, moves: Moves, schedule: Tensor, backward: bool = False) -> Tensor:
    """log w of each chain, `[C, B]`; of a walk from p(x, z) back to f_0 it is log 1 / w."""
    log_w = torch.zeros_like(point.state.rest)
    count = len(schedule) - 1
    for t in range(count, 0, -1) if backward else range(1, count + 1):
        if backward:
            point = moves(point, float(schedule[t]), t - 1)
        step = float(schedule[t] - schedule[t - 1]) * point.state.rest
        log_w = log_w - step if backward else log_w + step
        if not backward and t < count:
            point = moves(point, float(schedule[t]), t - 1)
    return log_w


def tuned(path: Path, noise: Noise, how: Annealing) -> tuple[Moves, Tensor]:
    """Moves with their step sizes along the path, and its schedule, from a shorter run."""
    first = "sigmoidal" if how.schedule == "adaptive" else how.schedule
    pilot = betas(max(10, how.distributions // PILOT), first)
    size = len(next(iter(path.values.values())))
    step = torch.full((size,), 0.3, dtype=noise.dtype, device=noise.generator.device)
    moves = Moves(path, noise.generator, step, how.leapfrogs, tuning=True)
    point = path.draw(noise, max(2, how.chains // PILOT))
    for _ in range(WARM):
        point = moves(point, 0.0, 0)
    steps, spreads = [], []
    for t, beta in enumerate(pilot[1:].tolist()):
        point = moves(point, beta, t)
        steps.append(moves.step)
        spreads.append(point.state.rest.double().std(0).mean())
    schedule = betas(how.distributions, first)
    if how.schedule == "adaptive":
        schedule = _equal_length(pilot, torch.stack(spreads), how.distributions)
    places = torch.searchsorted(pilot[1:], schedule[1:]).clamp(max=len(steps) - 1)
    return replace(moves, step=torch.stack(steps)[places.to(step.device)], tuning=False), schedule


def _equal_length(pilot: Tensor, spreads: Tensor, count: int) -> Tensor:
    """Betas at equal thermodynamic length, the integral of std(log p(x, z) - log f_0(z)) over beta.

    Gelman & Meng (1998), section 3.3.
    """
    pieces = spreads.cpu() * pilot.diff()
    length = torch.cat([torch.zeros(1, dtype=torch.float64), pieces.cumsum(0)])
    wanted = torch.linspace(0, 1, count + 1, dtype=torch.float64) * length[-1]
    right = torch.searchsorted(length, wanted).clamp(1, len(length) - 1)
    left = right - 1
    share = (wanted - length[left]) / (length[right] - length[left]).clamp(min=1e-300)
    found = pilot[left] + share.clamp(0, 1) * (pilot[right] - pilot[left])
    found[0], found[-1] = 0.0, 1.0
    return found


def _weighed(log_w: Tensor) -> Weighed:
    return Weights.of(log_w, len(log_w)).weighed()
