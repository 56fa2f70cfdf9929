"""What log_evidence says is true, and its errors are honest."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import latentia as lt
from latentia.errors import DataError
from latentia.evidence.importance import Weigher, streamed
from latentia.noise import Noise
from tests.oracles.linear_gaussian import LinearGaussian

CHANCE = 4.3  # standard errors: exceeded less than once in 50,000


def pair(rows: int = 20) -> tuple[LinearGaussian, lt.Model, lt.Model]:
    """The linear-Gaussian model with a wider q than the posterior, and with the posterior."""
    known = LinearGaussian.make(rows=rows)
    return known, lt.Model(known.p, known.wide_q()), lt.Model(known.p, known.exact_q())


def test_with_the_posterior_as_q_the_weights_are_all_the_evidence() -> None:
    known, _, model = pair()
    estimate = lt.log_evidence(model, known.x, "importance", samples=7)
    torch.testing.assert_close(estimate.values, known.evidence(), rtol=1e-10, atol=1e-10)
    assert estimate.mc_error < 1e-6


def test_l_k_is_within_its_error_of_the_evidence() -> None:
    known, model, _ = pair()
    estimate = lt.log_evidence(model, known.x, "importance", samples=20_000)
    gap = estimate.values - known.evidence()
    bias = -0.5 * estimate.mc_errors.square()  # of a log of a mean, to second order
    assert ((gap - bias).abs() < CHANCE * estimate.mc_errors + 1e-12).all()
    assert abs(estimate.mean - float(known.evidence().mean())) < CHANCE * estimate.mc_error
    assert estimate.mc_error < 0.01


def test_the_elbo_is_within_its_error_of_the_evidence_less_the_kl() -> None:
    known, model, _ = pair()
    estimate = lt.log_evidence(model, known.x, "elbo", samples=5000)
    expected = known.bound(model.q).mean().item()
    assert (
        abs(estimate.mean - expected) < 6 * estimate.mc_error
    )  # ten groups: Student's t with 9 degrees, 20 rows
    assert estimate.mean < known.evidence().mean().item()


@pytest.mark.parametrize("method", ["elbo", "importance"])
def test_the_monte_carlo_error_is_the_spread_over_seeds(method: str) -> None:
    known, model, _ = pair()
    estimates = [lt.log_evidence(model, known.x, method, samples=200, seed=seed) for seed in range(100)]
    spread = np.std([estimate.mean for estimate in estimates], ddof=1)
    claimed = math.sqrt(np.mean([estimate.mc_error**2 for estimate in estimates]))
    assert 0.7 < claimed / spread < 1.4  # a standard deviation of 100 is known to 7%: 4.3 of them


@pytest.mark.parametrize("method, samples", [("elbo", 100), ("importance", 50)])
def test_the_interval_of_a_bound_covers_its_own_expectation(method: str, samples: int) -> None:
    """95 % intervals of the mean over 20 rows, in 1,000 repetitions: of E[bound], whatever log p(x) is."""
    known, model, _ = pair()
    repeated = known.x.repeat(1000, 1)
    found = lt.log_evidence(model, repeated, method, samples)
    means = found.values.view(1000, 20).mean(1)
    errors = found.mc_errors.view(1000, 20).square().sum(1).sqrt() / 20
    # E[L_K] is known to a thirtieth of an error
    expected = known.bound(model.q).detach().mean() if method == "elbo" else means.mean()
    covered = float(((means - expected).abs() < 1.96 * errors).double().mean())
    assert 0.92 <= covered <= 0.98
    below = float(known.evidence().mean() - expected)
    assert below > (5 * float(errors.mean()) if method == "elbo" else 0)


def test_the_error_over_rows_is_theirs() -> None:
    known, model, _ = pair()
    estimate = lt.log_evidence(model, known.x, "importance", samples=50)
    assert estimate.se == pytest.approx(estimate.values.std().item() / math.sqrt(20))
    assert estimate.mean == pytest.approx(estimate.values.mean().item())
    assert math.isnan(lt.log_evidence(model, known.x[:1], samples=10).se)


def test_the_terms_of_the_elbo_add_up() -> None:
    known, model, _ = pair()
    estimate = lt.log_evidence(model, known.x, "elbo", samples=30, rows_per_batch=7)
    assert estimate.terms["reconstruction"] - estimate.terms["kl"] == pytest.approx(estimate.mean)


@pytest.mark.parametrize("method", ["elbo", "importance"])
def test_one_sample_cannot_tell_its_error(method: str) -> None:
    known, model, _ = pair()
    estimate = lt.log_evidence(model, known.x, method, samples=1)
    assert math.isnan(estimate.mc_error)
    assert "unknown Monte Carlo error" in str(estimate)


def test_streaming_over_samples_changes_nothing() -> None:
    known, model, _ = pair()

    class Replayed(Noise):
        def take(self, key: str, request: Any) -> Tensor:
            self.place = getattr(self, "place", 0)
            piece = draws[self.place : self.place + request.shape[0]]
            self.place += request.shape[0]
            return piece

    draws = torch.randn(50, 20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        weights = [streamed(model.p, model.q, known.values, Replayed(), 50, chunk) for chunk in (50, 7, 1)]
        results = [found.weighed() for found in weights]
    for found in results[1:]:
        for name, numbers in found._asdict().items():
            torch.testing.assert_close(numbers, getattr(results[0], name), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("prior", [False, True])
def test_evaluating_p_in_pieces_changes_nothing(prior: bool) -> None:
    model = lt.models.helmholtz_machine(6, layers=(5, 3)).double()
    values = {"x": torch.bernoulli(torch.full((4, 6), 0.5, dtype=torch.float64))}
    q = model.p if prior else model.q
    with torch.no_grad():
        found = [
            Weigher(model.p, q, 13, live=live).log_weights(values, lt.Noise(3), 13) for live in (None, 7, 1)
        ]
    assert found[0].shape == (13, 4)
    for pieces in found[1:]:
        torch.testing.assert_close(pieces, found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("enumerate", [(), ("h1",)])
def test_what_lives_at_a_time_is_bounded(enumerate: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of p's widest layer, however the samples and rows are cut up."""
    model = lt.models.helmholtz_machine(40, layers=(4, 3))
    x = torch.bernoulli(torch.full((37, 40), 0.5))
    largest, decode = 0, model.p["x"].net.forward

    def watched(h: Tensor) -> Tensor:
        nonlocal largest
        out = decode(h)
        largest = max(largest, out.numel())
        return out

    monkeypatch.setattr(model.p["x"].net, "forward", watched)
    module = importlib.import_module("latentia.evidence.log_evidence")  # the package has a function so called
    monkeypatch.setattr(module, "live_entries", lambda device: 4000)
    for rows in (None, 5, 37):
        lt.log_evidence(model, x, "importance", 30, enumerate=enumerate, rows_per_batch=rows)
    assert 640 <= largest <= 4000


