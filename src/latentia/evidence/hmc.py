"""Hamiltonian Monte Carlo, batched over chains and examples.

C chains, B examples, M entries of the position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]
TARGET = 0.65  # the acceptance rate at which HMC is most efficient (Neal 2011, section 5.4.4.3)


class State(NamedTuple):
    """A position `[C, B, M]` with its log density `[C, B]` and gradient `[C, B, M]`."""

    position: Tensor
    log_density: Tensor
    gradient: Tensor


def state_at(log_density: LogDensity, position: Tensor) -> State:
    """The state at a position: one evaluation and one gradient."""
    with torch.enable_grad():
        position = position.detach().requires_grad_()
        value = log_density(position)
        (gradient,) = torch.autograd.grad(value.sum(), position)
    return State(position.detach(), value.detach(), gradient)


def transition(
    log_density: LogDensity, state: State, step: Tensor, leapfrogs: int, generator: torch.Generator
) -> tuple[State, Tensor]:
    """One step of HMC that leaves the density invariant, and the acceptance probability of each, `[C, B]`.

    Momentum ~ N(0, I), `leapfrogs` steps of size `step` (`[B]` or `[C, B]`), then Metropolis' choice. A
    proposal that is not finite is refused.

    Neal (2011), "MCMC using Hamiltonian dynamics", section 5.3.
    """
    like = state.position
    size = step.unsqueeze(-1)
    momentum = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    before = state.log_density - 0.5 * momentum.square().sum(-1)
    proposal = state
    for _ in range(leapfrogs):
        momentum = momentum + 0.5 * size * proposal.gradient
        proposal = state_at(log_density, proposal.position + size * momentum)
        momentum = momentum + 0.5 * size * proposal.gradient
    change = proposal.log_density - 0.5 * momentum.square().sum(-1) - before
    probability = change.clamp(max=0).exp().nan_to_num(0.0)
    uniform = torch.rand(change.shape, generator=generator, dtype=like.dtype, device=like.device)
    accept = uniform < probability
    chosen = accept.unsqueeze(-1)
    kept = State(
        torch.where(chosen, proposal.position, state.position),
        torch.where(accept, proposal.log_density, state.log_density),
        torch.where(chosen, proposal.gradient, state.gradient),
    )
    return kept, probability


def adapted(step: Tensor, acceptance: Tensor, rate: float = 0.2) -> Tensor:
    """The step size `[B]` nearer to the one whose acceptance, averaged over chains, is `TARGET`.

    Only while tuning: a step size that follows the chain does not leave the density invariant.
    """
    return (step * torch.exp(rate * (acceptance.mean(0) - TARGET))).clamp(1e-4, 10.0)
