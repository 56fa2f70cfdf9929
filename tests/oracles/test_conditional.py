"""condition, marginal and impute against textbook formulas, brute force and enumeration, in float64."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_wine
from torch import Tensor

import latentia as lt
from latentia.factors.gaussian import LowRankNormal

D = 4
NAN = math.nan


def randomised(model: lt.Model, seed: int = 0, spread: float = 0.7) -> lt.Model:
    """The model in float64, every parameter somewhere else."""
    generator = torch.Generator().manual_seed(seed)
    model.double().requires_grad_(False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            step = 0.05 if "raw_scale" in name else spread
            parameter.add_(step * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def mixture(components: int = 3, covariance: object = None, seed: int = 0) -> lt.Model:
    return randomised(lt.models.gaussian_mixture(D, components, covariance=covariance), seed)


def gaussians(model: lt.Model) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Weights, means and covariances of a model of numbers, the Gaussian latents integrated out by hand."""
    p = model.p
    x, weights = p["x"], torch.ones(1, dtype=torch.float64)
    if "k" in p:
        weights = p["k"].distribution().probs
    if "z" in p:
        scale = x.scale.expand(*x.scale.shape[:-1], D)
        covariance = x.weight @ x.weight.mT + torch.diag_embed(scale.square())
        means, covariances = x.bias.reshape(-1, D), covariance.reshape(-1, D, D)
    else:
        of = [x.distribution(torch.tensor([k])) for k in range(len(weights))]
        means = torch.cat([one.mean for one in of])
        spread = [
            one.covariance_matrix if hasattr(one, "covariance_matrix") else torch.diag_embed(one.variance)
            for one in of
        ]
        covariances = torch.cat([one.reshape(1, D, D) for one in spread])
    return weights, list(means), list(covariances)


def density(model: lt.Model, x: Tensor, places: list[int]) -> Tensor:
    """p(x_places) of a mixture of Gaussians, by scipy."""
    parts = zip(*gaussians(model), strict=True)
    pick = np.ix_(places, places)
    whole = [float(w) * multivariate_normal(m[places], c[pick]).pdf(x) for w, m, c in parts]
    return torch.as_tensor(sum(whole))


MODELS = {
    "full": lambda: mixture(),
    "tied": lambda: mixture(covariance=lt.Tied()),
    "low-rank": lambda: mixture(covariance=lt.LowRank(1)),
    "diagonal": lambda: mixture(covariance=lt.Diagonal()),
    "spherical": lambda: mixture(covariance=lt.Spherical()),
    "ppca": lambda: randomised(lt.models.ppca(D, 2)),
    "factor analysis": lambda: randomised(lt.models.factor_analysis(D, 2)),
    "mixture of factor analysers": lambda: randomised(lt.models.mixture_of_factor_analysers(D, 3, 2)),
}


def holed(missing: list[int], rows: int = 5, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=generator, dtype=torch.float64)
    x[:, missing] = NAN
    return x


def test_one_components_conditional_is_the_textbooks() -> None:
    model, x = mixture(1), holed([0, 2])
    _, (mu,), (sigma,) = gaussians(model)
    a, b = [0, 2], [1, 3]
    gain = sigma[a][:, b] @ torch.linalg.inv(sigma[b][:, b])  # Bishop (2006), eqs. 2.81-2.82
    mean = mu[a] + (x[:, b] - mu[b]) @ gain.mT
    covariance = sigma[a][:, a] - gain @ sigma[b][:, a]
    found = lt.condition(model, x).component_distribution
    assert torch.allclose(found.mean.squeeze(1), mean, rtol=1e-10)
    assert torch.allclose(found.covariance_matrix, covariance.expand(5, 1, 2, 2), rtol=1e-10)
    filled = lt.impute(model, x)
    assert torch.allclose(filled[:, a], mean, rtol=1e-10)
    assert torch.equal(filled[:, b], x[:, b])


