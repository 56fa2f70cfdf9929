"""The path of annealed importance sampling: from a start one can draw from to p(x, z), and moves along it.

C chains, B examples, M entries of all continuous latents together, T intermediate distributions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..exact import is_discrete
from ..factors import Categorical
from ..joint import MASK, Joint, Values, is_latent, total
from ..noise import Noise
from .hmc import State, adapted, state_at, transition

Latents = dict[str, Tensor]
Execute = Callable[[Tensor, Latents, Values], State]
JITTER = 0.3  # the share by which a step size varies from transition to transition


class Point(NamedTuple):
    """The latents of each chain, `[C, B, *event]`, and the path's two parts there."""

    latents: Latents
    state: State


@dataclass(frozen=True)
class Density:
    """log f_beta(z) = (1 - beta) log f_0(z) + beta log p(x, z): geometric, f_0 the prior or q(z | x).

    start  p, whose latent factors are then the prior, or q

    It is base + beta rest, base = log f_0(z) and rest = log p(x, z) - log f_0(z). A latent variable that some
    rows hold (a mask `[B]`) is theirs there: what a chain says of it does not count.
    """

    p: Joint
    start: Joint

    def names(self, values: Values) -> list[str]:
        return [n for n in self.p.variables if self.p[n].has_density and is_latent(n, values)]

    def continuous(self, values: Values) -> list[str]:
        return [name for name in self.names(values) if not is_discrete(self.p[name])]

    def parts(self, latents: Latents, values: Values) -> tuple[Tensor, Tensor]:
        """base and rest, `[C, B]`."""
        names, filled, seen = self.names(values), {**values, **latents}, {}
        for name in names:
            if name in values and name in latents:
                seen[name] = filled.pop(name + MASK)
                mask = seen[name].reshape(-1, *(1,) * len(self.p[name].event))
                filled[name] = torch.where(mask, values[name], latents[name])
        log_p = self.p.log_probs(filled)
        log_start = log_p if self.start is self.p else self.start.log_probs(filled)
        base = [
            torch.where(seen[n], torch.zeros_like(log_start[n]), log_start[n]) if n in seen else log_start[n]
            for n in names
        ]
        if self.start is self.p and not seen:
            return total(base), total(log_p[name] for name in log_p if name not in names)
        return total(base), total(log_p.values()) - total(base)

    def __call__(self, position: Tensor, codes: Latents, values: Values) -> State:
        """The state at a position `[C, B, M]`, all continuous latents side by side, and at discrete ones."""
        if not position.shape[-1]:
            with torch.no_grad():
                return State(position, *self.parts(codes, values), position, position)
        return state_at(lambda place: self.parts({**codes, **self.unpack(place, values)}, values), position)

    def unpack(self, position: Tensor, values: Values) -> Latents:
        names = self.continuous(values)
        sizes = [math.prod(self.p[name].event) for name in names]
        pieces = torch.split(position, sizes, -1)
        shapes = [(*position.shape[:-1], *self.p[name].event) for name in names]
        return {n: piece.reshape(s) for n, piece, s in zip(names, pieces, shapes, strict=True)}


