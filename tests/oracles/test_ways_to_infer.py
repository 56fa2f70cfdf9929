"""One model, three ways to its posterior: exact, a table with a row for each datum, a network for all.

The gap of each, log p(x) - ELBO = KL(q || p(z | x)), is what theory says.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.factors.covariances import Covariance
from latentia.noise import Noise
from latentia.posteriors import fit_posteriors

from .linear_gaussian import sigma_points

ENTRIES, LATENT = 4, 2


def clusters(rows: int = 300) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[-2.0, 0.0], [0.0, 1.5], [2.0, -0.5]], dtype=torch.float64)
    return torch.randn(rows, 2, generator=generator, dtype=torch.float64) + centres[torch.arange(rows) % 3]


def evidence(model: lt.Model, x: Tensor) -> Tensor:
    return lt.log_evidence(model, x, "exact").values


def rows_of(x: Tensor) -> dict[str, Tensor]:
    return {"x": x, "row": torch.arange(len(x))}


@torch.no_grad()
def mixture_bound(model: lt.Model, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The ELBO of each row, and KL(q(k | x) || p(k | x)), both summed over k."""
    bound = lt.elbo(model.p, model.q, values, Noise(0, dtype=torch.float64), enumerate=("k",)).value
    log_q = model.q["k"].distribution(*model.q.parents("k", values)).logits
    truth = lt.Exact(model.p).posterior(values).log_weights.mT
    return bound, (log_q.exp() * (log_q - truth)).sum(-1)


@torch.no_grad()
def gaussian_bound(model: lt.Model, values: dict[str, Tensor]) -> Tensor:
    """The ELBO of each row without Monte Carlo error: log p(x | z) is quadratic in z."""
    noise, samples = sigma_points(lambda noise, s: model.q.complete(values, noise, s))
    return lt.elbo(model.p, model.q, values, noise, samples=samples).value


def linear_gaussian() -> tuple[lt.Model, Tensor]:
    """PPCA whose posterior precision has large entries beside its diagonal."""
    factor = lt.LinearNormal(ENTRIES, LATENT)
    p = lt.Joint(z=lt.StandardNormal(LATENT), x=factor).double()
    with torch.no_grad():
        factor.weight.copy_(torch.tensor([[1.0, 0.8], [0.5, 0.9], [1.2, 0.7], [0.3, 0.1]]))
    model = lt.Model(p, lt.Exact(p))
    return model, model.sample(15, seed=1)


def precision(model: lt.Model) -> Tensor:
    """Of z given x: I + W^T W / sigma^2."""
    factor = model.p["x"]
    weight, variance = factor.weight.detach(), factor.scale.detach().square()
    return torch.eye(LATENT, dtype=torch.float64) + weight.mT @ weight / variance


@pytest.mark.parametrize("covariance", [lt.Full(), lt.Diagonal()])
def test_the_gap_of_a_table_is_that_of_its_family(covariance: Covariance) -> None:
    model, x = linear_gaussian()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = fit_posteriors(model, x, covariance, steps=500, samples=4, lr=0.05)
    gap = evidence(model, x) - gaussian_bound(found, rows_of(x))
    P = precision(model)
    expected = 0.5 * (P.diagonal().log().sum() - torch.logdet(P)) if covariance == lt.Diagonal() else 0.0
    assert (gap > -1e-9).all()
    torch.testing.assert_close(gap, torch.full_like(gap, float(expected)), rtol=0, atol=0.02)
    if covariance == lt.Diagonal():
        assert float(expected) > 0.3
        variance = found.posterior(rows_of(x)).variance
        torch.testing.assert_close(variance, (1 / P.diagonal()).expand(len(x), -1), rtol=0.15, atol=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.p.parameters())


