"""Exact inference: for every model of the registry it is Bayes' rule, and the bounds have no gap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

import latentia as lt
from latentia.exact import NotExactError, is_discrete
from latentia.factor import NotEnumerableError
from latentia.joint import MASK
from latentia.noise import Noise, Request

from .exact_models import CASES, ROWS, brute_evidence, brute_force, cases

EVERY = pytest.mark.parametrize(("name", "how"), cases())
LAWS = {"rtol": 1e-9, "atol": 1e-9}


class Points:
    """Noise whose mean is 0 and whose covariance is I over its 2 M samples: +- sqrt(M) times each axis."""

    def take(self, key: str, request: Request) -> Tensor:
        size = request.shape[-1]
        axes = math.sqrt(size) * torch.eye(size, dtype=torch.float64)
        points = torch.cat([axes, -axes]).unsqueeze(1)  # [S, 1, M]
        return points.expand(request.shape)

    def sample(self, distribution: object) -> Tensor:
        raise AssertionError("exact draws take their noise as it is given")


def gradients(value: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value.sum(), parameters, allow_unused=True, materialize_grads=True)


@EVERY
def test_the_evidence_and_its_gradient_are_those_of_brute_force(name: str, how: str) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    learnt = [parameter for parameter in exact.p.parameters() if parameter.requires_grad]
    evidence, expected = exact.log_evidence(values), brute_evidence(exact, values)
    torch.testing.assert_close(evidence, expected, **LAWS)
    gradient = gradients(expected, learnt)
    bound = lt.elbo(exact.p, exact, values, Noise(1, dtype=torch.float64), samples=2)
    for total in (evidence, bound.surrogate):
        for one, other in zip(gradients(total, learnt), gradient, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@EVERY
@pytest.mark.parametrize("samples", [1, 3])
def test_the_bounds_are_the_evidence_whatever_is_drawn(name: str, how: str, samples: int) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    with torch.no_grad():
        evidence = exact.log_evidence(values)
        for objective in (lt.elbo, lt.iwae):
            bound = objective(exact.p, exact, values, Noise(samples, dtype=torch.float64), samples=samples)
            torch.testing.assert_close(bound.value, evidence, **LAWS)
            assert bound.direction == "exact"


@EVERY
def test_the_posterior_is_bayes_rule(name: str, how: str) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    with torch.no_grad():
        found, marginals = exact.posterior(values), exact.distributions(values)
        brute = brute_force(exact, values)
    lead = found.log_weights.ndim - 1
    weights = found.log_weights.exp()
    assert set(marginals) == {*found.states, *found.places}
    torch.testing.assert_close(weights.sum(tuple(range(lead))), torch.ones(ROWS, dtype=torch.float64))
    for row, truth in enumerate(brute):
        expected = truth.log_joint.softmax(0)
        possible = weights[..., row].flatten()
        torch.testing.assert_close(possible[possible > 0], expected, **LAWS)
        for variable in found.states:
            support = exact[variable].support()
            own = torch.stack([chosen.get(variable, values.get(variable, support)[row : row + 1])[0]
                               for chosen in truth.states])
            if support.is_floating_point():
                mean = torch.tensordot(expected, own, 1)
                torch.testing.assert_close(marginals[variable].mean[row], mean, **LAWS)
                continue
            shares = torch.stack([expected[own == code].sum() for code in support])
            torch.testing.assert_close(marginals[variable].probs[row], shares, **LAWS)
        if not found.places:
            continue
        mean = sum(w * m for w, m in zip(expected, truth.mean, strict=True))
        second = sum(
            w * (c + torch.outer(m, m))
            for w, m, c in zip(expected, truth.mean, truth.covariance, strict=True)
        )
        for variable, place in found.places.items():
            torch.testing.assert_close(marginals[variable].mean[row], mean[place], **LAWS)
            variance = second.diagonal()[place] - mean[place].square()
            torch.testing.assert_close(marginals[variable].variance[row], variance, **LAWS)


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, how) for name, how in cases() if not all(is_discrete(f) for f in map(CASES[name].exact().__getitem__, CASES[name].exact()))],
)
def test_draws_of_gaussian_latents_have_the_posteriors_moments(name: str, how: str) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    found = exact.posterior(values)
    size = sum(place.stop - place.start for place in found.places.values())
    done = exact.complete(values, Points(), samples=2 * size)
    lead = found.log_weights.shape[:-1]
    drawn = torch.cat([done.values[v].flatten(len(lead) + 2) for v in found.places], -1)
    drawn = drawn.expand(*lead, *drawn.shape[-3:]).detach().reshape(-1, *drawn.shape[-3:])  # [K, S, B, M]
    weights = found.log_weights.reshape(-1, ROWS)
    for row, truth in enumerate(brute_force(exact, values)):
        possible = drawn[weights[:, row] > -math.inf, :, row]
        torch.testing.assert_close(possible.mean(1), torch.stack(truth.mean).detach(), **LAWS)
        covariance = torch.stack([torch.cov(part.mT, correction=0) for part in possible])
        torch.testing.assert_close(covariance.reshape(-1, size, size), torch.stack(truth.covariance).detach(), **LAWS)
