"""PPCA, factor analysis and mixtures of factor analysers: evidence, EM, the data that suit them, archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

import latentia as lt
from latentia.factors.principal import principal_axes_of

MODELS: dict[str, Callable[..., lt.Model]] = {
    "ppca": lt.models.ppca,
    "factor_analysis": lt.models.factor_analysis,
    "mixture_of_factor_analysers": lt.models.mixture_of_factor_analysers,
}


def marginals(model: lt.Model) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """The mixture of Gaussians that x follows: weights, means and covariances."""
    factor = model.p["x"]
    states, size = factor.states or 1, factor.entries
    weight = factor.weight.detach().reshape(states, size, -1)
    bias = factor.bias.detach().reshape(states, size)
    noise = torch.diag_embed(factor.scale.detach().reshape(states, -1).expand(states, size).square())
    log_k = torch.zeros(1)
    if factor.states is not None:
        log_k = model.p["k"].distribution().logits.detach()
    return [
        (float(log_k[k]), bias[k].numpy(), (weight[k] @ weight[k].mT + noise[k]).numpy())
        for k in range(states)
    ]


def evidence(model: lt.Model, x: Tensor, seen: Tensor | None = None) -> np.ndarray:
    """log p(x) of each row, by scipy."""
    result = []
    for n, row in enumerate(x.flatten(1).numpy()):
        kept = np.full(len(row), True) if seen is None else seen[n].flatten().numpy()
        parts = marginals(model)
        terms = [
            log_k + multivariate_normal(mean[kept], covariance[np.ix_(kept, kept)]).logpdf(row[kept])
            for log_k, mean, covariance in parts
        ]
        result.append(logsumexp(terms))
    return np.array(result)


def rows(event: tuple[int, ...], count: int = 30) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *event, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("event", [(4,), (1, 2, 3)])
def test_the_evidence_is_that_of_the_gaussian_marginal(name: str, event: tuple[int, ...]) -> None:
    model, x = MODELS[name](event, latent=2).double(), rows(event)
    with torch.no_grad():
        model.p["x"].bias.normal_()
    np.testing.assert_allclose(model.log_evidence(x).numpy(), evidence(model, x), rtol=1e-9)
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    seen.flatten(1)[:, 0] = True
    holes = torch.where(seen, x, torch.nan)
    np.testing.assert_allclose(model.log_evidence(holes).numpy(), evidence(model, x, seen), rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("event", [(4,), (1, 2, 3)])
@pytest.mark.parametrize("holes", [False, True])
def test_em_never_decreases_the_evidence(name: str, event: tuple[int, ...], holes: bool) -> None:
    x = rows(event) * torch.linspace(1, 2, 30).reshape(-1, *(1,) * len(event)).double() + 100
    if holes:
        x[torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.2] = torch.nan
    options = {"components": 2} if "mixture" in name else {}
    model = MODELS[name](event, latent=1, **options).double()
    run = lt.fit(
        model, lt.load_data(x, split=(1.0, 0.0, 0.0)), method="em", steps=15, start="random", progress=False
    )
    values = [record["bound"] for record in run.history if record["split"] == "train"]
    assert min(np.diff(values)) > -1e-9
    assert values[-1] > values[0]


def test_em_reaches_ppcas_closed_form() -> None:
    x = rows((6,), 200) * torch.tensor([3.0, 2.0, 0.5, 0.5, 0.5, 0.5]).double()
    axes = principal_axes_of(x, 2)
    model = lt.models.ppca(6, latent=2).double()
    lt.fit(
        model,
        lt.load_data(x, split=(1.0, 0.0, 0.0)),
        method="em",
        steps=500,
        tol=1e-13,
        start="random",
        progress=False,
    )
    weight = model.p["x"].weight.detach()
    torch.testing.assert_close(weight @ weight.mT, axes.weight @ axes.weight.mT, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.p["x"].scale.detach().square().squeeze(), axes.noise, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    model, x = MODELS[name](4, latent=2, seed=3).double(), rows((4,))
    again = lt.load_model(lt.save(model, tmp_path))
    assert torch.equal(again.log_evidence(x), model.log_evidence(x))
    assert again.p.equation() == model.p.equation()


def test_samples_follow_the_model() -> None:
    model = lt.models.factor_analysis(3, latent=2).double()
    ((_, mean, covariance),) = marginals(model)
    drawn = model.sample(200_000, seed=1)
    np.testing.assert_allclose(drawn.mean(0).numpy(), mean, atol=0.02)
    np.testing.assert_allclose(torch.cov(drawn.mT).numpy(), covariance, atol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_the_data_say_the_event_and_must_be_numbers(name: str) -> None:
    generator = np.random.default_rng(0)
    numbers = pd.DataFrame(generator.standard_normal((40, 3)), columns=["a", "b", "c"])
    model = MODELS[name](data=lt.load_data(numbers))
    assert model.p["x"].event == (3,) and model.schema is not None
    mixed = numbers.assign(colour=["red", "green", "blue", "red"] * 10)
    with pytest.raises(ValueError, match=r"takes numbers, and the data hold column 'colour' \(category\)"):
        MODELS[name](data=lt.load_data(mixed))
    with pytest.raises(ValueError, match=r"takes numbers, and the data hold 'x' \(binary\)"):
        MODELS[name](data=lt.load_data((generator.random((40, 3)) < 0.5).astype(np.float32)))
    assert MODELS[name](data=lt.load_data("digits")).p["x"].event == (1, 8, 8)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="latent=0"):
        lt.models.ppca(4, latent=0)
    with pytest.raises(ValueError, match="components=0"):
        lt.models.mixture_of_factor_analysers(4, components=0)
    with pytest.raises(ValueError, match="say the shape"):
        lt.models.factor_analysis()


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_as_many_latents_as_columns_are_refused(make: Callable[..., lt.Model]) -> None:
    for event, latent in ((4, 4), ((1, 2, 2), 5), (1, 1)):
        with pytest.raises(ValueError, match=f"latent={latent} is too many for . column.*to the noise"):
            make(event, latent=latent)
    assert make((1, 2, 2), latent=3).p["z"].event == (3,)
    with pytest.raises(ValueError, match="2 columns, with room for at most latent=1: "):
        make(
            data=lt.load_data(torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).numpy()),
            latent=2,
        )
