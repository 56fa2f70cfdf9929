"""Hamiltonian Monte Carlo on a density between two others, batched over chains and examples.

C chains, B examples, M entries of the position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Parts = Callable[[Tensor], tuple[Tensor, Tensor]]
Evaluate = Callable[[Tensor], "State"]
TARGET = 0.65  # the acceptance rate at which HMC is most efficient (Neal 2011, section 5.4.4.3)


class State(NamedTuple):
    """A position, and there the two parts of log f_beta = base + beta rest, with their gradients.

    Kept apart, they serve every beta: a step along the path of densities costs no evaluation.

    position                      `[C, B, M]`
    base, rest                    `[C, B]`
    base_gradient, rest_gradient  `[C, B, M]`
    """

    position: Tensor
    base: Tensor
    rest: Tensor
    base_gradient: Tensor
    rest_gradient: Tensor

    def log_density(self, beta: float | Tensor) -> Tensor:
        return self.base + beta * self.rest

    def gradient(self, beta: float | Tensor) -> Tensor:
        return self.base_gradient + beta * self.rest_gradient


def state_at(parts: Parts, position: Tensor) -> State:
    """The state at a position: one evaluation of base and rest `[C, B]`, and their gradients."""
    with torch.enable_grad():
        position = position.detach().requires_grad_()
        base, rest = parts(position)
        (of_base,) = _gradient(base, position, retain_graph=True)
        (of_rest,) = _gradient(rest, position)
    return State(position.detach(), base.detach(), rest.detach(), of_base, of_rest)


def _gradient(value: Tensor, position: Tensor, retain_graph: bool = False) -> tuple[Tensor, ...]:
    if not value.requires_grad:
        return (torch.zeros_like(position),)
    return torch.autograd.grad(value.sum(), position, retain_graph=retain_graph, materialize_grads=True)


def transition(
    evaluate: Evaluate,
    state: State,
    step: Tensor,
    leapfrogs: int,
    generator: torch.Generator,
    beta: float | Tensor = 1.0,
) -> tuple[State, Tensor]:
    """One step of HMC that leaves f_beta invariant, and the acceptance probability of each, `[C, B]`.

    Momentum ~ N(0, I), `leapfrogs` steps of size `step` (`[B]` or `[C, B]`), each one evaluation, then
    Metropolis' choice. A proposal that is not finite is refused.

    Neal (2011), "MCMC using Hamiltonian dynamics", section 5.3.
    """
    like = state.position
    size = step.unsqueeze(-1)
    momentum = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    before = state.log_density(beta) - 0.5 * momentum.square().sum(-1)
    proposal = state
    for _ in range(leapfrogs):
        momentum = momentum + 0.5 * size * proposal.gradient(beta)
        proposal = evaluate(proposal.position + size * momentum)
        momentum = momentum + 0.5 * size * proposal.gradient(beta)
    change = proposal.log_density(beta) - 0.5 * momentum.square().sum(-1) - before
    probability = change.clamp(max=0).exp().nan_to_num(0.0)
    uniform = torch.rand(change.shape, generator=generator, dtype=like.dtype, device=like.device)
    accept = uniform < probability
    kept = (
        torch.where(accept.unsqueeze(-1) if new.ndim > accept.ndim else accept, new, old)
        for new, old in zip(proposal, state, strict=True)
    )
    return State(*kept), probability


def adapted(step: Tensor, acceptance: Tensor, rate: float = 0.2) -> Tensor:
    """The step size `[B]` nearer to the one whose acceptance, averaged over chains, is `TARGET`.

    Only while tuning: a step size that follows the chain does not leave the density invariant.
    """
    return (step * torch.exp(rate * (acceptance.mean(0) - TARGET))).clamp(1e-4, 10.0)