def test_labels_are_known_though_a_net_of_q_has_a_node_of_its_own() -> None:
    p = lt.Joint(y=lt.Categorical(3), x=lt.Normal(lt.Table(3, 4), given="y"))
    q = lt.Joint(
        h=lt.Deterministic(lt.MLP(2, 5), given="x"),
        y=lt.Categorical(lt.MLP(5, 3), given="h", classes=3, event=()),
    )
    model = lt.Model(p, q)
    batch = {"x": torch.randn(6, 2), "y": torch.arange(6) % 3}
    estimate = lt.log_evidence(model, batch, "importance", 10)
    assert estimate.direction == "exact"
    torch.testing.assert_close(estimate.values, p.log_prob(batch).detach())


def test_the_same_seed_gives_the_same_numbers_and_torch_generators_stay() -> None:
    known, model, _ = pair()
    state = torch.random.get_rng_state()
    one, two, other = (lt.log_evidence(model, known.x, samples=9, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.values, two.values)
    assert not torch.equal(one.values, other.values)
    assert torch.equal(state, torch.random.get_rng_state())


def test_with_nothing_latent_the_evidence_is_exact() -> None:
    p = lt.Joint(x=lt.Normal(lt.Constant(3), scale=2.0)).double()
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimate = lt.log_evidence(lt.Model(p), x)
    expected = stats.norm.logpdf(x.numpy(), 0, 2).sum(-1)
    np.testing.assert_allclose(estimate.values.numpy(), expected, rtol=1e-12)
    assert estimate.direction == "exact" and estimate.mc_error == 0
    assert "the exact log-evidence" in str(estimate)


def test_observing_the_latent_makes_the_evidence_that_of_both() -> None:
    known, model, _ = pair()
    z = torch.zeros(20, 2, dtype=torch.float64)
    estimate = lt.log_evidence(model, {"x": known.x, "z": z})
    torch.testing.assert_close(estimate.values, known.p.log_prob({"x": known.x, "z": z}).detach())
    assert estimate.direction == "exact"


def test_an_autoencoder_has_no_evidence() -> None:
    model = lt.models.autoencoder(event=3, latent=2, hidden=(4,))
    with pytest.raises(ValueError, match=r"computed by a deterministic encoder, .*no evidence"):
        lt.log_evidence(model, torch.zeros(4, 3))
    estimate = lt.log_evidence(model, torch.zeros(4, 3), "elbo", samples=3)
    assert estimate.direction == "none" and "no statement about log p(x)" in str(estimate)


def test_an_estimate_is_a_sentence_with_its_name_sides_and_errors() -> None:
    known, model, _ = pair()
    sentence = str(lt.log_evidence(model, known.x, "importance", samples=20))
    assert sentence.startswith("L_20 = ") and "nats per example" in sentence
    assert "a lower bound on log p(x)" in sentence and "N = 20" in sentence
    assert str(lt.log_evidence(model, known.x, "elbo", samples=20)).startswith("ELBO = ")


def test_bits_per_dimension_are_nats_over_d_ln_2() -> None:
    known, model, _ = pair()
    estimate = lt.log_evidence(model, known.x, samples=5)
    assert estimate.dimensions == 3
    assert estimate.bits_per_dimension == pytest.approx(-estimate.mean / (3 * math.log(2)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "guess"}, "method 'guess' is unknown: use 'exact', 'elbo', 'importance', 'naive', 'ais'"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"samples": 1.5}, "samples must be a whole number, got 1.5"),
        ({"units": "bits"}, "units must be 'data' or 'model', got 'bits'"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: dict[str, Any], sentence: str) -> None:
    known, model, _ = pair()
    with pytest.raises(ValueError, match=sentence):
        lt.log_evidence(model, known.x, **options)


