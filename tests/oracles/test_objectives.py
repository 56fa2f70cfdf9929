"""The laws of the objectives, on models with known answers, in float64.

Expectations over q are exact, by sigma points (see `sigma_points`), unless a test says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

import latentia as lt
from latentia.factors.kl import closed_kl, closed_kl_entries
from latentia.factors.normal import Covariance
from latentia.noise import BoundNoise, GivenNoise, Noise
from latentia.objectives.elbo import analytic_kl
from tests.oracles.linear_gaussian import LinearGaussian, built, sigma_points

COVARIANCES: list[Covariance] = [lt.Diagonal(), lt.Full(), lt.LowRank(1)]
PRECISION = {"rtol": 1e-10, "atol": 1e-10}


def exact_elbo(p: lt.Joint, q: lt.Joint, values: dict[str, Tensor], **options: object) -> lt.Bound:
    noise, samples = sigma_points(lambda source, size: q.complete(values, source, size))
    return lt.elbo(p, q, values, noise, samples=samples, **options)


@pytest.mark.parametrize("covariance", COVARIANCES, ids=repr)
@pytest.mark.parametrize("analytic", [True, False])
def test_elbo_is_the_evidence_less_the_kl_to_the_posterior(covariance: Covariance, analytic: bool) -> None:
    model = LinearGaussian.make()
    q = model.q(covariance)
    torch.testing.assert_close(
        exact_elbo(model.p, q, model.values, analytic=analytic).value, model.bound(q), **PRECISION
    )


@pytest.mark.parametrize("covariance", COVARIANCES, ids=repr)
def test_the_entropy_form_and_the_reconstruction_less_kl_form_agree(covariance: Covariance) -> None:
    model = LinearGaussian.make()
    q = model.q(covariance)
    noise, samples = sigma_points(lambda source, size: q.complete(model.values, source, size))
    done = q.complete(model.values, noise, samples)
    entropy_form = model.p.log_prob(done.values).mean(0) + done.distributions["z"].entropy()
    bound = lt.elbo(model.p, q, model.values, noise, samples=samples)
    torch.testing.assert_close(bound.value, entropy_form, **PRECISION)
    torch.testing.assert_close(bound.value, bound.terms["reconstruction"] - bound.terms["kl"], **PRECISION)


def test_at_the_posterior_the_elbo_is_the_evidence_whatever_the_noise() -> None:
    model = LinearGaussian.make()
    for objective in (lambda *a: lt.elbo(*a, analytic=False), lambda *a: lt.iwae(*a, samples=3)):
        value = objective(model.p, model.exact_q(), model.values, Noise(5, dtype=torch.float64)).value
        torch.testing.assert_close(value, model.evidence(), **PRECISION)


def test_expected_log_joint_may_exceed_the_evidence() -> None:
    model = LinearGaussian.make(scale=0.01)
    q = model.exact_q()
    bound = exact_elbo(model.p, q, model.values)
    entropy = q["z"].distribution(model.x).entropy()
    assert (entropy < 0).all()
    assert (bound.value - entropy > model.evidence()).all()


@pytest.mark.parametrize("covariance", COVARIANCES, ids=repr)
@pytest.mark.parametrize("analytic", [True, False])
def test_the_reparametrised_gradient_is_the_exact_gradient(covariance: Covariance, analytic: bool) -> None:
    model = LinearGaussian.make()
    q = model.q(covariance)
    parameters = list(q.parameters())
    exact = torch.autograd.grad(model.bound(q).sum(), parameters)
    bound = exact_elbo(model.p, q, model.values, analytic=analytic)
    ours = torch.autograd.grad(bound.surrogate.sum(), parameters)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("analytic", [True, False])
def test_the_gradient_for_the_decoder_is_the_exact_gradient(analytic: bool) -> None:
    model = LinearGaussian.make()
    q = model.q()
    leaves = [tensor.clone().requires_grad_() for tensor in (model.weight, model.bias)]
    formula = replace(model, weight=leaves[0], bias=leaves[1])
    exact = torch.autograd.grad(formula.bound(q).sum(), leaves)
    bound = exact_elbo(model.p, q, model.values, analytic=analytic)
    ours = torch.autograd.grad(bound.surrogate.sum(), list(model.p["x"].net.parameters()))
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_with_the_sample_detached_the_gradient_loses_all_that_came_through_it() -> None:
    model = LinearGaussian.make()
    q = model.q()
    parameters = list(q.parameters())
    noise, samples = sigma_points(lambda source, size: q.complete(model.values, source, size))
    done = q.complete(model.values, noise, samples)
    z = done.values["z"].detach()
    detached = {**model.values, "z": z}
    exact = torch.autograd.grad(model.bound(q).sum(), parameters)

    log_ratio = (model.p.log_prob(detached) - q.log_prob(detached)).mean(0).sum()
    monte_carlo = torch.autograd.grad(log_ratio, parameters)
    for gradient, whole in zip(monte_carlo, exact, strict=True):  # the score has mean zero: all is lost
        torch.testing.assert_close(gradient, torch.zeros_like(whole), **PRECISION)
        assert whole.abs().max() > 0.1

    reconstruction = model.p["x"].log_prob(model.x, done.values["z"]).mean(0).sum()
    bias = torch.autograd.grad(reconstruction, parameters, retain_graph=True)
    prior = model.p["z"].distribution()
    with_closed_kl = torch.autograd.grad(-closed_kl(q["z"].distribution(model.x), prior).sum(), parameters)
    for gradient, whole, lost in zip(with_closed_kl, exact, bias, strict=True):  # the decoder's part is lost
        torch.testing.assert_close(gradient - whole, -lost, **PRECISION)
        assert lost.abs().max() > 0.1


class Detached(lt.Normal):
    """A Gaussian that draws without a gradient."""

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return super().transform(noise, distribution).detach()


@pytest.mark.parametrize("objective", [lt.elbo, lt.iwae])
@pytest.mark.parametrize("family", ["detached", "categorical", "bernoulli"])
def test_a_q_that_cannot_be_reparametrised_is_refused_by_name(objective: object, family: str) -> None:
    nets = [built(lambda: lt.MLP(3, 4), 0), built(lambda: lt.MLP(3, 2), 0)]
    k, decoder = built(lambda: lt.MLP(2, 3), 1), built(lambda: lt.Table(4, 3), 1)
    pairs = {
        "detached": (lt.StandardNormal(2), lt.Normal(k, given="v", scale=1.0), Detached(nets[0], given="x")),
        "categorical": (
            lt.Categorical(4),
            lt.Normal(decoder, given="v", scale=1.0),
            lt.Categorical(nets[0], given="x"),
        ),
        "bernoulli": (
            lt.Bernoulli(lt.Constant(2)),
            lt.Normal(k, given="v", scale=1.0),
            lt.Bernoulli(nets[1], given="x"),
        ),
    }
    prior, likelihood, posterior = pairs[family]
    p, q = lt.Joint(v=prior, x=likelihood).double(), lt.Joint(v=posterior).double()
    model = lt.Model(p, q)
    values, noise = {"x": torch.zeros(2, 3, dtype=torch.float64)}, Noise(0, dtype=torch.float64)
    few = "" if family == "detached" else "enumerate 'v', "
    with pytest.raises(
        ValueError, match=rf"q draws 'v' from \w+, .*biased gradient: {few}use .*vimco.*relaxed"
    ):
        objective(model.p, model.q, values, noise)  # type: ignore[operator]
    with torch.no_grad():
        assert objective(model.p, model.q, values, noise).value.isfinite().all()  # type: ignore[operator]
    q.requires_grad_(False)
    assert objective(model.p, model.q, values, noise).value.isfinite().all()  # type: ignore[operator]


@pytest.mark.parametrize("objective", [lt.elbo, lt.iwae])
def test_minibatch_gradients_average_to_the_gradient_of_all_rows(objective: object) -> None:
    model = LinearGaussian.make(rows=12)
    q = model.q()
    parameters = [*model.p.parameters(), *q.parameters()]
    epsilon = torch.randn(5, 12, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def gradient(rows: Tensor) -> list[Tensor]:
        noise = GivenNoise({"z.0": epsilon[:, rows]})
        bound = objective(model.p, q, {"x": model.x[rows]}, noise, samples=5)  # type: ignore[operator]
        return list(torch.autograd.grad(bound.surrogate.mean(), parameters))

    whole = gradient(torch.arange(12))
    batches = [
        gradient(rows) for rows in torch.randperm(12, generator=torch.Generator().manual_seed(4)).split(3)
    ]
    for index, expected in enumerate(whole):
        torch.testing.assert_close(torch.stack([b[index] for b in batches]).mean(0), expected, **PRECISION)


def test_samples_average_single_draws() -> None:
    model = LinearGaussian.make()
    q = model.q()
    epsilon = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for analytic in (True, False):
        whole = lt.elbo(model.p, q, model.values, GivenNoise({"z.0": epsilon}), samples=6, analytic=analytic)
        single = [
            lt.elbo(
                model.p, q, model.values, GivenNoise({"z.0": epsilon[s : s + 1]}), analytic=analytic
            ).value
            for s in range(6)
        ]
        torch.testing.assert_close(whole.value, torch.stack(single).mean(0), **PRECISION)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        lt.elbo(model.p, q, model.values, Noise(), samples=0)


def test_iwae_with_one_sample_is_the_elbo_by_monte_carlo() -> None:
    model = LinearGaussian.make()
    q = model.q()
    one = lt.iwae(model.p, q, model.values, Noise(0, dtype=torch.float64), samples=1)
    other = lt.elbo(model.p, q, model.values, Noise(0, dtype=torch.float64), analytic=False)
    torch.testing.assert_close(one.value, other.value, **PRECISION)


def test_iwae_never_decreases_in_k() -> None:
    """L_K+1 is at least the mean of L_K over the subsets of its own draws: Burda et al. (2016), theorem 1."""
    model = LinearGaussian.make()
    q = model.q()
    for k in (1, 2, 5):
        epsilon = torch.randn(k + 1, 4, 2, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        more = lt.iwae(model.p, q, model.values, GivenNoise({"z.0": epsilon}), samples=k + 1).value
        subsets = [torch.cat([epsilon[:i], epsilon[i + 1 :]]) for i in range(k + 1)]
        fewer = [lt.iwae(model.p, q, model.values, GivenNoise({"z.0": e}), samples=k).value for e in subsets]
        assert (more >= torch.stack(fewer).mean(0)).all()


def test_iwae_tends_to_the_evidence() -> None:
    model = LinearGaussian.make()
    q = model.q()
    gaps = []
    for k in (1, 10, 1000):
        draws = [
            lt.iwae(model.p, q, model.values, Noise(seed, dtype=torch.float64), samples=k).value.detach()
            for seed in range(30)
        ]
        gaps.append((model.evidence() - torch.stack(draws)).mean(0))
    assert (gaps[0] > gaps[1]).all() and (gaps[1] > gaps[2].abs()).all()
    assert gaps[2].abs().max() < 0.05


def test_without_kl_every_step_shrinks_the_scale_of_a_gaussian_q() -> None:
    """With beta = 0, d surrogate / d log sigma_d = -sigma_d^2 |W_d|^2 / s^2: zero at no scale but 0."""
    model = LinearGaussian.make()
    q = lt.Joint(z=lt.Normal(lt.Constant(4), link="exp", floor=0.0)).double()
    raw = q["z"].net.value
    for log_scale in (1.0, 0.0, -3.0):
        raw.data[2:] = log_scale
        bound = exact_elbo(model.p, q, model.values, beta=0.0)
        (gradient,) = torch.autograd.grad(bound.surrogate.mean(), raw)
        expected = -math.exp(2 * log_scale) * model.weight.square().sum(0) / model.scale**2
        torch.testing.assert_close(gradient[2:], expected, **PRECISION)


def test_without_kl_a_gaussian_q_loses_its_scale_and_with_it_keeps_the_posteriors() -> None:
    model = LinearGaussian.make()
    known = torch.linalg.inv(model.posterior().covariance_matrix[0]).diagonal().rsqrt()
    for beta, (low, high) in {0.0: (0.0, 0.02), 1.0: (0.999, 1.001)}.items():
        q = lt.Joint(z=lt.Normal(lt.Constant(4), link="exp", floor=0.0)).double()
        optimiser = torch.optim.Rprop(q.parameters(), lr=0.05, maximize=True)
        for _ in range(100):
            optimiser.zero_grad()
            exact_elbo(model.p, q, model.values, beta=beta).surrogate.mean().backward()
            optimiser.step()
        ratio = q["z"].net.value.detach()[2:].exp() / known
        assert ((low < ratio) & (ratio < high)).all()


def test_beta_and_free_bits_change_the_surrogate_alone() -> None:
    model = LinearGaussian.make()
    q = model.q()
    plain = exact_elbo(model.p, q, model.values)
    weighed = exact_elbo(model.p, q, model.values, beta=torch.tensor(4.0))
    torch.testing.assert_close(weighed.value, plain.value, **PRECISION)
    torch.testing.assert_close(
        weighed.surrogate, plain.terms["reconstruction"] - 4 * plain.terms["kl"], **PRECISION
    )
    assert torch.equal(plain.surrogate, plain.value)


def test_free_bits_charge_each_dimension_at_least_the_floor() -> None:
    model = LinearGaussian.make()
    q = model.q()
    entries = closed_kl_entries(q["z"].distribution(model.x), model.p["z"].distribution()).mean(0)
    floor = float(entries.detach().mean())
    assert entries.min() < floor < entries.max()
    bound = exact_elbo(model.p, q, model.values, free_bits=floor)
    expected = bound.terms["reconstruction"].mean() - entries.clamp(min=floor).sum()
    torch.testing.assert_close(bound.surrogate.mean(), expected, **PRECISION)
    torch.testing.assert_close(bound.value, exact_elbo(model.p, q, model.values).value, **PRECISION)
    high = exact_elbo(model.p, q, model.values, free_bits=100.0)
    ours = torch.autograd.grad(high.surrogate.mean(), list(q.parameters()), retain_graph=True)
    alone = torch.autograd.grad(high.terms["reconstruction"].mean(), list(q.parameters()))
    for one, other in zip(ours, alone, strict=True):
        torch.testing.assert_close(one, other, **PRECISION)


def hierarchy(bottom_up: bool) -> tuple[lt.Joint, lt.Joint]:
    """p(z2) p(z1 | z2) p(x | z1), and q from the bottom up or from the top down."""
    nets = [built(lambda: lt.MLP(2, 2), seed) for seed in range(5)]
    deep = built(lambda: lt.MLP(4, 2), 7)
    p = lt.Joint(
        z2=lt.StandardNormal(2),
        z1=lt.Normal(nets[0], given="z2", scale=0.8),
        x=lt.Normal(nets[1], given="z1", scale=0.6),
    )
    if bottom_up:
        q = lt.Joint(
            z1=lt.Normal(nets[2], given="x", scale=0.5), z2=lt.Normal(nets[3], given="z1", scale=0.9)
        )
    else:
        q = lt.Joint(
            z2=lt.Normal(nets[2], given="x", scale=0.5), z1=lt.Normal(deep, given=("x", "z2"), scale=0.9)
        )
    return p.double(), q.double()


@pytest.mark.parametrize(("bottom_up", "closed"), [(True, {"z2"}), (False, {"z1", "z2"})])
def test_a_closed_kl_is_used_exactly_where_no_parent_in_p_descends_from_it_in_q(
    bottom_up: bool, closed: set[str]
) -> None:
    p, q = hierarchy(bottom_up)
    values = {"x": torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    assert set(analytic_kl(p, q, q.complete(values, Noise(0, dtype=torch.float64)))) == closed
    analytic, monte_carlo = (exact_elbo(p, q, values, analytic=switch) for switch in (True, False))
    torch.testing.assert_close(analytic.value, monte_carlo.value, **PRECISION)
    assert set(analytic.terms) == {"reconstruction", "kl", "kl(z1)", "kl(z2)"}
    torch.testing.assert_close(
        analytic.terms["kl"], analytic.terms["kl(z1)"] + analytic.terms["kl(z2)"], **PRECISION
    )


def test_the_switch_to_monte_carlo_changes_draws_and_not_means() -> None:
    model = LinearGaussian.make()
    q = model.q()
    one, other = (
        lt.elbo(model.p, q, model.values, Noise(0, dtype=torch.float64), analytic=switch).value
        for switch in (True, False)
    )
    assert not torch.allclose(one, other)


def test_with_nothing_latent_the_bound_is_the_exact_log_likelihood() -> None:
    model = LinearGaussian.make()
    values = {**model.values, "z": torch.zeros(4, 2, dtype=torch.float64)}
    for q in (model.q(), None):
        bound = lt.elbo(model.p, q, values, Noise())
        assert bound.direction == "exact"
        torch.testing.assert_close(bound.value, model.p.log_prob(values), **PRECISION)
    assert lt.iwae(model.p, model.q(), values, Noise()).direction == "exact"


def test_directions_say_on_which_side_a_bound_is() -> None:
    model = LinearGaussian.make()
    assert lt.elbo(model.p, model.q(), model.values, Noise(dtype=torch.float64)).direction == "lower"
    assert lt.iwae(model.p, model.q(), model.values, Noise(dtype=torch.float64)).direction == "lower"


def test_an_autoencoder_reconstructs_and_bounds_nothing() -> None:
    model = lt.models.autoencoder(event=3, latent=2, hidden=(4,))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    bound = lt.elbo(model.p, model.q, {"x": x}, Noise())
    assert bound.direction == "none"
    assert set(bound.terms) == {"reconstruction"}
    z = model.q["z"].value(x)
    torch.testing.assert_close(bound.value, model.p["x"].log_prob(x, z))


def test_q_equal_to_the_prior_gives_the_mean_of_logs_and_iwae_the_log_of_the_mean() -> None:
    model = LinearGaussian.make()
    q = lt.Joint(z=lt.StandardNormal(2)).double()
    epsilon = torch.randn(50, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_p = model.p["x"].log_prob(model.x, epsilon)
    noise = GivenNoise({"z.0": epsilon})
    bound = lt.elbo(model.p, q, model.values, noise, samples=50)
    torch.testing.assert_close(bound.value, log_p.mean(0), **PRECISION)
    torch.testing.assert_close(bound.terms["kl"], torch.zeros(4, dtype=torch.float64), **PRECISION)
    naive = lt.iwae(model.p, q, model.values, noise, samples=50).value
    torch.testing.assert_close(naive, log_p.logsumexp(0) - math.log(50), **PRECISION)


def test_nothing_observed_has_no_evidence() -> None:
    p, q = lt.Joint(z=lt.StandardNormal(2)), lt.Joint(z=lt.Normal(lt.MLP(3, 4), given="x"))
    with pytest.raises(ValueError, match="nothing is observed"):
        lt.elbo(p, q, {"x": torch.zeros(2, 3)}, Noise())
