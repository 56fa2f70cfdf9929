"""What EM promises: it never decreases its objective, and it finds what others find."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import latentia as lt
from latentia.factors.priors import Beta, Dirichlet, GaussianPrior, NormalInverseWishart
from latentia.learn.em import EM
from latentia.learn.starts import first_weights
from tests.laws.exact_models import CASES, cases

from .clusters import bits_of_a_net, bounds, clusters, fitted, mixture, weights

WITHOUT_M_STEP = {"computed", "chain", "both_parents", *(name for name in CASES if name.startswith("normal"))}
ESTIMABLE = [(name, how) for name, how in cases() if name not in WITHOUT_M_STEP]


def engine(name: str, how: str, estep: str = "exact", priors: bool = False, rows: int = 30) -> EM:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how, rows)
    given = {v: prior_of(exact.p[v]) for v in exact.p} if priors else {}
    given = {v: prior for v, prior in given.items() if prior is not None}
    return EM(lt.Model(exact.p, exact), values, exact, estep, given, chunk=13, seed=0, climbs=3)


def prior_of(factor: lt.Factor) -> object | None:
    """A conjugate prior, where the family has one."""
    if not factor.has_closed_form or not any(p.requires_grad for p in factor.parameters()):
        return None
    families: dict[type[lt.Factor], object] = {
        lt.Categorical: Dirichlet(2.0),
        lt.Bernoulli: Beta(1.5, 2.0),
        lt.Normal: NormalInverseWishart(mean=0.3, strength=0.5, scale=0.7, degrees=4.0),
        lt.Columns: (Beta(1.5, 2.0), Dirichlet(1.2)),
        lt.LogLinear: GaussianPrior(2.0),
    }
    return families.get(type(factor))


def assert_never_decreases(em: EM) -> None:
    em.check()
    objective = [em.iterate(step) for step in range(8)]
    objective.append(em.reached()[0])
    assert np.isfinite(objective).all()
    assert min(np.diff(objective)) > -1e-10
    assert objective[-1] > objective[0]


@pytest.mark.parametrize(("name", "how"), ESTIMABLE)
def test_em_never_decreases_the_evidence(name: str, how: str) -> None:
    assert_never_decreases(engine(name, how))


@pytest.mark.parametrize(("name", "how"), ESTIMABLE)
def test_hard_em_never_decreases_the_density_of_the_best_latents(name: str, how: str) -> None:
    assert_never_decreases(engine(name, how, "hard"))


@pytest.mark.parametrize(
    "name", [name for name, how in ESTIMABLE if how == "whole" and engine(name, how, priors=True).priors]
)
def test_with_priors_em_never_decreases_evidence_plus_log_prior(name: str) -> None:
    assert_never_decreases(engine(name, "whole", priors=True))


def test_em_is_the_method_of_an_exact_q_and_says_what_it_reached() -> None:
    model, x = mixture(), clusters()
    run = fitted(model, x)
    assert (run.method, run.stopped, run.executor) == ("em", "converged", "eager")
    assert run.best_value == pytest.approx(lt.log_evidence(model, x).mean, rel=1e-12)
    assert run.steps == len(bounds(run)) and bounds(run)[-1] <= run.best_value
    assert not run.notes
    means = model.p["x"].net.weight[:, :2].detach()
    order = means[:, 0].argsort()
    torch.testing.assert_close(means[order][:, 0], torch.tensor([-4.0, 0.0, 4.0]).double(), atol=0.4, rtol=0)


def test_it_converges_when_the_relative_change_is_small() -> None:
    x = clusters()
    runs = {tol: fitted(mixture(), x, start="random", tol=tol) for tol in (1e-3, 1e-6, 1e-10)}
    steps = [run.steps for run in runs.values()]
    assert steps == sorted(steps) and len(set(steps)) == 3
    for tol, run in runs.items():
        changes = np.abs(np.diff(bounds(run)) / np.abs(bounds(run)[1:]))
        assert changes[-1] <= tol < changes[:-1].min()


@pytest.mark.parametrize("how", ["whole", "holes"])
@pytest.mark.parametrize("model", [mixture, lambda: lt.models.mixture_of_factor_analysers(2, 2, 1).double()])
def test_the_size_of_chunks_does_not_matter(model: Any, how: str) -> None:
    x = clusters(100)
    if how == "holes":
        x[torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.2] = math.nan
    found = []
    for chunk in (7, 64, 1000):
        one = model()
        fitted(one, x, chunk=chunk, steps=10, tol=0)
        found.append(weights(one))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[0], found[2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [lt.models.ppca, lt.models.factor_analysis])
def test_em_on_points_with_the_rows_moments_is_em_on_the_rows(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1) + 30
    weight = torch.rand(200, generator=torch.Generator().manual_seed(1))
    data = {"x": x, "weight": weight}
    on_points, on_rows = (make(5, 2).double() for _ in range(2))
    run = fitted(on_points, data, start="random", steps=1)
    assert "10 points with the mean and covariance of the 200 rows" in run.notes[0]
    on_rows.load_state_dict(on_points.state_dict())
    one = fitted(on_points, data, start="model", warm_start=True, steps=10, tol=0)
    monkeypatch.setattr("latentia.learn.fit_em.compressed", lambda *_: None)
    other = fitted(on_rows, data, start="model", steps=10, tol=0)
    torch.testing.assert_close(weights(on_points), weights(on_rows), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(bounds(one), bounds(other), rtol=1e-10)


def test_the_best_of_several_starts_is_kept() -> None:
    x = clusters(60)
    model, alone = mixture(components=6), []
    run = fitted(model, x, start="random", starts=4, steps=15)
    ends = [i for i, record in enumerate(run.history) if record["split"] == "train"]
    for number in range(4):
        one = mixture(components=6)
        em = EM(one, one.rows(x), one.q, "exact", {}, 1000, 0, 20)
        em.iterate(0, first_weights("random")(em, number))
        alone.append(max([em.iterate(step) for step in range(15)][-1], em.reached()[0]))
    assert len(ends) == run.steps
    starts = [run.history[i]["start"] for i in ends]
    assert starts == sorted(starts) and set(starts) == {1, 2, 3, 4}
    assert len(set(alone)) == 4
    assert run.best_value == pytest.approx(max(alone), abs=1e-6)
    assert run.best_value == pytest.approx(lt.log_evidence(model, x).mean, rel=1e-12)


def test_a_weight_counts_as_so_many_rows() -> None:
    x, weight = clusters(40), torch.arange(40) % 3
    for make in (mixture, lambda: lt.models.mixture_of_factor_analysers(2, 2, 1).double()):
        weighed, repeated = make(), make()
        fitted(weighed, {"x": x, "weight": weight.float()}, start="model", steps=5, tol=0)
        fitted(repeated, x.repeat_interleave(weight, 0), start="model", steps=5, tol=0)
        torch.testing.assert_close(weights(weighed), weights(repeated), rtol=1e-10, atol=1e-10)


def test_with_missing_cells_em_ends_where_the_evidence_is_flat() -> None:
    x = clusters(150)
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.3] = math.nan
    for make in (mixture, lambda: mixture(covariance=lt.Diagonal()), lambda: lt.models.factor_analysis(2, 1)):
        model = make().double()
        run = fitted(model, x, tol=1e-13, steps=3000)
        assert run.stopped == "converged"
        values = model.batch(model.rows(x), slice(None))
        evidence = model.q.log_evidence(values).mean()
        learnt = [p for p in model.parameters() if p.requires_grad]
        for gradient in torch.autograd.grad(evidence, learnt):
            assert float(gradient.abs().max()) < 1e-4


def test_labels_in_some_rows_decide_which_component_is_which() -> None:
    x, code = clusters(300), (torch.arange(300) + 1) % 3
    label = torch.where(torch.arange(300) < 30, code.double(), math.nan)
    data = lt.load_data({"x": x, "k": label.numpy()}, types={"k": "category"}, split=(1.0, 0.0, 0.0))
    model = mixture()
    run = fitted(model, data)
    assert run.stopped == "converged" and min(np.diff(bounds(run))) > -1e-10
    found = model.posterior({"x": x}).probs.argmax(-1)
    assert float((found == code).double().mean()) > 0.97
    every = mixture()
    fitted(every, {"x": x, "k": code})
    torch.testing.assert_close(weights(model), weights(every), rtol=0, atol=0.5)
    counts = torch.stack([x[code == k].mean(0) for k in range(3)])
    torch.testing.assert_close(every.p["x"].net.weight[:, :2].detach(), counts)


def test_a_neural_mixture_is_fitted_by_generalised_em() -> None:
    x = (clusters(120) > 0).double()
    model = lt.models.neural_mixture(2, 3, hidden=(8,), likelihood="bernoulli").double()
    run = fitted(model, x, steps=15)
    assert min(np.diff(bounds(run))) > -1e-9
    assert bounds(run)[-1] > bounds(run)[0]


def test_a_log_linear_model_matches_expected_features() -> None:
    generator = torch.Generator().manual_seed(0)
    group = torch.rand(300, 1, generator=generator) < 0.4
    x = (torch.rand(300, 4, generator=generator) < 0.2 + 0.5 * group).double()
    model = lt.models.log_linear(4, 2).double()
    run = fitted(model, x, tol=1e-12, steps=2000)
    assert min(np.diff(bounds(run))) > -1e-10
    evidence = model.q.log_evidence({"x": x}).mean()
    gradient = torch.autograd.grad(evidence, list(model.parameters()))
    assert all(float(g.abs().max()) < 1e-4 for g in gradient)


def test_sampled_em_repeats_with_its_seed_and_comes_near() -> None:
    x, found = clusters(), []
    for seed in (0, 0, 1):
        model = mixture()
        run = fitted(model, x, estep="sampled", steps=30, seed=seed)
        found.append((weights(model), run.best_value))
        assert not run.notes
    assert torch.equal(found[0][0], found[1][0]) and not torch.equal(found[0][0], found[2][0])
    assert found[0][1] == pytest.approx(fitted(mixture(), x).best_value, abs=0.1)


def test_starts_of_sampled_em_are_compared_by_the_evidence() -> None:
    x, model = clusters(60), mixture()
    run = fitted(model, x, start="random", starts=3, estep="sampled", steps=10)
    assert run.best_value == pytest.approx(lt.log_evidence(model, x).mean, rel=1e-12)
    assert run.follows == "log p(x) of the 60 training rows" and run.objective == "log p(x, z)"
    assert fitted(mixture(), x, steps=2).follows == "the objective of the 60 training rows"


def test_bits_of_a_net_are_learnt_by_em() -> None:
    x = (torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    p = bits_of_a_net().double()
    run = fitted(lt.Model(p, lt.Exact(p)), x[:5].repeat(20, 1), steps=5)
    assert min(np.diff(bounds(run))) > -1e-9
