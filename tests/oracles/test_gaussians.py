"""Gaussians against the textbook: KL divergences, linear maps, squared errors, reparametrised draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

import latentia as lt
from latentia.factors import gaussian_outputs
from latentia.factors.kl import closed_kl, closed_kl_entries, has_closed_kl
from latentia.factors.normal import Covariance
from latentia.noise import BoundNoise, GivenNoise, Noise
from tests.oracles.linear_gaussian import as_multivariate, built, sigma_points

COVARIANCES: list[Covariance] = [lt.Diagonal(), lt.Full(), lt.LowRank(1)]
PRECISION = {"rtol": 1e-10, "atol": 1e-10}
CHANCE = 4.3  # standard errors: exceeded less than once in 50,000


def gaussian(covariance: Covariance, size: int, seed: int) -> Distribution:
    outputs = gaussian_outputs(size, covariance)
    net = built(lambda: lt.MLP(2, outputs), seed)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lt.Normal(net, given="x", covariance=covariance, event=size).double().distribution(x)


def textbook_kl(q: MultivariateNormal, p: MultivariateNormal) -> Tensor:
    """1/2 [tr(P^-1 Q) + (m - mu)^T P^-1 (m - mu) - D + log det P / det Q], row by row."""
    rows = []
    for mean_q, cov_q, mean_p, cov_p in zip(
        q.mean, q.covariance_matrix, p.mean, p.covariance_matrix, strict=True
    ):
        inverse = torch.linalg.inv(cov_p)
        distance = (mean_p - mean_q) @ inverse @ (mean_p - mean_q)
        log_ratio = torch.logdet(cov_p) - torch.logdet(cov_q)
        rows.append(0.5 * (torch.trace(inverse @ cov_q) + distance - len(mean_q) + log_ratio))
    return torch.stack(rows)


@pytest.mark.parametrize("one", COVARIANCES, ids=repr)
@pytest.mark.parametrize("other", COVARIANCES, ids=repr)
def test_gaussian_kl_is_the_textbook_formula_and_the_mean_log_ratio(
    one: Covariance, other: Covariance
) -> None:
    q, p = gaussian(one, 3, 0), gaussian(other, 3, 1)
    kl = closed_kl(q, p)
    as_q, as_p = as_multivariate(q), as_multivariate(p)
    torch.testing.assert_close(kl, textbook_kl(as_q, as_p), **PRECISION)
    torch.testing.assert_close(kl, kl_divergence(as_q, as_p), **PRECISION)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        z = q.sample((20_000,))
    ratios = q.log_prob(z) - p.log_prob(z)
    assert ((ratios.mean(0) - kl).abs() < CHANCE * ratios.std(0) / math.sqrt(len(z))).all()


def test_diagonal_kl_to_the_standard_normal_by_entry() -> None:
    q = gaussian(lt.Diagonal(), 3, 0)
    mu, sigma = q.mean, q.base_dist.scale
    expected = 0.5 * (sigma.square() + mu.square() - 1) - sigma.log()
    prior = lt.StandardNormal(3).double().distribution()
    torch.testing.assert_close(closed_kl_entries(q, prior), expected, **PRECISION)
    torch.testing.assert_close(closed_kl(q, prior), expected.sum(-1), **PRECISION)


def test_kl_of_an_image_of_gaussians_sums_over_all_its_entries() -> None:
    net = built(lambda: lt.MLP(2, (2, 2, 3)), 0)
    q = lt.Normal(net, given="x").double().distribution(torch.ones(4, 2).double())
    prior = lt.StandardNormal((1, 2, 3)).double().distribution()
    torch.testing.assert_close(closed_kl(q, prior), kl_divergence(q, prior), **PRECISION)


@pytest.mark.parametrize("family", [lt.Bernoulli, lt.Categorical])
def test_discrete_kl_is_the_sum_over_states(family: type[lt.Factor]) -> None:
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, p = (family(built(lambda: lt.MLP(2, 3), seed), given="x").double().distribution(x) for seed in (0, 1))
    if family is lt.Bernoulli:
        states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 3).unsqueeze(1)
    else:
        states = torch.arange(3).unsqueeze(1)
    log_q, log_p = q.log_prob(states), p.log_prob(states)
    assert has_closed_kl(q, p)
    torch.testing.assert_close(closed_kl(q, p), (log_q.exp() * (log_q - log_p)).sum(0), **PRECISION)


def test_a_unit_normal_is_minus_half_the_squared_error_plus_a_constant() -> None:
    factor = lt.Normal(built(lambda: lt.MLP(2, 5), 0), given="z", scale=1.0).double()
    z, x = (torch.randn(4, d, generator=torch.Generator().manual_seed(d)).double() for d in (2, 5))
    squared_error = (x - factor.net(z)).square().sum(-1)
    torch.testing.assert_close(
        factor.log_prob(x, z), -0.5 * squared_error - 2.5 * math.log(2 * math.pi), **PRECISION
    )


def test_a_linear_map_of_a_gaussian_is_gaussian_with_mean_A_mu_plus_b_and_covariance_A_S_At() -> None:
    z_factor = lt.Normal(built(lambda: lt.Constant(5), 0), covariance=lt.Full()).double()
    with torch.no_grad():
        z_factor.net.value.copy_(torch.tensor([0.5, -1.0, 0.3, 0.8, -0.7]))
    net = built(lambda: lt.MLP(2, 3), 1)
    p = lt.Joint(z=z_factor, x=lt.Deterministic(net, given="z"))
    weight, bias = (parameter.detach() for parameter in net.parameters())
    z = z_factor.distribution()
    mean, covariance = weight @ z.mean + bias, weight @ z.covariance_matrix @ weight.mT
    noise, samples = sigma_points(lambda source, size: p.complete({}, source, size, batch=1))
    x = p.complete({}, noise, samples, batch=1).values["x"][:, 0]
    torch.testing.assert_close(x.mean(0), mean, **PRECISION)
    torch.testing.assert_close((x - mean).mT @ (x - mean) / samples, covariance, **PRECISION)
    x = p.complete({}, Noise(0, dtype=torch.float64), 4000, batch=1).values["x"][:, 0]
    for direction in torch.eye(3, dtype=torch.float64):  # Gaussian: each projection's characteristic function
        seen = torch.exp(1j * (x @ direction)).mean()
        known = torch.exp(1j * (direction @ mean) - 0.5 * direction @ covariance @ direction)
        assert (seen - known).abs() < CHANCE * math.sqrt(2 / 4000)


def test_dz_dmu_is_one_and_dz_dsigma_is_the_noise() -> None:
    mu = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    sigma = (torch.rand(4, 3, generator=torch.Generator().manual_seed(1)).double() + 0.5).requires_grad_()
    raw = torch.cat([mu, torch.log(sigma)], dim=1)
    factor = lt.Normal(torch.nn.Identity(), given="h", link="exp", floor=0.0, event=3)
    epsilon = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(2)).double()
    z = factor.draw(BoundNoise(GivenNoise({"z.0": epsilon}), "z", (1, 4)), raw).value
    d_mu, d_sigma = torch.autograd.grad(z.sum(), (mu, sigma))
    torch.testing.assert_close(d_mu, torch.ones_like(mu), **PRECISION)
    torch.testing.assert_close(d_sigma, epsilon[0], **PRECISION)
