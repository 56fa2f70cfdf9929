"""Mutual information, marginal KL and total correlation against closed forms, sums and integrals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import latentia as lt
from latentia.diagnostics import Information, information
from latentia.diagnostics._posteriors import RowPosteriors
from latentia.diagnostics._rows import latents_of

from .gaussian_q import gaussian_kl, gaussian_q, normal_grid

GAIN = torch.tensor([[0.9, 0.3], [0.7, -0.4]], dtype=torch.float64)
FULL = torch.tensor([[0.6, 0.0], [-0.3, 0.5]], dtype=torch.float64)
DIAGONAL = torch.diag(torch.tensor([0.6, 0.5], dtype=torch.float64))


def near(quantity: tuple[float, float], truth: float, slack: float = 0.0) -> bool:
    value, error = quantity
    return abs(value - truth) <= 4.5 * error + slack


def adds_up(found: Information) -> bool:
    """Whether the parts are those of the whole."""
    assert found.total_correlation is not None and found.dimension_kl is not None
    parts = found.total_correlation.value + sum(part.value for part in found.dimension_kl)
    whole = found.mutual_information.value + found.marginal_kl.value
    return math.isclose(found.kl.value, whole, abs_tol=1e-9) and math.isclose(
        found.marginal_kl.value, parts, abs_tol=1e-9
    )


@pytest.mark.parametrize("full", [True, False])
def test_all_parts_are_those_of_the_gaussian_aggregated_posterior(full: bool) -> None:
    tril = FULL if full else DIAGONAL
    found = information(gaussian_q(GAIN, tril, full), normal_grid(30), samples=4)
    covariance = GAIN @ GAIN.mT + tril @ tril.mT
    marginal = gaussian_kl(covariance)
    entropy_gain = 0.5 * float(torch.logdet(covariance) - torch.logdet(tril @ tril.mT))
    correlation = 0.5 * float(covariance.diagonal().log().sum() - torch.logdet(covariance))
    assert found.marginal_kl.error < 0.02 and found.mutual_information.error < 0.02
    assert near(found.marginal_kl, marginal, 0.01)
    assert near(found.mutual_information, entropy_gain, 0.01)
    assert found.total_correlation is not None and near(found.total_correlation, correlation, 0.01)
    assert found.dimension_kl is not None
    for part, variance in zip(found.dimension_kl, covariance.diagonal(), strict=True):
        assert near(part, gaussian_kl(variance.reshape(1, 1)), 0.01)
    assert adds_up(found) and found.factorises
    assert [str(unit) for unit in found.units] == ["z[0]", "z[1]"]


def test_it_is_exact_for_the_rows_at_hand() -> None:
    gain, scale = 1.7, 0.4
    x = torch.tensor([[-1.0], [-0.2], [0.1], [0.5], [2.0]], dtype=torch.float64)
    model = gaussian_q(torch.tensor([[gain]]).double(), torch.tensor([[scale]]).double(), full=False)
    found = information(model, x, samples=20_000)
    z = torch.linspace(-8, 10, 40_001, dtype=torch.float64)
    own = Normal(gain * x, torch.tensor(scale, dtype=torch.float64)).log_prob(z)  # [N, grid]
    log_q = torch.logsumexp(own, 0) - math.log(len(x))
    log_p = Normal(torch.zeros((), dtype=torch.float64), 1.0).log_prob(z)
    marginal = float(torch.trapezoid(log_q.exp() * (log_q - log_p), z))
    shared = float(torch.trapezoid(own.exp() * (own - log_q), z).mean())
    assert found.marginal_kl.error < 0.01
    assert near(found.marginal_kl, marginal) and near(found.mutual_information, shared)
    assert near(found.kl, float(lt.diagnostics.total_kl(model, x)))


def test_of_ppca_it_is_the_capacity_of_its_gaussian_channel() -> None:
    model = lt.models.ppca(event=5, latent=2, seed=3).double()
    affine = model.p["x"].affine(None)
    assert affine is not None
    weight, scale = affine.weights[0].detach(), affine.scale.detach()
    inner = torch.eye(2, dtype=torch.float64) + weight.mT @ weight / scale.square().mean()
    found = information(model, model.sample(900, seed=1), samples=3)
    assert near(found.mutual_information, 0.5 * float(torch.logdet(inner)), 0.08)
    assert near(found.marginal_kl, 0.0, 0.02) and adds_up(found)


def test_discrete_latents_are_summed_over() -> None:
    model = lt.models.gaussian_mixture(event=2, components=3, seed=2).double()
    x = 2 * torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    posterior = model.posterior(x).probs  # [N, K]
    prior, mean = model.p["k"].distribution().probs.detach(), posterior.mean(0)
    found = information(model, x)
    kl = torch.xlogy(posterior, posterior / prior).sum(1).mean()
    marginal = torch.xlogy(mean, mean / prior).sum()
    assert found.kl == (pytest.approx(float(kl)), 0.0)
    assert found.marginal_kl == (pytest.approx(float(marginal)), 0.0)
    assert found.mutual_information.value == pytest.approx(float(kl - marginal))
    assert found.total_correlation is not None and abs(found.total_correlation.value) < 1e-9
    assert adds_up(found)


def bits(size: int = 3) -> tuple[lt.Model, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder, encoder = lt.MLP(size, 4), lt.MLP(4, size)
        p = lt.Joint(h=lt.Bernoulli(lt.Constant(size)), x=lt.Normal(decoder, given="h", scale=1.0))
        model = lt.Model(p, lt.Joint(h=lt.Bernoulli(encoder, given="x"))).double()
        return model, 3 * torch.randn(40, 4, dtype=torch.float64)


def test_sampling_agrees_with_the_sum_over_states(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = bits()
    exact = information(model, x)
    monkeypatch.setattr("latentia.diagnostics._aggregate.LARGEST_EVENT", 0)
    drawn = information(model, x, samples=500)
    assert exact.kl.error == 0.0 and drawn.kl.error > 0
    assert near(drawn.marginal_kl, exact.marginal_kl.value)
    assert near(drawn.mutual_information, exact.mutual_information.value)
    assert exact.total_correlation is not None and drawn.total_correlation is not None
    assert exact.total_correlation.value > 0.001
    assert near(drawn.total_correlation, exact.total_correlation.value)


def test_few_rows_in_the_mixture_make_the_marginal_kl_too_small() -> None:
    model, x = gaussian_q(3 * GAIN, DIAGONAL, full=False), normal_grid(20)
    whole = information(model, x, samples=4)
    few = [information(model, x, samples=4, mixture=20, seed=seed) for seed in range(4)]
    for one in few:
        assert one.mixture == 20 and "too small" in one.bias
        assert one.marginal_kl.value < whole.marginal_kl.value - 0.05
        assert one.mutual_information.value > whole.mutual_information.value + 0.05
    assert "too large" in whole.bias and whole.mutual_information.value < math.log(400)
    many = information(model, x, samples=4, mixture=380)
    assert near(many.marginal_kl, whole.marginal_kl.value, 0.02)


def test_rows_that_q_tells_apart_reach_the_ceiling_and_are_told() -> None:
    found = information(gaussian_q(50 * GAIN, DIAGONAL, full=False), normal_grid(6))
    assert found.mutual_information.value == pytest.approx(math.log(36), abs=0.1)
    assert "ceiling" in found.caution and "Take more rows" in repr(found)


def test_codes_and_numbers_together_follow_bayes_rule() -> None:
    model = lt.models.mixture_of_factor_analysers(event=4, components=3, latent=2, seed=1).double()
    x = model.sample(60, seed=0)
    found = information(model, x, samples=4)
    assert [str(unit) for unit in found.units] == ["k", "z[0]", "z[1]"]
    assert adds_up(found) and found.mutual_information.value > 0.3
    values = {"x": x}
    q = RowPosteriors(model, values, latents_of(model, values))
    z = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    points = {"k": torch.zeros(3001, 1, dtype=torch.int64), "z": torch.stack([z, z], -1).unsqueeze(1)}
    entries = q.entries(points)
    assert entries is not None
    mass = torch.trapezoid(entries[..., 1:].exp(), z, dim=0)
    torch.testing.assert_close(mass, torch.ones_like(mass))


def test_units_without_marginals_leave_their_parts_out() -> None:
    p = lt.Joint(
        b=lt.StandardNormal(2),
        a=lt.Normal(lt.MLP(2, 4), given="b"),
        x=lt.Normal(lt.MLP(2, 3), given="a", scale=1.0),
    )
    q = lt.Joint(a=lt.Normal(lt.MLP(3, 4), given="x"), b=lt.Normal(lt.MLP(2, 4), given="a"))
    found = information(lt.Model(p, q), torch.randn(20, 3))
    assert found.total_correlation is None and found.dimension_kl is None and not found.factorises
    assert math.isfinite(found.mutual_information.value)
    assert "total correlation" not in repr(found)


def test_what_cannot_be_told_is_refused_in_words() -> None:
    model, x = bits()
    with pytest.raises(ValueError, match="at least two rows"):
        information(model, x[:1])
    with pytest.raises(ValueError, match="samples must be at least 1"):
        information(model, x, samples=0)
    with pytest.raises(ValueError, match="no latent variables"):
        information(lt.Model(lt.Joint(x=lt.Normal(lt.Constant(8)))), torch.randn(5, 4))
    with pytest.raises(ValueError, match="no evidence"):
        information(lt.models.autoencoder(event=4, latent=2), x.float())
    given = lt.Joint(z=lt.Normal(lt.MLP(1, 4), given="y"), x=lt.Normal(lt.MLP(2, 3), given="z", scale=1.0))
    conditional = lt.Model(given, lt.Joint(z=lt.Normal(lt.MLP(3, 4), given="x")))
    with pytest.raises(ValueError, match="depends on 'y'"):
        information(conditional, {"x": torch.randn(5, 3), "y": torch.randn(5, 1)})
    with pytest.raises(ValueError, match="nothing is latent"):
        information(model, {"x": x, "h": torch.zeros(40, 3, dtype=torch.float64)})