def test_a_table_of_codes_and_the_exact_posterior_agree_also_on_rows_held_out() -> None:
    model, x = lt.models.gaussian_mixture(2, 3).double(), clusters()
    lt.fit(model, x[:260], progress=False)
    for rows in (x[:40], x[260:]):  # those it was fitted to, and others
        found = fit_posteriors(model, rows, steps=300, lr=0.3)
        bound, divergence = mixture_bound(found, rows_of(rows))
        torch.testing.assert_close(evidence(model, rows) - bound, divergence, rtol=0, atol=1e-9)
        assert float(divergence.max()) < 1e-3
        torch.testing.assert_close(
            found.posterior(rows_of(rows)).probs, model.posterior(rows).probs, rtol=0, atol=0.02
        )
        with pytest.raises(ValueError, match="the table of 'k' has 40 rows"):
            found.encode({"x": x[:50], "row": torch.arange(50)})


def test_holes_and_labels_are_known_to_a_table_too() -> None:
    model, x = lt.models.gaussian_mixture(2, 3).double(), clusters(60)
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.2] = math.nan
    x = x[~x.isnan().all(1)]
    lt.fit(model, x, progress=False, steps=20)
    label = torch.where(torch.arange(len(x)) < 20, torch.arange(len(x)) % 3, math.nan)
    half = lt.load_data({"x": x, "k": label}, types={"k": "category"}, split=(1.0, 0.0, 0.0)).train
    for rows in (x, half):
        model.schema = half.schema if rows is half else None
        found = fit_posteriors(model, rows, steps=250, lr=0.3)
        values = model.batch(model.rows(rows), slice(None)) | {"row": torch.arange(len(x))}
        with torch.no_grad():
            bound = lt.elbo(found.p, found.q, values, Noise(0, dtype=torch.float64), enumerate=("k",)).value
            gap = model.q.log_evidence(values) - bound
        assert (gap > -1e-12).all() and float(gap.max()) < 0.02
        if rows is half:
            assert float(gap[:20].abs().max()) < 1e-12


def test_a_mixture_by_ascent_with_a_network_for_q_comes_near_em_and_its_gap_is_the_divergence() -> None:
    x = clusters()
    by_em = lt.models.gaussian_mixture(2, 3, covariance=lt.Diagonal()).double()
    lt.fit(by_em, x, progress=False)
    p = lt.models.gaussian_mixture(2, 3, covariance=lt.Diagonal(), seed=1).p
    q = lt.Joint(k=lt.Categorical(lt.MLP(2, 3, hidden=(16,), activation="tanh"), given="x"))
    model = lt.Model(p, q).double()
    with torch.no_grad():
        p["x"].net.weight[:, :2] = x[:3]
    options = {"steps": 300, "batch": len(x), "lr": 0.04, "schedule": "cosine", "progress": False}
    lt.fit(model, x, lt.elbo, enumerate=("k",), **options)
    bound, divergence = mixture_bound(model, {"x": x})
    own, best = evidence(model, x), evidence(by_em, x)
    torch.testing.assert_close(own - bound, divergence, rtol=0, atol=1e-9)
    assert (divergence > -1e-12).all() and float(divergence.mean()) < 0.02
    assert float(own.mean()) < float(best.mean()) + 1e-6
    assert float(best.mean() - bound.mean()) < 0.05


def test_ppca_by_ascent_with_a_network_for_q_reaches_em() -> None:
    truth, _ = linear_gaussian()
    x = truth.sample(200, seed=2)
    by_em = lt.models.ppca(ENTRIES, LATENT).double()
    lt.fit(by_em, x, progress=False)
    p = lt.models.ppca(ENTRIES, LATENT, seed=1).p
    q = lt.Joint(z=lt.Normal(lt.MLP(ENTRIES, 5), given="x", covariance=lt.Full()))
    model = lt.Model(p, q).double()
    options = {"steps": 400, "batch": len(x), "lr": 0.05, "schedule": "cosine", "progress": False}
    lt.fit(model, x, lt.elbo, samples=2, **options)
    bound, own, best = gaussian_bound(model, {"x": x}), evidence(model, x), evidence(by_em, x)
    assert (own - bound > -1e-9).all()
    assert -1e-6 < float(best.mean() - own.mean()) < 0.01
    assert float(best.mean() - bound.mean()) < 0.02
