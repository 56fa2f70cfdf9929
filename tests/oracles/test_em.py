"""EM against scikit-learn and closed forms, in float64, from the same start."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

import latentia as lt
from latentia.factors.covariances import Spherical, Tied
from latentia.factors.gaussian import tril_of

DIGITS = torch.from_numpy(load_digits().data / 16)
COVARIANCES = {"full": lt.Full(), "diag": lt.Diagonal(), "spherical": Spherical(), "tied": Tied()}


def clusters(rows: int = 240, entries: int = 4, components: int = 3, seed: int = 0) -> Tensor:
    """Rows around a few centres, each with a covariance of its own."""
    generator = torch.Generator().manual_seed(seed)
    shape = {"generator": generator, "dtype": torch.float64}
    centres = 1.5 * torch.randn(components, entries, **shape)
    maps = torch.randn(components, entries, entries, **shape) / 2
    code = torch.arange(rows) % components
    noise = torch.randn(rows, entries, 1, **shape)
    return centres[code] + (maps[code] @ noise).squeeze(-1) + 0.1 * torch.randn(rows, entries, **shape)


def fitted(model: lt.Model, x: Any, **options: object) -> lt.Run:
    return lt.fit(model, x, **({"progress": False} | options))


def bounds(run: lt.Run) -> list[float]:
    return [record["bound"] for record in run.history if record["split"] == "train"]


def parameters(model: lt.Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of a Gaussian mixture, as scikit-learn stores them."""
    factor, kind = model.p["x"], model.p["x"].covariance
    with torch.no_grad():
        weights = model.p["k"].distribution().probs.numpy()
        of = factor.distribution(factor_codes := torch.arange(len(weights)))
        means = of.mean.expand(len(factor_codes), -1).numpy()
        tril = tril_of(of)
        covariance = (tril @ tril.mT).numpy()
    if isinstance(kind, lt.Diagonal | Spherical):
        covariance = np.diagonal(covariance, axis1=-2, axis2=-1)
    return weights, means, covariance[:, 0] if isinstance(kind, Spherical) else covariance


def scikit_learns(model: lt.Model, kind: str, iterations: int) -> GaussianMixture:
    """scikit-learn's mixture that begins where the model stands."""
    weights, means, covariance = parameters(model)
    precision = np.linalg.inv(covariance) if kind in ("full", "tied") else 1 / covariance
    return GaussianMixture(
        len(weights),
        covariance_type=kind,
        tol=0.0,
        reg_covar=0.0,
        max_iter=iterations,
        weights_init=weights,
        means_init=means,
        precisions_init=precision,
    )