@dataclass(frozen=True)
class Path:
    """The densities between f_0 and p(x, z) for one batch of values.

    execute  the density as it is, or compiled
    """

    density: Density
    values: Values
    execute: Execute | None = None

    @property
    def p(self) -> Joint:
        return self.density.p

    @property
    def continuous(self) -> list[str]:
        return self.density.continuous(self.values)

    @property
    def discrete(self) -> list[str]:
        return [name for name in self.density.names(self.values) if is_discrete(self.p[name])]

    def draw(self, noise: Noise, chains: int) -> Point:
        """Independent draws from f_0."""
        done = self.density.start.complete(self.values, noise, chains)
        return self.point({name: done.values[name] for name in self.density.names(self.values)})

    def point(self, latents: Latents) -> Point:
        """The latents with the two parts of the path there, and their gradients."""
        return self.moved(latents, self.evaluate(latents, self.pack(latents)))

    def evaluate(self, latents: Latents, position: Tensor) -> State:
        """The state at another position of the continuous latents."""
        codes = {name: latents[name] for name in self.discrete}
        return (self.execute or self.density)(position, codes, self.values)

    def moved(self, latents: Latents, state: State) -> Point:
        """The point of a state of the continuous latents."""
        return Point({**latents, **self.density.unpack(state.position, self.values)}, state)

    def at(self, latents: Latents, beta: float | Tensor) -> Tensor:
        """log f_beta(z), `[C, B]`."""
        base, rest = self.density.parts(latents, self.values)
        return base + beta * rest

    def pack(self, latents: Mapping[str, Tensor]) -> Tensor:
        """The continuous latents side by side, `[C, B, M]`."""
        flat = [latents[name].flatten(2) for name in self.continuous]
        if flat:
            return torch.cat(flat, -1)
        like = next(iter(latents.values()))
        return like.new_zeros(*like.shape[:2], 0)


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

    def __call__(self, point: Point, beta: float, place: int) -> Point:
        """One transition at beta, the `place`-th distribution of the path."""
        if self.path.discrete:
            latents = point.latents
            for name in self.path.discrete:
                latents = self._update(name, latents, beta)
            point = self.path.point(latents)
        return self._move(point, beta, place) if self.path.continuous else point

    def _move(self, point: Point, beta: float, place: int) -> Point:
        def evaluate(position: Tensor) -> State:
            return self.path.evaluate(point.latents, position)

        step = self.step if self.step.ndim == 1 else self.step[place]
        step = step * self._jitter(point.state.position)
        state, acceptance = transition(evaluate, point.state, step, self.leapfrogs, self.generator, beta)
        if self.tuning:
            self.step = adapted(self.step, acceptance)
        return self.path.moved(point.latents, state)

    def _jitter(self, like: Tensor) -> Tensor:
        """A factor on each chain's step, 0.7 to 1.3, `[C, B]`: steps of one length may run in circles.

        It does not depend on the position, so the density stays invariant (Neal 2011, section 5.4.2.2).
        """
        uniform = torch.rand(like.shape[:2], generator=self.generator, device=like.device, dtype=like.dtype)
        return 1 + JITTER * (2 * uniform - 1)

    @torch.no_grad()
    def _update(self, name: str, latents: Latents, beta: float) -> Latents:
        if not self.path.p[name].event:
            return self._gibbs(name, latents, beta)
        value = self.path.at(latents, beta)
        for _ in range(self.flips):
            latents, value = self._flip(name, latents, value, beta)
        return latents

    def _gibbs(self, name: str, latents: Latents, beta: float) -> Latents:
        """A draw of a categorical latent from its conditional, every code tried."""
        states, like = self.path.p[name].support(), latents[name]
        scores = torch.stack([self.path.at({**latents, name: s.expand_as(like)}, beta) for s in states])
        uniform = torch.rand(scores.shape, generator=self.generator, device=scores.device)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-30, 1 - 1e-7)))
        return {**latents, name: states[(scores + gumbel).argmax(0)]}

    def _flip(self, name: str, latents: Latents, now: Tensor, beta: float) -> tuple[Latents, Tensor]:
        """Metropolis: a random entry of each chain's vector takes another value; now is log f_beta there."""
        value = latents[name].flatten(2)
        shape = (*value.shape[:2], 1)
        unit = torch.randint(value.shape[-1], shape, generator=self.generator, device=value.device)
        factor = self.path.p[name]
        codes = factor.classes if isinstance(factor, Categorical) else 2
        step = torch.randint(1, codes, shape, generator=self.generator, device=value.device)
        turned = value.scatter(-1, unit, (value.gather(-1, unit) + step) % codes).reshape(latents[name].shape)
        then = self.path.at({**latents, name: turned}, beta)
        uniform = torch.rand(then.shape, generator=self.generator, device=then.device)
        accept = uniform.log() < then - now
        chosen = accept.reshape(*accept.shape, *(1,) * len(self.path.p[name].event))
        return {**latents, name: torch.where(chosen, turned, latents[name])}, torch.where(accept, then, now)
