"""Variational Bayes: scikit-learn's numbers, the evidence where q is exact, a bound that never decreases."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from torch import Tensor
from torch.distributions import Wishart

import latentia as lt
from latentia.factors import bayesian_normal
from latentia.joint import MASK
from latentia.learn.em import EM

COVARIANCES: dict[str, Any] = {
    "full": lt.Full(),
    "tied": lt.Tied(),
    "diag": lt.Diagonal(),
    "spherical": lt.Spherical(),
}
ENTRIES, COMPONENTS, ITERATIONS = 3, 5, 6


def clusters(sizes: tuple[int, ...] = (60, 60, 60), apart: float = 3.0, seed: int = 0) -> Tensor:
    """Rows about as many centres as there are sizes, correlated, far from 0."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for place, size in enumerate(sizes):
        noise = torch.randn(size, ENTRIES, generator=generator, dtype=torch.float64)
        groups.append(apart * place * torch.tensor([1.0, -1.0, 0.5]) + (1 + 0.5 * place) * noise)
    mix = torch.randn(ENTRIES, ENTRIES, generator=generator, dtype=torch.float64)
    return torch.cat(groups) @ mix + 20


def taken_whole(x: Tensor) -> lt.data.Data:
    return lt.load_data(x, split=(1.0, 0.0, 0.0))


def engine(model: lt.Model, x: Tensor, **values: Tensor) -> EM:
    return EM(model, {"x": x, **values}, model.q, "exact", {}, 64, 0, 20)


