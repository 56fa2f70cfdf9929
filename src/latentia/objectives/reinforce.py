"""The score-function estimator, with baselines that it learns: REINFORCE and NVIL.

S samples, B examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from ..exact import Inference, is_discrete
from ..factor import Factor
from ..joint import Joint, Values, average, total
from ..nets import MLP, fold
from ..noise import Source
from ._draws import evidence_terms, has_draws, scored_in
from .bound import Bound
from .elbo import direction_of, elbo

BASELINES = ("none", "running_mean", "network", "leave_one_out")


class Pair(Protocol):
    """A model: its p and its q."""

    p: Joint
    q: Inference | None

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...


@final
class Reinforce(nn.Module):
    """The ELBO by draws of z, with the score-function gradient for latents that cannot be reparameterised.

        grad_lambda ELBO = E_q[sum_v (l_v - b_v) grad log q(v | parents)]

    The learning signal l_v of a variable v of q holds only the terms of log p(x, z) - log q(z | x) that v can
    change: its own log q, its descendants', and the factors of p in which one of these appears. The baseline
    b_v does not depend on the draw of v, so the gradient is unbiased whatever it is. Latents that can be
    reparameterised keep their pathwise gradient, also through what is drawn from them.

        fit(model, data, Reinforce(model, "leave_one_out"), samples=5)

    model      the pair (p, q) that will be trained; it is looked at and not kept
    baseline   "none"; "running_mean", of the signal over past steps; "network", b(parents of v) fitted by
               least squares to what the running mean leaves, for discrete latents with parents; or
               "leave_one_out", the mean signal of the other draws, which needs samples=2 or more
    normalise  divide the signal by its running standard deviation where that is above 1: steps of q in each
               layer are of similar length, and no longer those of one function's gradient
    hidden     widths of the network's tanh layers
    decay      of the running mean and variance, per training step
    seed       of the network's initial weights

    As an objective it is called (p, q, values, noise, *, samples=1) and gives the ELBO; terms
    "reconstruction" and "kl". The surrogate carries the gradient of the network's squared error too, to its
    weights alone.

    Williams (1992); Mnih & Gregor (2014), "Neural variational inference and learning in belief networks",
    sections 2.3 and 2.4; Schulman et al. (2015), "Gradient estimation using stochastic computation graphs".
    """

    running: Tensor

    def __init__(
        self,
        model: Pair,
        baseline: str = "none",
        normalise: bool = False,
        hidden: Sequence[int] = (100,),
        decay: float = 0.8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if baseline not in BASELINES:
            raise ValueError(f"baseline must be {', '.join(map(repr, BASELINES))}, got {baseline!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        q = model.q
        if not isinstance(q, Joint):
            raise ValueError(
                "this model has no q that is trained, so there is no gradient to estimate: use elbo"
            )
        self.__name__ = "reinforce"
        self.baseline, self.normalise, self.decay = baseline, normalise, decay
        self.variables = tuple(name for name in q.variables if q[name].has_density)
        self.register_buffer("running", torch.zeros(len(self.variables), 2))  # mean and variance
        self.learners = tuple(
            name
            for name in self.variables
            if baseline == "network" and is_discrete(q[name]) and _seen_by(model.p, q, name)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.networks = nn.ModuleList(_network(model.p, q, name, hidden) for name in self.learners)
        self.to(model.device, model.dtype)

    def forward(
        self, p: Joint, q: Inference | None, values: Values, noise: Source, *, samples: int = 1
    ) -> Bound:
        if self.baseline == "leave_one_out" and samples == 1:
            raise ValueError(
                "the leave-one-out baseline is the mean of the other draws, so it needs samples=2 or more"
            )
        if not has_draws(q, values):
            return elbo(p, q, values, noise, samples=samples)
        done = q.complete(values, noise, samples)
        log_p = p.log_probs(done.values)
        scored = scored_in(q, done, self.__name__)
        climbed = total([*log_p.values(), *(-done.log_q[name] for name in done.log_q if name not in scored)])
        for name in scored:
            guess = self._guess(p, q, name, done.values)
            with torch.no_grad():
                signal = learning_signal(p, q, name, log_p, done.log_q)
                advantage = self._advantage(name, signal, guess)
            score = done.log_q[name]
            if guess is not None:  # whose gradient is that of -(l_v - b_v)^2 / 2, over the scale
                score = score + guess
            climbed = climbed + advantage * score
        terms = evidence_terms(done, log_p)
        value = terms["reconstruction"] - terms["kl"]
        return Bound(value, average(climbed, done.log_weight), terms, direction_of(p, q, values))

    def _guess(self, p: Joint, q: Joint, name: str, values: Values) -> Tensor | None:
        """b(parents of v), `[S, B]`, or `[B]` where all parents were given; None without a network."""
        if name not in self.learners:
            return None
        seen = [
            _features(factor, values[parent], self.running) for parent, factor in _seen_by(p, q, name).items()
        ]
        guess = fold(self.networks[self.learners.index(name)], seen, [1] * len(seen))
        return guess.squeeze(-1).to(self.running.dtype)

    def _advantage(self, name: str, signal: Tensor, guess: Tensor | None) -> Tensor:
        """(l_v - b_v) / scale, `[S, B]`.

        What runs over steps is taken as the steps before left it, so that it does not depend on this draw.
        """
        if name not in self.variables:
            raise ValueError(
                f"q draws {name!r}, and this Reinforce was built on a model whose q draws "
                f"{', '.join(self.variables)}: build it on the model that is trained"
            )
        place, follows = self.variables.index(name), self.baseline in ("running_mean", "network")
        if self.baseline == "leave_one_out":
            signal = signal - (signal.sum(0) - signal) / (len(signal) - 1)
        elif guess is not None:
            signal = signal - guess
        running = self.running[place]
        mean, variance = running.unbind()
        advantage = signal - mean if follows else signal
        if self.normalise:
            advantage = advantage / variance.sqrt().clamp(min=1)
        if self.training and (follows or self.normalise):
            variance, mean = torch.var_mean(signal, correction=0)  # of all rows, whatever their weight
            after = torch.lerp(torch.stack([mean, variance]), running, self.decay)
            running.copy_(torch.where(variance < math.inf, after, running))  # unless a signal is not finite
        return advantage


def nvil(model: Pair, hidden: Sequence[int] = (100,), seed: int = 0) -> Reinforce:
    """Neural variational inference and learning: Reinforce with a network on a running mean, normalised.

        fit(model, data, nvil(model))

    hidden: widths of the baseline's tanh layers. Mnih & Gregor (2014), algorithm 1.
    """
    made = Reinforce(model, "network", normalise=True, hidden=hidden, seed=seed)
    made.__name__ = "nvil"
    return made


LEARNT: dict[str, Callable[..., Any]] = {"reinforce": Reinforce, "nvil": nvil}
"""Objectives that learn something themselves, by name: each is built on the model, as `nvil(model)`."""


def learning_signal(
    p: Joint, q: Joint, name: str, log_p: Mapping[str, Tensor], log_q: Mapping[str, Tensor]
) -> Tensor:
    """The terms of log p(x, z) - log q(z | x) that a variable of q can change, `[S, B]`.

    Mnih & Gregor (2014), section 2.3.3.
    """
    moved = {name} | q.descendants(name)
    for node in p.variables:
        if not p[node].has_density and moved & set(p[node].given):
            moved.add(node)
    of_p = [term for other, term in log_p.items() if moved & {other, *p[other].given}]
    return total([*of_p, *(-term for other, term in log_q.items() if other in moved)])


def _seen_by(p: Joint, q: Joint, name: str) -> dict[str, Factor]:
    """The parents of a variable of q that a baseline can take, with the factor that knows their shape."""
    return {
        parent: (q if parent in q else p)[parent] for parent in q[name].given if parent in q or parent in p
    }


def _network(p: Joint, q: Joint, name: str, hidden: Sequence[int]) -> MLP:
    """b(parents of v), one number."""
    seen = _seen_by(p, q, name).values()
    return MLP(sum(_width(factor) for factor in seen), 1, hidden, activation="tanh")


def _width(factor: Factor) -> int:
    """F, how many features a baseline takes of a variable."""
    whole = math.prod(factor.event)
    if factor.coding is None:
        return whole
    zeros = torch.zeros(1, *factor.event, dtype=torch.long)
    return factor.coding.encode(zeros).shape[-1]


def _features(factor: Factor, value: Tensor, like: Tensor) -> Tensor:
    """A constant `[*lead, B, F]`, as a baseline takes a value: codes one-hot, missing entries zero."""
    if factor.coding is not None:
        return factor.coding.encode(value.detach()).to(like.dtype)
    lead = value.shape[: value.ndim - len(factor.event)]
    return value.detach().reshape(*lead, math.prod(factor.event)).to(like.dtype)
