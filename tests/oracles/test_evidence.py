"""Estimators of the evidence against exact answers: sides, unbiasedness, errors that cover, warnings."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.evidence.ais import SCHEDULES, Annealing, ais, reverse_ais
from latentia.evidence.annealing import betas
from latentia.evidence.bdmc import simulated
from latentia.evidence.importance import streamed
from latentia.evidence.pareto import pareto_k, tail_size, threshold

ROWS = 4000


def gaussian(latent: int = 2, entries: int = 3, scale: float = 0.7) -> lt.Model:
    """A linear-Gaussian model with a q that is its posterior, a little too wide."""
    p = lt.Joint(z=lt.StandardNormal(latent), x=lt.Normal(lt.MLP(latent, entries), given="z", scale=scale))
    p = p.double()
    net = p["x"].net
    assert isinstance(net, lt.MLP)
    weight, bias = net.layers[0].weight.detach(), net.layers[0].bias.detach()
    precision = torch.eye(latent).double() + weight.T @ weight / scale**2
    q = lt.Joint(z=lt.Normal(lt.MLP(entries, latent), given="x", scale=1.15 * precision.diagonal().rsqrt()))
    q = q.double()
    encoder = q["z"].net
    assert isinstance(encoder, lt.MLP)
    gain = torch.linalg.solve(precision, weight.T) / scale**2
    with torch.no_grad():
        encoder.layers[0].weight.copy_(gain)
        encoder.layers[0].bias.copy_(-gain @ bias)
    return lt.Model(p, q)


def binary() -> lt.Model:
    """Four binary latents under a sigmoid belief net, with a rough q."""
    p = lt.Joint(h=lt.Bernoulli(lt.Constant(4)), x=lt.Bernoulli(lt.MLP(4, 5), given="h")).double()
    net = p["x"].net
    assert isinstance(net, lt.MLP)
    with torch.no_grad():
        net.layers[0].weight.mul_(4)
    return lt.Model(p, lt.Joint(h=lt.Bernoulli(lt.MLP(5, 4), given="x")).double())


def mixed() -> lt.Model:
    """A code and a vector, linear-Gaussian given the code."""
    p = lt.Joint(
        k=lt.Categorical(3),
        z=lt.StandardNormal(2),
        x=lt.LinearNormal(3, 2, given=("k", "z"), states=3),
    ).double()
    q = lt.Joint(
        k=lt.Categorical(lt.MLP(3, 3), given="x"), z=lt.Normal(lt.MLP(6, 4), given=("x", "k"))
    ).double()
    return lt.Model(p, q)


MODELS = {"gaussian": gaussian, "binary": binary, "mixed": mixed}


def made(name: str) -> tuple[lt.Model, dict[str, Tensor], dict[str, Tensor]]:
    """A model, one row of its data repeated, and the latents that made it, repeated."""
    torch.manual_seed(3)
    with torch.random.fork_rng():
        model = MODELS[name]()
    values, truth = simulated(model, 1, lt.Noise(5, dtype=torch.float64))
    repeated = {name: value.expand(ROWS, *value.shape[1:]) for name, value in values.items()}
    return model, repeated, {name: value.expand(ROWS, *value.shape[1:]) for name, value in truth.items()}


def exact(model: lt.Model, values: dict[str, Tensor]) -> Tensor:
    return lt.Exact(model.p, model.latent).log_evidence(values).detach()


def mean_is_one(ratio: Tensor) -> None:
    """The mean of independent repetitions is 1 within 4 standard errors."""
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean()) - 1) < 4 * error + 1e-12
    assert error < 0.2  # or the test would say nothing


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["naive", "importance", "ais", "ais from q"])
def test_the_estimate_of_p_is_unbiased(name: str, method: str) -> None:
    model, values, _ = made(name)
    truth, noise = exact(model, values), lt.Noise(7, dtype=torch.float64)
    with torch.no_grad():
        if method.startswith("ais"):
            assert isinstance(model.q, lt.Joint)
            start = model.q if method == "ais from q" else model.p
            found = ais(model.p, start, values, noise, Annealing(8, 2, "sigmoidal", leapfrogs=3))
        else:
            q = model.p if method == "naive" else model.q
            assert q is not None
            found = streamed(model.p, q, values, noise, 20, 10).weighed()
    mean_is_one(torch.exp(found.value - truth))
    slack = 4 * float(found.value.std()) / math.sqrt(ROWS)
    assert float(found.value.mean()) <= float(truth[0]) + slack


@pytest.mark.parametrize("name", MODELS)
def test_the_backward_walk_gives_an_upper_bound(name: str) -> None:
    """E[1 / w] = 1 / p(x), over the exact draw too: each repetition has a row and latents of its own."""
    torch.manual_seed(3)
    model = MODELS[name]()
    noise = lt.Noise(11, dtype=torch.float64)
    values, truth = simulated(model, ROWS, noise)
    known = exact(model, values)
    with torch.no_grad():
        found = reverse_ais(model.p, model.p, values, truth, noise, Annealing(8, 2, "sigmoidal", leapfrogs=3))
    mean_is_one(torch.exp(known - found.value))
    difference = found.value - known
    assert float(difference.mean()) >= -4 * float(difference.std()) / math.sqrt(ROWS)


def test_the_importance_bound_rises_with_k_to_the_evidence() -> None:
    model, values, _ = made("gaussian")
    truth = float(exact(model, values)[0])
    assert model.q is not None
    means = []
    for samples in (1, 3, 10, 100):
        with torch.no_grad():
            noise = lt.Noise(1, dtype=torch.float64)
            found = streamed(model.p, model.q, values, noise, samples, 50).weighed()
        means.append(float(found.value.mean()))
    assert means == sorted(means)
    assert truth - means[0] > 0.01 > truth - means[-1] > -0.001


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_annealing_converges_with_the_number_of_distributions(schedule: str) -> None:
    torch.manual_seed(0)
    model = gaussian(latent=6, entries=12)
    values, truth = simulated(model, 60, lt.Noise(2, dtype=torch.float64))
    known, gaps = exact(model, values), []
    for count in (5, 25, 125):
        how, noise = Annealing(count, 8, schedule, leapfrogs=5), lt.Noise(3, dtype=torch.float64)
        with torch.no_grad():
            below = ais(model.p, model.p, values, noise, how).value - known
            above = reverse_ais(model.p, model.p, values, truth, noise, how).value - known
        error = 4 * float((above - below).std()) / math.sqrt(len(known))
        assert float(below.mean()) < error
        assert float(above.mean()) > -error
        gaps.append(float((above - below).mean()))
    assert gaps[0] > max(gaps[1], gaps[2]) + 0.2
    assert gaps[2] < 0.15


@pytest.mark.parametrize("latent, covers", [(2, True), (10, False)])
def test_error_bars_cover_or_the_warning_fires(latent: int, covers: bool) -> None:
    """95 % intervals of naive Monte Carlo on 1,000 repetitions: in ten dimensions they do not cover."""
    torch.manual_seed(1)
    model = gaussian(latent=latent, entries=8, scale=2.0 if covers else 0.2)
    values, _ = simulated(model, 1, lt.Noise(4, dtype=torch.float64))
    values = {name: value.expand(1000, *value.shape[1:]) for name, value in values.items()}
    truth = exact(model, values)
    with torch.no_grad():
        found = streamed(model.p, model.p, values, lt.Noise(6, dtype=torch.float64), 1000, 1000).weighed()
    covered = float(((found.value - truth).abs() < 1.96 * found.error).double().mean())
    estimate = lt.log_evidence(model, values["x"], "naive", 1000)
    if covers:
        assert float(found.k_hat.median()) < 0.5
        assert 0.92 <= covered <= 0.98
        assert not estimate.caution
    else:
        assert covered < 0.9
        assert estimate.caution


def test_the_bias_estimate_is_the_bias() -> None:
    model, values, _ = made("gaussian")
    assert model.q is not None
    with torch.no_grad():
        found = streamed(model.p, model.q, values, lt.Noise(9, dtype=torch.float64), 20, 20).weighed()
    difference = found.value - exact(model, values)
    error = float(difference.std()) / math.sqrt(ROWS)
    assert float(difference.mean()) < -5 * error
    assert float(difference.mean()) == pytest.approx(float(found.bias.mean()), abs=5 * error)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_k_hat_finds_the_shape_of_a_pareto_tail(shape: float) -> None:
    samples = 20_000
    uniform = torch.rand(samples, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_w = -shape * uniform.log()  # w = u^-k has a Pareto tail of shape k
    largest = log_w.topk(tail_size(samples) + 1, dim=0).values
    assert float(pareto_k(largest).mean()) == pytest.approx(shape, abs=0.05)


def test_k_hat_of_weights_that_do_not_vary_and_of_few() -> None:
    assert float(pareto_k(torch.zeros(100, 1))[0]) == -math.inf
    assert math.isnan(float(pareto_k(torch.randn(4, 1))[0]))
    assert threshold(10**6) == 0.7
    assert threshold(100) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["linear", "sigmoidal"])
def test_schedules_go_from_zero_to_one(schedule: str) -> None:
    path = betas(20, schedule)
    assert float(path[0]) == 0 and float(path[-1]) == 1
    assert bool((path.diff() > 0).all())


def test_naive_monte_carlo_fails_in_twenty_dimensions_and_says_so() -> None:
    torch.manual_seed(0)
    model = gaussian(latent=20, entries=40, scale=0.3)
    values, _ = simulated(model, 20, lt.Noise(0, dtype=torch.float64))
    estimate = lt.log_evidence(model, values["x"], "naive")
    assert estimate.direction == "lower"
    assert float(exact(model, values).mean()) - estimate.mean > 2
    assert "effective sample size" in estimate.caution


def test_bdmc_brackets_the_evidence_of_its_own_rows() -> None:
    torch.manual_seed(0)
    found = lt.bdmc(gaussian(latent=4, entries=8), 40, distributions=60, chains=4, leapfrogs=5)
    assert found.lower.direction == "lower" and found.upper.direction == "upper"
    assert -4 * found.gap_error < found.gap < 0.3
    assert "simulated from the model" in repr(found)
    assert found.gaps.shape == (40,) and float(found.gaps.mean()) == pytest.approx(found.gap)


def test_one_simulated_row_has_no_error() -> None:
    text = repr(lt.bdmc(gaussian(), 1, distributions=4, chains=2, leapfrogs=2))
    assert text.startswith("log p(x) of 1 row simulated") and "nan" not in text


def test_rows_that_a_model_made_can_be_given_back_to_it() -> None:
    """Grey images under a Normal likelihood leave the range of the pixels, and have a density there."""
    data = lt.load_data("digits")
    model = lt.models.vae(data=data, latent=2, hidden=(10,), seed=0)
    found = lt.bdmc(model, 6, distributions=10, chains=2, leapfrogs=2)
    assert found.x.shape == (6, 1, 8, 8) and float(found.x.max()) > 16
    again = lt.log_evidence(model, found.x, "ais", 2, distributions=10, leapfrogs=2)
    assert found.lower.dimensions == found.upper.dimensions == again.dimensions == 64
    assert float((again.values - found.lower.values).abs().max()) < 60  # nats, of the same scale: 64 pixels


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda m, x: lt.log_evidence(m, x, "ais", distributions=0), "distributions must be at least 1"),
        (lambda m, x: lt.log_evidence(m, x, "ais", distributions=2.5), "must be a whole number, got 2.5"),
        (lambda m, x: lt.log_evidence(m, x, "ais", schedule="cubic"), "schedule 'cubic' is unknown"),
        (lambda m, x: lt.log_evidence(m, x, "ais", start="p"), "start must be 'prior' or 'q'"),
        (lambda m, x: lt.log_evidence(m, x, "ais", leapfrog=3), "has no option 'leapfrog'.*leapfrogs"),
        (lambda m, x: lt.log_evidence(m, x, "naive", distributions=3), "has no option 'distributions'"),
        (lambda m, x: lt.log_evidence(m, x, "importance", 0), "samples must be at least 1"),
        (lambda m, x: lt.bdmc(m, 0), "at least 1"),
        (lambda m, x: lt.bdmc(m, 2, leapfrog=3), "bdmc has no option 'leapfrog'.*leapfrogs"),
        (lambda m, x: lt.bdmc(lt.models.autoencoder(event=3, latent=2), 2), "no evidence"),
        (lambda m, x: lt.bdmc(lt.Model(lt.Joint(x=lt.StandardNormal(2))), 5), "no latent variables"),
    ],
)
def test_what_cannot_be_asked_is_refused(call: object, sentence: str) -> None:
    model = gaussian()
    with pytest.raises(ValueError, match=sentence):
        call(model, torch.zeros(2, 3).double())  # type: ignore[operator]