def wishart_log_det_of_scikit(degrees: Tensor, size: int) -> Tensor:
    """scikit-learn's for variances: that of a D x D Wishart, by entry."""
    nu = degrees / (ENTRIES if degrees.shape[1] == 1 else 1)
    return torch.digamma((nu - torch.arange(ENTRIES)) / 2) + (2 / nu).log()


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_posterior_is_that_of_scikit_learn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in ("diag", "spherical"):
        monkeypatch.setattr(bayesian_normal, "expected_log_det", wishart_log_det_of_scikit)
    x = clusters()
    kmeans = KMeans(COMPONENTS, n_init=1, random_state=np.random.RandomState(3)).fit(x.numpy())
    weights = torch.nn.functional.one_hot(torch.from_numpy(kmeans.labels_).long(), COMPONENTS).mT.double()
    other = BayesianGaussianMixture(
        n_components=COMPONENTS,
        covariance_type=kind,
        weight_concentration_prior_type="dirichlet_distribution",
        max_iter=ITERATIONS,
        tol=0.0,
        reg_covar=0.0,
        random_state=3,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other.fit(x.numpy())
    model = lt.models.bayesian_gaussian_mixture(
        components=COMPONENTS, covariance=COVARIANCES[kind], data=taken_whole(x)
    ).double()
    em = engine(model, x)
    em.iterate(0, weights)
    bounds = []
    for step in range(ITERATIONS):
        found = model.q.expect({"x": x}, expected=True)
        em.iterate(step)
        bounds.append(bound_at(model, x, found.weight))
    factor = model.p["x"]
    degrees = factor.degrees[:, 0] / {"spherical": ENTRIES, "tied": COMPONENTS}.get(kind, 1)
    for mine, theirs in (
        (model.p["k"].concentration, other.weight_concentration_),
        (factor.strength[:, 0], other.mean_precision_),
        (factor.loc, other.means_),
        (degrees, other.degrees_of_freedom_),
        (factor.covariances.squeeze(), other.covariances_),
    ):
        np.testing.assert_allclose(mine.squeeze(), theirs, rtol=1e-8)
    if kind == "full":
        np.testing.assert_allclose(np.diff(bounds), np.diff(other.lower_bounds_), rtol=1e-6, atol=1e-9)


def bound_at(model: lt.Model, x: Tensor, weight: Tensor) -> float:
    """E_q[log p(x, k, theta) - log q(k) - log q(theta)], in nats, for any q(k) `[K, N]`."""
    codes = torch.arange(len(weight)).unsqueeze(-1)
    log_p = model.p["k"].expected_log_prob(codes) + model.p["x"].expected_log_prob(x, codes)
    free = (weight * log_p).sum() - torch.special.xlogy(weight, weight).sum()
    return float(free - model.p["k"].parameter_kl() - model.p["x"].parameter_kl())


@pytest.mark.parametrize(
    ("kind", "holes"), [*((kind, False) for kind in COVARIANCES), ("diag", True), ("spherical", True)]
)
def test_with_known_states_the_bound_is_the_evidence(kind: str, holes: bool) -> None:
    """q(theta) is then exact: the bound is the sum of the predictions of each row from those before it."""
    x, states = clusters((6, 7)), torch.arange(13) % 2
    masks: list[Tensor | None] = [None] * len(x)
    if holes:
        masks = list((torch.rand(x.shape, generator=torch.Generator().manual_seed(4)) < 0.7).unsqueeze(1))

    def learnt(rows: int) -> lt.Joint:
        k = lt.BayesianCategorical(2, [0.4, 1.5])
        covariance_prior = [2.0, 3.0, 1.0] if kind == "diag" else 3.0
        normal = lt.BayesianNormal(
            2,
            ENTRIES,
            covariance=COVARIANCES[kind],
            mean_prior=[19.0, 20.0, 22.0],
            strength=0.5,
            degrees=3.5,
            covariance_prior=covariance_prior,
        )
        p = lt.Joint(k=k, x=normal).double()
        weight = (torch.arange(len(x)) < rows).double()
        seen = torch.cat(masks) if holes else None
        p["k"].maximize(p["k"].statistics(states, weight=weight))
        p["x"].maximize(p["x"].statistics(x, states, weight=weight, observed=seen))
        return p

    evidence = 0.0
    for row in range(len(x)):
        p, place = learnt(row), slice(row, row + 1)
        evidence += float(p["k"].log_prob(states[place]))
        evidence += float(p["x"].log_prob(x[place], states[place], observed=masks[row]))
    p = learnt(len(x))
    expected = p["k"].expected_log_prob(states).sum()
    seen = torch.cat(masks) if holes else None
    expected += p["x"].expected_log_prob(x, states, observed=seen).sum()
    bound = expected - p["k"].parameter_kl() - p["x"].parameter_kl()
    assert float(bound) == pytest.approx(evidence, rel=1e-11)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_divergence_of_the_parameters_is_that_of_draws(kind: str) -> None:
    x, size, draws = clusters((12, 9))[:, :2], 2, 10_000
    factor = lt.BayesianNormal(2, size, covariance=COVARIANCES[kind], mean_prior=18.0, degrees=2.5)
    factor.double()
    factor.maximize(factor.statistics(x, torch.arange(21) % 2, weight=torch.ones(21)))
    prior = lt.BayesianNormal(2, size, covariance=COVARIANCES[kind], mean_prior=18.0, degrees=2.5)
    generator = np.random.default_rng(5)
    ratio = np.zeros(draws)
    drawn: list[np.ndarray] = []
    for place in range(len(factor.root)):
        found = [
            (f.degrees[place].double().numpy(), f.covariances[place].double().numpy())
            for f in (factor, prior)
        ]
        if kind in ("full", "tied"):
            q, p = (Wishart(torch.tensor(nu[0]), torch.tensor(np.linalg.inv(nu[0] * c))) for nu, c in found)
            scale = q.covariance_matrix.numpy()
            precision = stats.wishart(float(q.df), scale).rvs(draws, random_state=generator)
            at = torch.from_numpy(precision)
            ratio += (q.log_prob(at) - p.log_prob(at)).numpy()
            drawn.append(precision)
        else:
            q, p = (stats.gamma(nu / 2, scale=2 / (nu * c)) for nu, c in found)
            precision = q.rvs((draws, len(found[0][1])), random_state=generator)
            ratio += (q.logpdf(precision) - p.logpdf(precision)).sum(-1)
            drawn.append(precision[:, :, None] * np.eye(size))
    for state in range(2):
        precision = drawn[0 if kind == "tied" else state]
        root = np.linalg.cholesky(precision)
        noise = generator.normal(size=(draws, size, 1))
        mean = factor.loc[state].numpy()
        strength = float(factor.strength[state, 0])
        mu = mean + np.linalg.solve(root.transpose(0, 2, 1), noise)[..., 0] / math.sqrt(strength)
        distances = [np.einsum("ni,nij,nj->n", mu - at, precision, mu - at) for at in (mean, 18.0)]
        ratio += size / 2 * math.log(strength) - strength / 2 * distances[0] + distances[1] / 2
    assert abs(ratio.mean() - float(factor.parameter_kl())) < 5 * ratio.std() / math.sqrt(draws)


def test_the_divergence_of_the_probabilities_is_that_of_draws() -> None:
    factor = lt.BayesianCategorical(3, [0.5, 1.0, 2.0]).double()
    assert float(factor.parameter_kl()) == pytest.approx(0, abs=1e-12)
    factor.maximize({"count": torch.tensor([[4.0, 0.0, 2.5]], dtype=torch.float64)})
    q, p = stats.dirichlet([4.5, 1.0, 4.5]), stats.dirichlet([0.5, 1.0, 2.0])
    drawn = q.rvs(20_000, random_state=1).T
    ratio = q.logpdf(drawn) - p.logpdf(drawn)
    assert abs(ratio.mean() - float(factor.parameter_kl())) < 5 * ratio.std() / math.sqrt(20_000)


@pytest.mark.parametrize("kind", [*COVARIANCES, "holes"])
def test_the_bound_never_decreases(kind: str) -> None:
    x = clusters()
    model = lt.models.bayesian_gaussian_mixture(
        components=COMPONENTS, covariance=COVARIANCES.get(kind, lt.Diagonal()), data=taken_whole(x)
    ).double()
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.8
    em = engine(model, x, **({"x" + MASK: seen} if kind == "holes" else {}))
    weights = torch.rand(COMPONENTS, len(x), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    em.iterate(0, weights.log().mul(5).softmax(0))
    bounds = [em.iterate(step) for step in range(25)]
    assert (np.diff(bounds) > -1e-12).all() and bounds[-1] > bounds[0] + 0.01
    assert em.reached()[0] >= bounds[-1]


def test_components_that_the_data_do_not_need_empty_out(tmp_path: Path) -> None:
    x = clusters((40, 80), apart=8.0)
    model = lt.models.bayesian_gaussian_mixture(
        components=6, concentration=1e-3, data=taken_whole(x)
    ).double()
    run = lt.fit(model, taken_whole(x), steps=500, progress=False)
    counts = model.p["k"].concentration - 1e-3
    torch.testing.assert_close(
        counts.sort().values[-2:], torch.tensor([40.0, 80.0]).double(), rtol=0, atol=0.1
    )
    assert not [note for note in run.notes if "component" in note]
    estimate = lt.log_evidence(model, x)
    assert estimate.direction == "exact"
    codes = torch.arange(6).unsqueeze(-1)
    each = model.p["k"].log_prob(codes) + model.p["x"].log_prob(x, codes)
    torch.testing.assert_close(estimate.values, each.logsumexp(0))
    again = lt.load_model(model.save(tmp_path / "model"))
    assert torch.equal(lt.log_evidence(again, x).values, estimate.values)
    for name in ("k", "x"):
        assert torch.equal(again.p[name].parameter_kl(), model.p[name].parameter_kl())


def test_float32_stands_large_offsets() -> None:
    x = (clusters().float() + 1e4).numpy()
    model = lt.models.bayesian_gaussian_mixture(components=COMPONENTS, data=taken_whole(x))
    lt.fit(model, x, steps=20, progress=False)
    assert model.log_evidence(x).isfinite().all()


@pytest.mark.parametrize("kind", COVARIANCES)
def test_it_learns_as_many_numbers_as_the_mixture_by_maximum_likelihood(kind: str) -> None:
    makers = lt.models.bayesian_gaussian_mixture, lt.models.gaussian_mixture
    models = [make(ENTRIES, 4, covariance=COVARIANCES[kind]) for make in makers]
    counts = [[model.p[name].free_parameters for name in "kx"] for model in models]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lt.BayesianCategorical(0), "at least 1 class"),
        (lambda: lt.BayesianCategorical(3, 0.0), "one positive number or 3"),
        (lambda: lt.BayesianNormal(0, 2), "one parent of at least 1 state"),
        (lambda: lt.BayesianNormal(2, 2, given=()), "one parent of at least 1 state"),
        (lambda: lt.BayesianNormal(2, (1, 2)), "needs a flat event"),
        (lambda: lt.BayesianNormal(2, 2, covariance=lt.LowRank(1)), "no closed form: use Full"),
        (lambda: lt.BayesianNormal(2, 2, degrees=1.0), "degrees above 1"),
        (lambda: lt.BayesianNormal(2, 2, strength=0.0), "strength must be above 0"),
        (lambda: lt.BayesianNormal(2, 2, mean_prior=[1.0] * 3), "one number or 2"),
        (lambda: lt.BayesianNormal(2, 2, covariance_prior=[[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: lt.BayesianNormal(2, 2, covariance=lt.Diagonal(), covariance_prior=-1.0), "positive number"),
        (lambda: lt.models.bayesian_gaussian_mixture(2, 0), "at least 1 component"),
        (
            lambda: lt.models.bayesian_gaussian_mixture(data=taken_whole(torch.zeros(1, 2))),
            "two training rows",
        ),
    ],
)
def test_priors_that_are_not_proper_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_holes_under_a_full_covariance_are_refused_and_predicted() -> None:
    x = clusters().numpy()
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"use covariance=Diagonal\(\) or Spherical\(\)"):
        lt.models.bayesian_gaussian_mixture(components=2, data=taken_whole(x))
    model = lt.models.bayesian_gaussian_mixture(ENTRIES, 2)
    with pytest.raises(ValueError, match=r"'x' has missing entries, and BayesianNormal .*Diagonal"):
        lt.fit(model, x, progress=False)
    assert model.log_evidence(x).isfinite().all()