@pytest.mark.parametrize("kind", MODELS)
def test_conditional_densities_are_joint_over_marginal(kind: str) -> None:
    model, missing, seen = MODELS[kind](), [1, 2], [0, 3]
    x = holed(missing, rows=1)
    line = torch.linspace(-3, 3, 7, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    whole = x.repeat(len(grid), 1)
    whole[:, missing] = grid
    expected = density(model, whole, [0, 1, 2, 3]) / density(model, x[:, seen], seen)
    conditional, marginal = lt.condition(model, x), lt.marginal(model, missing)
    assert conditional.batch_shape == (1,)
    assert marginal.batch_shape == ()
    assert torch.allclose(conditional.log_prob(grid).exp(), expected, rtol=1e-9)
    assert torch.allclose(marginal.log_prob(grid).exp(), density(model, grid, missing), rtol=1e-9)
    rows = torch.full((len(grid), D), NAN, dtype=torch.float64)
    rows[:, missing] = grid
    assert torch.allclose(marginal.log_prob(grid), model.log_evidence({"x": rows}), rtol=1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_means_and_draws_agree_with_the_conditional(kind: str) -> None:
    model, draws = MODELS[kind](), 2000
    x = torch.cat([holed([1, 2], 2), holed([0], 1), holed([], 1), holed([0, 1, 2, 3], 1)])
    filled, drawn = lt.impute(model, x), lt.impute(model, x, draws=draws, seed=1)
    assert drawn.shape == (draws, 5, D)
    seen = ~x.isnan()
    assert torch.equal(filled[seen], x[seen])
    assert torch.equal(drawn[:, seen], x[seen].expand(draws, -1))
    for row in (0, 2, 4):
        places = (~seen[row]).nonzero().flatten()
        conditional = lt.condition(model, x[row : row + 1])
        mean, sigma = conditional.mean[0], conditional.variance[0].sqrt()
        assert torch.allclose(filled[row, places], mean, rtol=1e-9)
        sample = drawn[:, row][:, places]
        assert ((sample.mean(0) - mean).abs() < 5 * sigma / math.sqrt(draws)).all()
        fourth = (sample - mean).pow(4).mean(0).sqrt()
        assert ((sample.var(0) - sigma**2).abs() < 5 * fourth / math.sqrt(draws)).all()
    assert torch.equal(drawn, lt.impute(model, x, draws=draws, seed=1))
    assert not torch.equal(drawn, lt.impute(model, x, draws=draws, seed=2))


def test_ppca_is_the_gaussian_with_its_covariance() -> None:
    model = MODELS["ppca"]()
    _, (mean,), (covariance,) = gaussians(model)
    whole = lt.marginal(model, "x")
    assert torch.allclose(whole.mean, mean)
    assert torch.allclose(whole.covariance_matrix, covariance, rtol=1e-10)
    one = torch.distributions.MultivariateNormal(mean, covariance)
    point = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64)
    assert torch.allclose(whole.log_prob(point), one.log_prob(point), rtol=1e-10)


def binary(rows: int = 6, entries: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, entries, generator=generator, dtype=torch.float64).round()
    x[:, [0, 3]] = NAN
    return x


def enumerated(model: lt.Model, x: Tensor, missing: list[int]) -> tuple[Tensor, Tensor]:
    """Every completion of the rows, `[2^m, m]`, and its probability given what was observed, `[N, 2^m]`."""
    values = torch.tensor(list(product((0.0, 1.0), repeat=len(missing))), dtype=torch.float64)
    joint = []
    for value in values:
        whole = x.clone()
        whole[:, missing] = value
        joint.append(model.log_evidence({"x": whole}))
    return values, torch.stack(joint, 1).softmax(1)


@pytest.mark.parametrize("kind", ["bernoulli_mixture", "log_linear"])
def test_binary_rows_are_completed_as_enumeration_says(kind: str) -> None:
    model, missing = randomised(getattr(lt.models, kind)(5, 3), seed=4), [0, 3]
    x = binary()
    values, probabilities = enumerated(model, x, missing)
    conditional = lt.condition(model, x)
    found = torch.stack([conditional.log_prob(value.expand(6, 2)) for value in values], 1).exp()
    assert torch.allclose(found, probabilities, rtol=1e-9)
    mean = probabilities @ values
    assert torch.allclose(lt.impute(model, x, rounded=False)[:, missing], mean, rtol=1e-9)
    filled = lt.impute(model, x)[:, missing]
    likeliest = values[probabilities.argmax(1)] if kind == "log_linear" else mean.round()
    assert torch.equal(filled, likeliest)
    drawn = lt.impute(model, x, draws=4000)[:, :, missing]
    shares = torch.stack([(drawn == value).all(-1).double().mean(0) for value in values], 1)
    assert ((shares - probabilities).abs() < 5 * (probabilities / 4000).sqrt() + 1e-3).all()
    marginal = lt.marginal(model, [3, 1])
    rows = torch.full((4, 5), NAN, dtype=torch.float64)
    rows[:, [3, 1]] = values
    assert torch.allclose(marginal.log_prob(values), model.log_evidence({"x": rows}), rtol=1e-9)
    assert marginal.log_prob(values).exp().sum() == pytest.approx(1, rel=1e-12)


def test_models_without_latents_are_conditioned_too() -> None:
    p = lt.Joint(x=lt.LogLinear(("unary", "pairwise"), event=5))
    model, x = randomised(lt.Model(p), seed=2), binary()
    values, probabilities = enumerated(model, x, [0, 3])
    assert torch.allclose(lt.impute(model, x, rounded=False)[:, [0, 3]], probabilities @ values, rtol=1e-9)
    model = randomised(lt.Model(lt.Joint(x=lt.Normal(lt.Constant(14), covariance=lt.Full()))))
    whole = lt.marginal(model, [0, 1, 2, 3])
    assert torch.allclose(lt.condition(model, holed([2])).mean[:, 0], lt.impute(model, holed([2]))[:, 2])
    assert whole.event_shape == (D,)


def test_mixed_tables_keep_their_kinds() -> None:
    model = randomised(lt.models.categorical_mixture((3, "binary", "number", "count"), 2), seed=1)
    x = torch.tensor([[NAN, 1, 0.3, 2], [2, NAN, NAN, NAN], [0, 1, 1.0, 4]], dtype=torch.float64)
    codes = torch.tensor([[c, 1, 0.3, 2] for c in range(3)], dtype=torch.float64)
    likeliest = model.log_evidence({"x": codes}).argmax()
    filled = lt.impute(model, x)
    assert filled[0].tolist() == [float(likeliest), 1, 0.3, 2]
    assert filled[1, 0] == 2
    assert filled[1, 1] in (0, 1)
    assert filled[1, 3] == filled[1, 3].round()
    soft = lt.impute(model, x, rounded=False)
    assert 0 < soft[1, 1] < 1
    both = torch.tensor([[2, b, NAN, NAN] for b in (0, 1)], dtype=torch.float64)
    assert soft[1, 1] == pytest.approx(float(model.log_evidence({"x": both}).softmax(0)[1]), rel=1e-9)
    conditional = lt.condition(model, x[:1])
    expected = model.log_evidence({"x": codes}).log_softmax(0)
    assert torch.allclose(conditional.log_prob(codes[:, :1]), expected)
    assert conditional.mean.tolist() == [[float(likeliest)]]
    marginal = lt.marginal(model, [2, 0])
    point = torch.tensor([0.4, 1.0], dtype=torch.float64)
    row = torch.tensor([[1.0, NAN, 0.4, NAN]], dtype=torch.float64)
    assert torch.allclose(marginal.log_prob(point), model.log_evidence({"x": row}))
    drawn = lt.impute(model, x, draws=50)
    assert drawn[:, 0, 0].unique().tolist() == [0, 1, 2]
    assert (drawn[:, 1, 3] == drawn[:, 1, 3].round()).all()


def test_several_variables_share_their_latents() -> None:
    p = lt.Joint(
        k=lt.Categorical(2),
        x=lt.Normal(lt.Table(2, 4), given="k"),
        y=lt.Categorical(lt.Table(2, 3), given="k"),
    )
    model = randomised(lt.Model(p, lt.Exact(p, "k")), seed=3, spread=3.0)
    x = torch.tensor([[0.5, NAN], [1.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([NAN, 1.0])
    filled = lt.impute(model, {"x": x, "y": y})
    assert filled["x"][1].tolist() == [1.0, 2.0]
    assert filled["y"][1] == 1
    told = lt.impute(model, {"x": x, "y": y, "k": torch.tensor([1.0, NAN])})
    assert told["x"][0, 1] == model.p["x"].distribution(torch.tensor([1])).mean[0, 1]
    drawn = lt.impute(model, {"x": x, "y": y}, draws=20_000)
    normals = [model.p["x"].distribution(torch.tensor([k])) for k in (0, 1)]
    seen = torch.stack([one.base_dist.log_prob(torch.tensor(0.5))[0, 0] for one in normals])
    weights = (model.p["k"].distribution().logits + seen).softmax(0)
    given = [one.mean[0, 1] for one in normals]
    odds = [model.p["y"].distribution(torch.tensor([k])).probs[0] for k in (0, 1)]
    hits = (drawn["y"][:, 0] == 0).double()
    both = float((drawn["x"][:, 0, 1] * hits).mean())  # E[x 1[y = 0]]: needs one k for both
    expected = sum(float(w * m * o[0]) for w, m, o in zip(weights, given, odds, strict=True))
    assert both == pytest.approx(expected, abs=5 * float((drawn["x"][:, 0, 1] * hits).std()) / 141)
    assert lt.marginal(model, "y").probs.sum() == pytest.approx(1)
    assert lt.marginal(model, "x").event_shape == (2,)


@pytest.fixture(scope="module")
def wine() -> tuple[Tensor, Tensor]:
    """Wine's columns, and the same with 30 % of the cells missing completely at random."""
    return with_holes(load_wine().data)


def with_holes(data: np.ndarray) -> tuple[Tensor, Tensor]:
    whole = torch.from_numpy(data)
    gone = torch.rand(whole.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    return whole, torch.where(gone, NAN, whole)


def errors(model: lt.Model, whole: Tensor, holes: Tensor) -> tuple[float, float]:
    """Mean squared errors of imputed cells and of the columns' means, in standard deviations."""
    gone, scale = holes.isnan(), whole.std(0)
    filled = lt.impute(model, holes)
    assert torch.equal(filled[~gone], holes[~gone])
    means = holes.nanmean(0).expand_as(holes)
    return tuple(float(((guess - whole) / scale)[gone].square().mean()) for guess in (filled, means))


@pytest.mark.parametrize("kind", ["full", "ppca", "factor analysis"])
def test_em_on_rows_with_holes_never_decreases_the_evidence(kind: str, wine: tuple[Tensor, Tensor]) -> None:
    whole, holes = wine
    scaled = (holes - holes.nanmean(0)) / whole.std(0)

    def fitted(x: Tensor) -> tuple[lt.Model, Tensor]:
        made = {
            "full": lambda: lt.models.gaussian_mixture(13, 2),
            "ppca": lambda: lt.models.ppca(13, 3),
            "factor analysis": lambda: lt.models.factor_analysis(13, 3),
        }[kind]().double()
        run = lt.fit(made, x, steps=30, tol=1e-9, progress=False)
        return made, torch.tensor([one["bound"] for one in run.history if one["split"] == "train"])

    model, bounds = fitted(scaled)
    assert len(bounds) > 5
    assert (bounds.diff() > -1e-9).all()
    on_means, _ = fitted(scaled.nan_to_num())
    ours, theirs = (lt.log_evidence(one, model.rows(scaled)).mean for one in (model, on_means))
    assert ours > theirs


def test_imputing_wine_and_breast_cancer_beats_their_means(wine: tuple[Tensor, Tensor]) -> None:
    for (whole, holes), model in (
        (wine, lt.models.gaussian_mixture(13, 2, covariance=lt.Tied())),
        (with_holes(load_breast_cancer().data), lt.models.factor_analysis(30, 5)),
    ):
        data = lt.load_data(holes, standardise=True, split=(1, 0, 0))
        lt.fit(model, data, steps=30, progress=False)
        ours, means = errors(model, whole, holes)
        assert ours < 0.75 * means, (ours, means)


def test_a_marginal_beside_small_noise_stays_positive_definite() -> None:
    model = lt.models.ppca(6, 2).double()
    factor = model.p["x"]
    with torch.no_grad():
        factor.weight.mul_(1e6)
        factor.raw_scale.fill_(-math.inf)
    found, places = lt.marginal(model, [0, 1, 2, 3, 4]), slice(0, 5)
    noise = factor.scale.detach().expand(5)
    known = LowRankNormal(factor.bias.detach()[places], factor.weight.detach()[places], noise)
    torch.testing.assert_close(found.log_prob(found.mean), known.log_prob(found.mean), rtol=1e-5, atol=0)
