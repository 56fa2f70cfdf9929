"""Inference gaps against the linear-Gaussian model, where the best q of a family is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import latentia as lt
from latentia.diagnostics import Gaps, gaps, inference_gaps
from tests.oracles.linear_gaussian import LinearGaussian


@pytest.fixture(scope="module")
def known() -> LinearGaussian:
    return LinearGaussian.make(rows=12)


@pytest.fixture(scope="module")
def diagonal(known: LinearGaussian) -> Gaps:
    return inference_gaps(lt.Model(known.p, known.q()), known.x, steps=300)


def mean_field_gap(known: LinearGaussian) -> float:
    """KL of the best factorised q: 1/2 (sum_d log P_dd - log det P), P the posterior's precision."""
    precision = torch.linalg.inv(known.posterior().covariance_matrix[0])
    return float(0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)))


def test_the_approximation_gap_is_that_of_the_best_mean_field_q(
    known: LinearGaussian, diagonal: Gaps
) -> None:
    assert mean_field_gap(known) > 0.03
    error = diagonal.approximation.mc_error
    assert error < 0.03
    assert abs(diagonal.approximation.mean - mean_field_gap(known)) < 4.5 * error + 0.003
    torch.testing.assert_close(diagonal.evidence.values, known.evidence())


def test_both_gaps_are_non_negative_and_sum_to_the_total(known: LinearGaussian, diagonal: Gaps) -> None:
    for gap in (diagonal.approximation, diagonal.amortisation):
        assert bool((gap.values > -5 * gap.mc_errors - 0.005).all())
    together = diagonal.approximation.values + diagonal.amortisation.values
    torch.testing.assert_close(together, diagonal.total.values)
    torch.testing.assert_close(diagonal.best.values - diagonal.amortised.values, diagonal.amortisation.values)
    assert not diagonal.caution


def test_the_amortised_bound_is_the_elbo(known: LinearGaussian, diagonal: Gaps) -> None:
    elbo = lt.log_evidence(lt.Model(known.p, known.q()), known.x, "elbo", samples=2000, seed=9)
    error = (elbo.mc_errors.square() + diagonal.amortised.mc_errors.square()).sqrt()
    assert bool(((elbo.values - diagonal.amortised.values).abs() < 5 * error).all())


def test_common_draws_make_the_amortisation_gap_sharper(diagonal: Gaps) -> None:
    apart = (diagonal.best.mc_error**2 + diagonal.amortised.mc_error**2) ** 0.5
    assert diagonal.amortisation.mc_error < 0.9 * apart


def test_a_full_family_closes_the_approximation_gap(known: LinearGaussian) -> None:
    model = lt.Model(known.p, known.exact_q())
    before = [p.clone() for p in model.parameters()]
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    found = inference_gaps(model, known.x, family=lt.Full(), steps=300)
    for gap in (found.approximation, found.amortisation):
        assert abs(gap.mean) < 4.5 * gap.mc_error + 0.01
    assert all(torch.equal(a, b) and b.requires_grad for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_it_says_what_its_numbers_bound(known: LinearGaussian, diagonal: Gaps) -> None:
    assert "approximation gap at most" in repr(diagonal) and "exact" in repr(diagonal)
    model = lt.Model(known.p, known.q())
    lower = lt.log_evidence(model, known.x, "ais", samples=4, distributions=10)
    found = inference_gaps(model, known.x, evidence=lower, steps=5, samples=20)
    assert found.evidence is lower
    assert "lower bound, so the approximation gap may be larger" in repr(found)
    assert "N = 12" in repr(found)


@pytest.mark.parametrize("family", [lt.Diagonal(), lt.Full(), lt.LowRank(1)])
def test_the_search_begins_at_the_amortised_q(known: LinearGaussian, family: Any) -> None:
    model = lt.Model(known.p, known.q(family))
    found = inference_gaps(model, known.x, family=family, steps=1, lr=1e-9)
    slack = 1e-4 if family != lt.LowRank(1) else 1.0  # its columns begin small
    assert abs(found.amortisation.mean) < slack


def test_a_negative_gap_is_remarked_on(known: LinearGaussian) -> None:
    found = inference_gaps(lt.Model(known.p, known.exact_q()), known.x, steps=2, lr=1e-6)
    assert found.amortisation.mean < 0
    assert "take more steps, or a richer family" in repr(found)


def test_the_evidence_is_ais_where_no_exact_one_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = lt.log_evidence

    def told(model: lt.Model, x: Any, method: str, *given: Any, **options: Any) -> lt.Estimate:
        asked.append(method)
        if method == "ais":
            method, given = "importance", (50,)
        return real(model, x, method, *given, **options)

    monkeypatch.setattr(gaps, "log_evidence", told)
    model, x = lt.models.vae(event=3, latent=2, hidden=(4,)), torch.randn(4, 3)
    inference_gaps(model, x, steps=2, samples=2)
    assert asked[:2] == ["exact", "ais"]


def test_all_numbers_are_in_the_datas_units() -> None:
    data = lt.load_data("iris")
    model = lt.models.vae(data=data, latent=2, hidden=(4,))
    found = inference_gaps(model, data.test[:5], evidence="importance", steps=3, samples=50)
    elbo = lt.log_evidence(model, data.test[:5], "elbo", samples=500)
    assert found.evidence.units == "data"
    assert abs(found.amortised.mean - elbo.mean) < 5 * (found.amortised.mc_error + elbo.mc_error)


def test_discrete_latents_have_a_table_of_their_own() -> None:
    p = lt.Joint(k=lt.Categorical(3), x=lt.Normal(lt.Table(3, 4), given="k")).double()
    q = lt.Joint(k=lt.Categorical(lt.MLP(2, 3), given="x")).double()
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = inference_gaps(lt.Model(p, q), x, steps=300, samples=400)
    assert abs(found.approximation.mean) < 4.5 * found.approximation.mc_error + 0.005
    assert found.amortisation.mean > 0


def test_what_has_no_gaps_is_refused_in_words(known: LinearGaussian) -> None:
    model = lt.Model(known.p, known.q())
    with pytest.raises(ValueError, match="both gaps are zero"):
        inference_gaps(lt.models.ppca(event=3, latent=1), torch.randn(5, 3))
    with pytest.raises(ValueError, match="did you mean 'importance'"):
        inference_gaps(model, known.x, evidence="importanc")
    with pytest.raises(ValueError, match="samples must be at least 2"):
        inference_gaps(model, known.x, samples=1)
    with pytest.raises(ValueError, match="of 3 rows, and there are 12"):
        inference_gaps(model, known.x, evidence=lt.log_evidence(model, known.x[:3], "exact"))
    with pytest.raises(ValueError, match="no evidence"):
        inference_gaps(lt.models.autoencoder(event=3, latent=2), torch.randn(5, 3))