def test_an_intractable_model_has_no_exact_evidence_and_it_is_said_what_to_do() -> None:
    model = lt.models.vae(event=3, latent=2, hidden=(4,))
    with pytest.raises(
        ValueError, match=r"no closed form: bound log p\(x\) by method='importance' or .*'ais'"
    ):
        lt.log_evidence(model, torch.zeros(4, 3), "exact")


def test_rows_that_were_read_in_another_way_are_refused() -> None:
    """Their numbers are of other units, and the evidence would be of nothing."""
    model = lt.models.vae(data=lt.load_data("iris"), latent=2, hidden=(3,))
    plain = lt.load_data("iris", standardise=False)
    with pytest.raises(
        DataError, match=r"'sepal length \(cm\)' of these rows was standardised in another way"
    ):
        lt.log_evidence(model, plain.test)
    binary = lt.models.vae(data=lt.load_data("digits", binarise="threshold"), latent=2, hidden=(3,))
    with pytest.raises(DataError, match=r"the model is of image .* binarised .*, and these rows are image"):
        lt.log_evidence(binary, lt.load_data("digits").test)


def test_evidence_in_the_datas_units_is_the_density_of_the_data_themselves() -> None:
    table = 50 + 20 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = lt.load_data(table, standardise=True)
    model = lt.Model(lt.Joint(x=lt.Normal(lt.Constant(2), scale=0.5)).double(), None, data.schema)
    train = table[data.train.rows]
    mean, scale = train.mean(0).numpy(), train.std(0, correction=0).numpy()
    rows = table[data.test.rows].numpy()
    expected = stats.norm.logpdf(rows, mean, 0.5 * scale).sum(-1)
    np.testing.assert_allclose(lt.log_evidence(model, data.test).values.numpy(), expected, rtol=1e-5)
    inside = lt.log_evidence(model, data.test, units="model")
    np.testing.assert_allclose(inside.values.numpy(), expected + np.log(scale).sum(), rtol=1e-5)
    assert inside.units == "model" and "in model units" in str(inside)


def test_model_log_evidence_is_the_importance_estimate_in_the_datas_units() -> None:
    known, model, _ = pair()
    ours = model.log_evidence(known.x, samples=11, seed=3)
    assert torch.equal(ours, lt.log_evidence(model, known.x, "importance", 11, seed=3).values)


def test_an_estimate_says_of_what_it_is() -> None:
    """Labels that are given are data, and inputs stand behind the bar."""
    x, other = torch.zeros(4, 2), torch.ones(4, 1)
    labelled = lt.Model(
        lt.Joint(
            y=lt.Bernoulli(lt.Constant(1)),
            z=lt.StandardNormal(1),
            x=lt.Normal(lt.MLP(2, 2), given=("y", "z"), scale=1.0),
        ),
        lt.Joint(z=lt.Normal(lt.MLP(3, 2), given=("x", "y"))),
    )
    conditional = lt.Model(
        lt.Joint(z=lt.StandardNormal(1), x=lt.Normal(lt.MLP(2, 2), given=("c", "z"), scale=1.0)),
        lt.Joint(z=lt.Normal(lt.MLP(3, 2), given=("x", "c"))),
    )
    one = lt.log_evidence(labelled, {"x": x, "y": other}, "elbo", 2)
    two = lt.log_evidence(conditional, {"x": x, "c": other}, "elbo", 2)
    assert "a lower bound on log p(x, y), in" in str(one)
    assert "a lower bound on log p(x | c), in" in str(two)
    assert one[1:3].values.equal(one.values[1:3]) and one[1:3].of == "log p(x, y)"
