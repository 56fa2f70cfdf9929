"""The path of annealed importance sampling: from a start one can draw from to p(x, z), and moves along it.

C chains, B examples, M entries of all continuous latents together, T intermediate distributions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..exact import is_discrete
from ..joint import Joint, Values, is_latent, total
from ..noise import Noise
from .hmc import State, adapted, state_at, transition

Latents = dict[str, Tensor]
JITTER = 0.3  # the share by which a step size varies from transition to transition


@dataclass(frozen=True)
class Path:
    """log f_beta(z) = (1 - beta) log f_0(z) + beta log p(x, z): geometric, f_0 the prior or q(z | x).

    start  p, whose latent factors are then the prior, or q
    """

    p: Joint
    start: Joint
    values: Values

    @property
    def names(self) -> list[str]:
        return [n for n in self.p.variables if self.p[n].has_density and is_latent(n, self.values)]

    @property
    def continuous(self) -> list[str]:
        return [name for name in self.names if not is_discrete(self.p[name])]

    @property
    def discrete(self) -> list[str]:
        return [name for name in self.names if is_discrete(self.p[name])]

    def draw(self, noise: Noise, chains: int) -> Latents:
        """Independent draws from f_0, `[C, B, *event]`."""
        done = self.start.complete(self.values, noise, chains)
        return {name: done.values[name] for name in self.names}

    def parts(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """log f_0(z) and log p(x, z), `[C, B]`."""
        values = {**self.values, **latents}
        log_p = self.p.log_probs(values)
        log_start = log_p if self.start is self.p else self.start.log_probs(values)
        return total(log_start[name] for name in self.names), total(log_p.values())

    def at(self, latents: Latents, beta: float | Tensor) -> Tensor:
        """log f_beta(z), `[C, B]`."""
        start, target = self.parts(latents)
        return start + beta * (target - start)

    def pack(self, latents: Mapping[str, Tensor]) -> Tensor:
        """The continuous latents side by side, `[C, B, M]`."""
        return torch.cat([latents[name].flatten(2) for name in self.continuous], -1)

    def unpack(self, position: Tensor) -> Latents:
        sizes = [math.prod(self.p[name].event) for name in self.continuous]
        pieces = torch.split(position, sizes, -1)
        shapes = [(*position.shape[:-1], *self.p[name].event) for name in self.continuous]
        return {n: piece.reshape(s) for n, piece, s in zip(self.continuous, pieces, shapes, strict=True)}


def betas(count: int, schedule: str, delta: float = 4.0) -> Tensor:
    """0 = beta_0 < ... < beta_T = 1, `[T + 1]` in float64.

    "linear", or "sigmoidal": beta_t = (s_t - s_0) / (s_T - s_0), s_t = sigmoid(delta (2 t / T - 1)), with
    small steps at both ends (Wu et al. 2017, section 2.3).
    """
    t = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    if schedule == "linear":
        return t
    s = torch.sigmoid(delta * (2 * t - 1))
    return (s - s[0]) / (s[-1] - s[0])


@dataclass
class Moves:
    """Transitions that leave f_beta invariant: HMC for continuous latents, Gibbs or Metropolis for discrete.

    step       HMC's step size for each example, `[B]`, or `[T, B]` along the path once tuned
    leapfrogs  of one transition
    flips      single-unit updates of binary vectors in one transition
    """

    path: Path
    generator: torch.Generator
    step: Tensor
    leapfrogs: int = 10
    flips: int = 10
    tuning: bool = False

    def __call__(self, latents: Latents, beta: float, place: int) -> Latents:
        """One transition at beta, the `place`-th distribution of the path."""
        for name in self.path.discrete:
            latents = self._update(name, latents, beta)
        if self.path.continuous:
            latents = self._move(latents, beta, place)
        return latents

    def _move(self, latents: Latents, beta: float, place: int) -> Latents:
        fixed = {name: latents[name] for name in self.path.discrete}

        def log_density(position: Tensor) -> Tensor:
            return self.path.at({**fixed, **self.path.unpack(position)}, beta)

        step = self.step if self.step.ndim == 1 else self.step[place]
        step = step * self._jitter(latents)
        begin: State = state_at(log_density, self.path.pack(latents))
        state, acceptance = transition(log_density, begin, step, self.leapfrogs, self.generator)
        if self.tuning:
            self.step = adapted(self.step, acceptance)
        return {**fixed, **self.path.unpack(state.position)}

    def _jitter(self, latents: Latents) -> Tensor:
        """A factor on each chain's step, 0.7 to 1.3, `[C, B]`: steps of one length may run in circles.

        It does not depend on the position, so the density stays invariant (Neal 2011, section 5.4.2.2).
        """
        like = latents[self.path.continuous[0]]
        uniform = torch.rand(like.shape[:2], generator=self.generator, device=like.device, dtype=like.dtype)
        return 1 + JITTER * (2 * uniform - 1)

    @torch.no_grad()
    def _update(self, name: str, latents: Latents, beta: float) -> Latents:
        if not self.path.p[name].event:
            return self._gibbs(name, latents, beta)
        for _ in range(self.flips):
            latents = self._flip(name, latents, beta)
        return latents

    def _gibbs(self, name: str, latents: Latents, beta: float) -> Latents:
        """A draw of a categorical latent from its conditional, every code tried."""
        states, like = self.path.p[name].support(), latents[name]
        scores = torch.stack([self.path.at({**latents, name: s.expand_as(like)}, beta) for s in states])
        uniform = torch.rand(scores.shape, generator=self.generator, device=scores.device)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-30, 1 - 1e-7)))
        return {**latents, name: states[(scores + gumbel).argmax(0)]}

    def _flip(self, name: str, latents: Latents, beta: float) -> Latents:
        """Metropolis: a random unit of each chain's binary vector turned over."""
        value = latents[name].flatten(2)
        shape = (*value.shape[:2], 1)
        unit = torch.randint(value.shape[-1], shape, generator=self.generator, device=value.device)
        turned = value.scatter(-1, unit, 1 - value.gather(-1, unit)).reshape(latents[name].shape)
        change = self.path.at({**latents, name: turned}, beta) - self.path.at(latents, beta)
        uniform = torch.rand(change.shape, generator=self.generator, device=change.device)
        accept = (uniform.log() < change).reshape(*change.shape, *(1,) * len(self.path.p[name].event))
        return {**latents, name: torch.where(accept, turned, latents[name])}