@pytest.mark.parametrize("kind", COVARIANCES)
def test_a_gaussian_mixture_is_scikit_learns_after_every_iteration(kind: str) -> None:
    x = clusters()
    for iterations in (1, 5, 20):
        model = lt.models.gaussian_mixture(4, 3, covariance=COVARIANCES[kind], floor=1e-9).double()
        fitted(model, x, start="random", steps=1)
        reference = scikit_learns(model, kind, iterations)
        run = fitted(model, x, start="model", warm_start=True, steps=iterations, tol=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            reference.fit(x.numpy())
        assert len(bounds(run)) == reference.n_iter_ == iterations
        assert bounds(run)[-1] == pytest.approx(reference.lower_bound_, rel=1e-8)
        assert run.best_value == pytest.approx(reference.score(x.numpy()), rel=1e-8)
        expected = (reference.weights_, reference.means_, reference.covariances_)
        for one, other in zip(parameters(model), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(
            model.posterior(x).probs.numpy(), reference.predict_proba(x.numpy()), rtol=0, atol=1e-9
        )


def test_hard_em_with_one_small_spherical_covariance_is_k_means() -> None:
    x = clusters(300, 4, 5)
    start = x[:5].clone()
    table = lt.Table(5, 4)
    p = lt.Joint(k=lt.Categorical(5, logits="uniform"), x=lt.Normal(table, given="k", scale=1e-3))
    model = lt.Model(p, lt.Exact(p)).double()
    with torch.no_grad():
        table.weight.copy_(start)
    fitted(model, x, start="model", estep="hard", tol=0)
    reference = KMeans(5, init=start.numpy(), n_init=1, algorithm="lloyd", tol=0).fit(x.numpy())
    assert np.array_equal(model.encode(x).numpy(), reference.labels_)
    np.testing.assert_allclose(table.weight.detach().numpy(), reference.cluster_centers_, rtol=1e-12)


@pytest.mark.parametrize(
    ("latent", "log_likelihood", "noise"),
    [(2, 0.0057, 0.054117), (5, 8.9076, 0.036197), (10, 17.4519, 0.022751), (20, 27.2773, 0.011274)],
)
def test_ppca_on_digits_is_the_closed_form(latent: int, log_likelihood: float, noise: float) -> None:
    model = lt.models.ppca(64, latent).double()
    run = fitted(model, DIGITS)
    assert run.stopped == "converged" and run.steps <= 3
    assert lt.log_evidence(model, DIGITS).mean == pytest.approx(log_likelihood, abs=5.1e-5)
    assert run.best_value == pytest.approx(lt.log_evidence(model, DIGITS).mean, rel=1e-9)
    assert float(model.p["x"].scale.detach().square()) == pytest.approx(noise, abs=5.1e-7)


def test_ppca_is_scikit_learns_pca_with_n_in_the_place_of_n_minus_1() -> None:
    x = DIGITS[:, 10:30].numpy()
    model = lt.models.ppca(20, 3).double()
    fitted(model, torch.from_numpy(x))
    reference = PCA(3).fit(x)
    ours = lt.log_evidence(model, x).mean
    covariance = reference.get_covariance() * (len(x) - 1) / len(x)
    truth = multivariate_normal(reference.mean_, covariance).logpdf(x).mean()
    assert ours == pytest.approx(truth, abs=1e-9)
    assert 0 < ours - reference.score(x) < 1e-5


def test_ppca_by_em_from_a_random_start_reaches_the_closed_form() -> None:
    x = DIGITS[:, 10:30]
    closed, by_em = (lt.models.ppca(20, 2).double() for _ in range(2))
    fitted(closed, x)
    run = fitted(by_em, x, start="random", tol=1e-12, steps=3000)
    assert run.stopped == "converged" and run.steps > 20
    assert run.best_value == pytest.approx(lt.log_evidence(closed, x).mean, abs=1e-6)


def test_factor_analysis_is_scikit_learns() -> None:
    x = torch.cat([DIGITS[:, 2:6], DIGITS[:, 10:14]], dim=1)
    model = lt.models.factor_analysis(8, 2).double()
    run = fitted(model, x, tol=1e-11, steps=3000)
    reference = FactorAnalysis(2, tol=1e-10, max_iter=3000, svd_method="lapack").fit(x.numpy())
    assert run.stopped == "converged"
    assert lt.log_evidence(model, x).mean == pytest.approx(reference.score(x.numpy()), abs=1e-6)


def test_in_float32_components_far_from_the_origin_stay_positive_definite() -> None:
    x = clusters(2000, 6, 3)
    centred = (x - x.mean(0)) / x.std(0)
    for covariance in COVARIANCES.values():
        values = []
        for offset, dtype in ((1e4, torch.float32), (0.0, torch.float64)):
            rows = (centred + offset).to(dtype)
            model = lt.models.gaussian_mixture(6, 3, covariance=covariance).to(dtype)
            run = fitted(model, rows, steps=30, tol=0)
            tril = tril_of(model.p["x"].distribution(torch.arange(3))).detach().double()
            assert (torch.linalg.eigvalsh(tril @ tril.mT) > 1e-4).all()
            assert math.isfinite(run.best_value)
            assert min(np.diff(bounds(run))) > -1e-4
            values.append(lt.log_evidence(model, rows).mean)
        assert values[0] == pytest.approx(values[1], abs=2e-3)
