"""EM on options, models and data that do not suit it, and on the dullest that do."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import latentia as lt
from latentia.errors import DataError, DivergedError, UsageError
from latentia.factors.covariances import Spherical, Tied
from latentia.factors.priors import Beta, Dirichlet
from tests.laws.exact_models import CASES

from .clusters import bits_of_a_net, clusters, fitted, mixture, weights


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lr": 0.1}, "lr= is an option of gradient ascent"),
        ({"batch": 10}, "batch= is an option of gradient ascent"),
        ({"epochs": 2}, "epochs= is an option of gradient ascent"),
        ({"valid_every": 2}, "valid_every= is an option of gradient ascent"),
        ({"alternate": True}, "alternate= is an option of gradient ascent"),
        ({"start": "kmean"}, "start must be one of .*did you mean 'kmeans'"),
        ({"estep": "soft"}, "estep must be one of 'exact', 'hard', 'sampled'"),
        ({"starts": 0}, "starts must be at least 1"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"tol": -1.0}, "tol must not be negative"),
        ({"tol": math.nan}, "tol must not be negative"),
        ({"priors": {"K": Dirichlet(2.0)}}, "priors name 'K'.*misspelt"),
        ({"priors": {"k": Beta(2.0, 2.0)}}, "the conjugate prior of a Categorical is a Dirichlet"),
        ({"starts": 3, "start": "model"}, "start='model' begins at the parameters as they are"),
        ({"strat": "model"}, "method 'em' has no option 'strat'.*did you mean 'start'"),
        ({"samples": 3}, "method 'em' has no option 'samples'"),
        ({"resumed": "there"}, "method 'em' has no option 'resumed'"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    model, x = mixture(), clusters(50)
    before = weights(model)
    with pytest.raises((UsageError, TypeError), match=sentence):
        fitted(model, x, method="em", out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists() and not model.fitted and model.schema is None
    assert torch.equal(before, weights(model))


def two_in_one() -> lt.Joint:
    return lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 2), given="z", scale="learnt"))


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (lambda: mixture(components=51).p, {}, "51 components are more than the 50 rows"),
        (lambda: mixture().p, {"objective": lt.elbo}, "'em' maximises the evidence itself: leave out elbo"),
        (two_in_one, {}, "Normal given z has no closed-form M-step for a Gaussian latent: use LinearNormal"),
        (CASES["chain"].make, {}, "'z1' and its parents are Gaussian latents together"),
        (CASES["computed"].make, {}, "'h' is computed by a net, and EM has no M-step for that"),
        (bits_of_a_net, {"starts": 2}, "the states of 'h' are no codes"),
    ],
)
def test_models_that_em_cannot_fit_are_refused_before_anything_is_written(
    make: Any, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    p = make().double()
    model, x = (
        lt.Model(p, lt.Exact(p)),
        (clusters(50, p["x"].event[0] if p["x"].event[0] < 3 else 2) > 0).double(),
    )
    x = torch.nn.functional.pad(x, (0, p["x"].event[0] - 2))
    with pytest.raises(UsageError, match=sentence):
        fitted(model, x, method="em", out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists() and not model.fitted
    with pytest.raises(UsageError, match="needs the exact posterior"):
        fitted(lt.models.vae(2, 2), clusters(50), method="em")


def notes_of(model: lt.Model, x: Any, **options: object) -> str:
    return " | ".join(fitted(model, x, **options).notes)


def test_what_a_user_should_know_is_said() -> None:
    x = clusters(60)
    assert "not converged after 2 iterations: the objective still changed by" in notes_of(
        mixture(), x, start="random", steps=2
    )
    assert "raise steps, or tol" in notes_of(mixture(), x, start="random", steps=2)
    assert not notes_of(mixture(), x)
    same = x[:2].repeat(20, 1)
    for covariance in (lt.Full(), lt.Diagonal(), Spherical()):
        said = notes_of(mixture(covariance=covariance), same)
        assert "'k': component 2 holds less than one row: use fewer components" in said
        assert "'x': a standard deviation is at its floor of 0.001 in component 0, 1" in said
        assert "raise floor=" in said
    constant = torch.cat([x, torch.full((60, 1), 7.0)], 1)
    for model in (
        mixture(entries=3, components=1, covariance=Tied()),
        lt.models.factor_analysis(3, 1).double(),
        lt.models.categorical_mixture(("number",) * 3, 2).double(),
    ):
        assert "'x': a standard deviation is at its floor of 0.001, without" in notes_of(model, constant)
    several = fitted(mixture(components=4), same, start="random", starts=3)
    assert sum("holds less than one row" in note for note in several.notes) == 1


@pytest.mark.parametrize(
    "case", ["one column", "one component", "one row", "the same rows", "constant", "no cell of a column"]
)
def test_the_smallest_and_dullest_data_give_finite_numbers(case: str) -> None:
    x = clusters(30)
    components = {"one component": 1, "one row": 1}.get(case, 2)
    rows = {
        "one column": x[:, :1],
        "one row": x[:1],
        "the same rows": x[:1].repeat(30, 1),
        "constant": torch.cat([x[:, :1], torch.ones(30, 1)], 1),
        "no cell of a column": torch.cat([x[:, :1], torch.full((30, 1), math.nan)], 1),
    }.get(case, x)
    entries = rows.shape[1]
    makes: list[Any] = [lt.models.gaussian_mixture]
    for covariance in (lt.Full(), lt.Diagonal(), Spherical(), Tied()):
        makes.append(partial(lt.models.gaussian_mixture, covariance=covariance))
    models = [make(entries, components).double() for make in makes]
    if entries > 1:  # a linear map of one column leaves nothing to the noise
        models += [make(entries, 1).double() for make in (lt.models.ppca, lt.models.factor_analysis)]
        models.append(lt.models.mixture_of_factor_analysers(entries, components, 1).double())
    for model in models:
        run = fitted(model, rows, steps=20)
        assert math.isfinite(run.best_value)
        assert bool(weights(model).isfinite().all())
        assert bool(model.log_evidence(rows).isfinite().all())
        codes = model.encode(rows)
        for code in codes.values() if isinstance(codes, dict) else [codes]:
            assert bool(code.isfinite().all())


def test_rows_without_any_cell_are_left_out_and_infinite_ones_refused() -> None:
    x = clusters(30)
    data = lt.load_data(torch.cat([x, torch.full((2, 2), math.nan)]), split=(1.0, 0.0, 0.0))
    assert any("2 rows with nothing observed" in note for note in data.notes)
    whole, left = mixture(), mixture()
    fitted(whole, x)
    fitted(left, data)
    assert torch.equal(weights(whole), weights(left))
    some = torch.cat([x, torch.tensor([[math.nan, 1.0], [math.nan, math.nan]])])
    assert mixture().log_evidence(some)[-1] == 0.0
    with pytest.raises(DataError, match="not finite"):
        fitted(mixture(), torch.cat([x, torch.full((1, 2), math.inf)]))


def test_numbers_beyond_the_type_are_refused_with_a_sentence() -> None:
    x = torch.cat([clusters(30).float(), torch.full((1, 2), 1e30)])
    for make in (lt.models.ppca, lt.models.factor_analysis):
        with pytest.raises(ValueError, match="the covariance is not finite"):
            fitted(make(2, 1), x)
        with pytest.raises(DivergedError, match="look for extreme values in the data"):
            fitted(make(2, 1), x, start="model")
