"""The VAE family on real data: shapes, likelihoods, holes, units; the linear VAE against PPCA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

import latentia as lt

CSV = """age,smoker,visits,city
31,yes,0,Bern
45,no,1,Basel
,no,0,Bern
52,yes,3,Chur
28,no,?,Basel
39,yes,2,Bern
61,no,0,Chur
33,yes,1,Basel
47,no,5,Bern
50,no,0,Chur
"""


@pytest.fixture
def mixed(tmp_path: Path) -> lt.data.Data:
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    types = "age=number,smoker=binary,visits=count,city=category"
    return lt.load_data(path, types=types, split=(0.8, 0.1, 0.1))


def quick(model: lt.Model, data: lt.data.Data, **options: object) -> lt.Run:
    return lt.fit(model, data, **({"steps": 30, "progress": False} | options))


def test_a_mixed_table_gets_the_likelihood_of_each_column(mixed: lt.data.Data) -> None:
    model = lt.models.vae(data=mixed, latent=2, hidden=(8,))
    assert model.p["x"].columns == ("number", "binary", "count", 3)
    quick(model, mixed)
    estimate = lt.log_evidence(model, mixed.train, samples=50)
    assert torch.isfinite(estimate.values).all()
    sample = model.sample(500)
    assert set(sample[:, 1].tolist()) <= {0.0, 1.0}
    assert set(sample[:, 3].tolist()) <= {0.0, 1.0, 2.0}
    assert bool((sample[:, 2] >= 0).all() and (sample[:, 2] == sample[:, 2].round()).all())
    assert 20 < float(sample[:, 0].mean()) < 70


def test_columns_sum_the_log_probabilities_of_their_kinds() -> None:
    columns = ("number", "binary", "count", 3)
    factor = lt.Columns(lt.Constant(6), columns=columns).double()
    torch.manual_seed(0)
    raw = torch.randn(6, dtype=torch.float64)
    factor.net.value.data = raw
    x = torch.tensor([[0.3, 1.0, 4.0, 2.0], [-1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    d = torch.distributions
    expected = (
        d.Normal(raw[0], factor.scale[0]).log_prob(x[:, 0])
        + d.Bernoulli(logits=raw[1]).log_prob(x[:, 1])
        + d.Poisson(nn.functional.softplus(raw[2]) + 1e-6).log_prob(x[:, 2])
        + d.Categorical(logits=raw[3:]).log_prob(x[:, 3])
    )
    torch.testing.assert_close(factor.log_prob(x), expected)
    observed = torch.tensor([[True, True, True, False], [False, True, True, True]])
    left_out = (
        d.Categorical(logits=raw[3:]).log_prob(x[0, 3]),
        d.Normal(raw[0], factor.scale[0]).log_prob(x[1, 0]),
    )
    torch.testing.assert_close(factor.log_prob(x, observed=observed), expected - torch.stack(left_out))


def test_columns_draw_what_they_say() -> None:
    factor = lt.Columns(lt.Constant(6), columns=("number", "binary", "count", 3))
    factor.net.value.data = torch.tensor([2.0, 1.0, 3.0, 0.0, 1.0, -1.0])
    draws = lt.Joint(x=factor).complete({}, lt.Noise(3), samples=1, batch=40_000).values["x"][0]
    torch.testing.assert_close(draws[:, 0].mean(), torch.tensor(2.0), atol=0.03, rtol=0)
    torch.testing.assert_close(draws[:, 1].mean(), torch.sigmoid(torch.tensor(1.0)), atol=0.02, rtol=0)
    rate = nn.functional.softplus(torch.tensor(3.0))
    torch.testing.assert_close(draws[:, 2].mean(), rate, atol=0.05, rtol=0)
    torch.testing.assert_close(draws[:, 2].var(), rate, atol=0.2, rtol=0)
    frequencies = torch.bincount(draws[:, 3].long(), minlength=3) / len(draws)
    torch.testing.assert_close(
        frequencies, torch.softmax(torch.tensor([0.0, 1.0, -1.0]), 0), atol=0.02, rtol=0
    )


def test_holes_need_an_encoder_that_sees_them(mixed: lt.data.Data) -> None:
    blind = lt.models.vae(4, 2, likelihood=("number", "binary", "count", 3))
    with pytest.raises(ValueError, match=r"missing cells in column 'age'.*missing=True"):
        quick(blind, mixed)


def test_a_family_that_cannot_marginalise_refuses_holes_by_column(mixed: lt.data.Data) -> None:
    class Joined(lt.Factor):
        def distribution(self, *parents: Tensor) -> Distribution:
            (loc,) = self.parts(*parents)
            return MultivariateNormal(loc, torch.eye(4), validate_args=False)

    p = lt.Joint(z=lt.StandardNormal(2), x=Joined(lt.MLP(2, 4), given="z"))
    coded = 1 + 1 + 1 + 3
    model = lt.Model(p, lt.Joint(z=lt.Normal(lt.MLP(coded, 4, missing=True), given="x")))
    with pytest.raises(ValueError, match=r"Joined cannot marginalise.*column 'age'"):
        quick(model, mixed)


def test_missing_cells_do_not_change_the_evidence_of_the_rest() -> None:
    p = lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", scale=0.5))
    x, seen = torch.randn(5, 3), torch.tensor([True, False, True]).expand(5, 3)
    values = {"z": torch.randn(5, 2), "x": torch.where(seen, x, torch.zeros(())), "x.observed": seen}
    loc = p["x"].distribution(values["z"]).base_dist.loc
    expected = torch.distributions.Normal(loc, 0.5).log_prob(x)[:, [0, 2]].sum(1)
    torch.testing.assert_close(p.log_probs(values)["x"], expected)


@pytest.mark.parametrize("event", [(1, 8, 8), (3, 9, 7), (1, 5, 6)])
def test_convolutional_models_give_back_any_image_size(event: tuple[int, ...]) -> None:
    for make in (lt.models.vae, lt.models.autoencoder):
        model = make(event, 3, conv=True, channels=(4, 6))
        x = torch.rand(7, *event)
        assert model.reconstruct(x).shape == x.shape
        assert model.encode(x).shape == (7, 3)
    with pytest.raises(ValueError, match="too small"):
        lt.models.vae((1, 4, 4), 2, conv=True, channels=(4, 6, 8))
    with pytest.raises(ValueError, match="image shape"):
        lt.models.vae(64, 2, conv=True)


def test_an_autoencoder_reconstructs_and_makes_no_claim_of_evidence() -> None:
    data = lt.load_data("digits")
    model = lt.models.autoencoder(data=data, latent=8)
    run = quick(model, data, steps=300)
    assert "none" not in str(run)
    error = (model.reconstruct(data.test) - 16.0 * data.test.batch()["x"]).square().mean().sqrt()
    assert float(error) < 3.5
    assert lt.log_evidence(model, data.test, "elbo", 1).direction == "none"
    for refused in (lambda: lt.log_evidence(model, data.test), lambda: model.log_evidence(data.test)):
        with pytest.raises(ValueError, match="reconstructions and no evidence"):
            refused()
    with pytest.raises(ValueError, match="cannot be sampled"):
        model.sample(3)


def test_results_come_back_in_the_datas_units() -> None:
    data = lt.load_data("wine")
    model = lt.models.vae(data=data, latent=3, hidden=(32,))
    quick(model, data, steps=600, lr=3e-3)
    x = data.test.schema.decode("x", data.test.batch()["x"])
    again = model.reconstruct(x)
    correlation = torch.corrcoef(torch.stack([x[:, 12], again[:, 12]]))[0, 1]
    assert float(correlation) > 0.5
    assert 300 < float(model.sample(200)[:, 12].mean()) < 1200
    scale = torch.tensor([c.scale for c in data.schema.fields["x"].columns], dtype=torch.float64)
    plain = lt.log_evidence(model, data.test, samples=20, units="model")
    own = lt.log_evidence(model, data.test, samples=20)
    assert (plain.units, own.units) == ("model", "data")
    torch.testing.assert_close(
        own.values - plain.values, -scale.log().sum().expand(len(x)), atol=1e-4, rtol=0
    )


def ppca_evidence(x: Tensor, latent: int) -> tuple[float, float]:
    """Tipping & Bishop (1999), eq. 7-8: the mean log-likelihood at the maximum and sigma^2."""
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    noise = eigenvalues[latent:].mean()
    size = x.shape[1]
    constant = size * torch.log(torch.tensor(2 * torch.pi, dtype=x.dtype)) + size
    log_det = eigenvalues[:latent].log().sum() + (size - latent) * noise.log()
    return float(-0.5 * (constant + log_det)), float(noise)


def test_the_linear_vae_reaches_ppca_and_never_passes_it() -> None:
    x = torch.as_tensor(lt.load_data("iris").train.batch()["x"]).double()
    exact, noise = ppca_evidence(x, 2)
    model = lt.models.linear_vae(4, 2).double()
    quick(model, x, steps=800, samples=4, batch=len(x), lr=0.05, schedule="cosine")
    estimate = lt.log_evidence(model, x, "elbo", 200)
    assert exact - 0.02 < estimate.mean < exact + 5 * estimate.mc_error
    scale = model.p["x"].distribution(torch.zeros(1, 2, dtype=torch.float64)).base_dist.scale
    assert float(scale.detach().square().max()) == pytest.approx(noise, rel=0.02)


def test_a_likelihood_of_ones_own_is_a_function() -> None:
    def laplace(net: nn.Module, given: str) -> lt.Factor:
        return lt.Normal(net, given, floor=0.1)

    likelihood: Callable[..., lt.Factor] = laplace
    likelihood.width = 2  # type: ignore[attr-defined]
    model = lt.models.vae((1, 4, 4), 2, likelihood=likelihood)
    assert model.p["x"].event == (1, 4, 4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"latent": 0}, "at least 1 latent"),
        ({"event": None}, "event="),
        ({"event": (0, 3)}, "at least 1"),
        ({"likelihood": "gausian"}, "unknown"),
        ({"likelihood": ("number", "binary")}, "do not fit"),
        ({"activation": "rellu"}, "unknown"),
    ],
)
def test_sizes_and_names_are_checked(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        lt.models.vae(**({"event": 4} | options))


def test_model_functions_leave_the_users_generator_alone_and_repeat_with_the_seed() -> None:
    before = torch.get_rng_state()
    one, two, three = (lt.models.vae(4, 2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))


def test_codes_are_not_taken_for_numbers(mixed: lt.data.Data) -> None:
    for build in (
        lambda: lt.models.linear_vae(data=mixed),
        lambda: lt.models.vae(data=mixed, likelihood="normal"),
    ):
        with pytest.raises(ValueError, match="'city' holds categories"):
            quick(build(), mixed)


def test_a_bernoulli_of_grey_pixels_is_no_evidence() -> None:
    data = lt.load_data("digits")
    model = lt.models.vae(data=data, latent=2, hidden=(16,), likelihood="bernoulli")
    run = quick(model, data)
    assert "no density of such values" in run.notes[-1]
    estimate = lt.log_evidence(model, data.test, samples=5)
    assert (estimate.direction, estimate.units) == ("none", "model")
    assert "cross-entropy" in estimate.caution
    binary = lt.load_data("digits", binarise="threshold")
    model = lt.models.vae(data=binary, latent=2, hidden=(16,))
    assert lt.log_evidence(model, binary.test, samples=5).direction == "lower"


def conditional(numbers: bool) -> tuple[lt.Model, lt.data.Data]:
    """p(x, z | y) with y a standardised number or a code, and its data."""
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(60, 3, generator=generator) + 5
    y = (
        10 * torch.randn(60, 1, generator=generator)
        if numbers
        else torch.randint(0, 4, (60,), generator=generator)
    )
    data = lt.load_data({"x": x, "y": y}, standardise=True)
    width = 1 if numbers else 4
    p = lt.Joint(
        z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2 + width, 3, (8,)), given=("z", "y"), scale="learnt")
    )
    q = lt.Joint(z=lt.Normal(lt.MLP(3 + width, 4, (8,)), given=("x", "y")))
    return lt.Model(p, q), data


@pytest.mark.parametrize("numbers", [True, False])
def test_inputs_are_given_in_their_own_units_and_add_no_density(numbers: bool, tmp_path: Path) -> None:
    model, data = conditional(numbers)
    quick(model, data)
    own, plain = (lt.log_evidence(model, data.test, samples=5, units=units) for units in ("data", "model"))
    x = data.schema.fields["x"]
    scale = torch.tensor([column.scale for column in x.columns], dtype=torch.float64)
    torch.testing.assert_close(
        own.values - plain.values, -scale.log().sum().expand(len(own.values)), atol=1e-4, rtol=0
    )
    y = data.schema.decode("y", data.test.batch()["y"])
    z = model.encode(data.test)
    inside = data.test.batch()["y"]
    torch.testing.assert_close(
        model.decode(z, y=y),
        data.schema.decode("x", model.p["x"].distribution(*model.p.parents("x", {"z": z, "y": inside})).mean),
    )
    assert model.sample(len(y), y=y).shape == (len(y), 3)
    with pytest.raises(ValueError, match="samples need"):
        model.sample(len(y) + 1, y=y)
    model.save(tmp_path / "model")
    again = lt.load_model(tmp_path / "model")
    torch.testing.assert_close(again.decode(z, y=y), model.decode(z, y=y))


def test_a_variable_missing_in_some_rows_is_latent_there() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=generator), torch.randn(40, 2, generator=generator)
    y[::3] = torch.nan
    p = lt.Joint(
        y=lt.StandardNormal(2), z=lt.StandardNormal(1), x=lt.Normal(lt.MLP(3, 3), given=("y", "z"), scale=1.0)
    )
    q = lt.Joint(y=lt.Normal(lt.MLP(3, 4), given="x"), z=lt.Normal(lt.MLP(5, 2), given=("x", "y")))
    model = lt.Model(p, q)
    lt.fit(model, {"x": x, "y": y}, steps=20, progress=False)
    codes = model.encode({"x": x, "y": y})
    seen = ~y.isnan().any(1)
    torch.testing.assert_close(codes["y"][seen], y[seen])
    inferred = model.q["y"].distribution(x).mean.detach()
    torch.testing.assert_close(codes["y"][~seen], inferred[~seen])
    assert model.reconstruct({"x": x, "y": y}).shape == x.shape
    assert lt.log_evidence(model, {"x": x, "y": y}, samples=10).direction == "lower"
    split = lt.load_data({"x": x, "y": y}, split=(0.5, 0.5, 0.0))
    run = lt.fit(lt.Model(p, q), split, steps=20, progress=False)
    assert run.best_value is not None
    y[1, 0] = torch.nan
    with pytest.raises(ValueError, match="holds a part of it"):
        lt.fit(model, {"x": x, "y": y}, steps=20, progress=False, warm_start=True)


def test_a_posterior_per_row_belongs_to_the_rows_of_the_fit() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    p = lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", scale="learnt"))
    model = lt.Model(p, lt.Joint(z=lt.Normal(lt.Table(50, 4), given="row")))
    lt.fit(model, x, steps=200, lr=0.02, progress=False)
    whole = model.encode({"x": x, "row": torch.arange(50)})
    torch.testing.assert_close(model.encode({"x": x[30:], "row": torch.arange(30, 50)}), whole[30:])
    assert not torch.allclose(whole[:10], whole[10:20])
    with pytest.raises(ValueError, match="posterior for each row"):
        model.encode(x[:5])
    with pytest.raises(ValueError, match="has 50 rows"):
        model.encode({"x": x[:1], "row": torch.tensor([50])})
    data = lt.load_data(x)
    run = lt.fit(
        lt.Model(
            lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", scale=1.0)),
            lt.Joint(z=lt.Normal(lt.Table(50, 4), given="row")),
        ),
        data,
        steps=5,
        progress=False,
    )
    assert "no validation" in run.notes[0]


def test_a_mean_that_does_not_exist_is_announced() -> None:
    class Cauchy(lt.Factor):
        def distribution(self, *parents: Tensor) -> Distribution:
            (loc,) = self.parts(*parents)
            return torch.distributions.Independent(torch.distributions.Cauchy(loc, 1.0), 1)

    p = lt.Joint(z=lt.StandardNormal(2), x=Cauchy(lt.MLP(2, 3), given="z"))
    model = lt.Model(p, lt.Joint(z=lt.Normal(lt.MLP(3, 4), given="x")))
    with pytest.raises(ValueError, match="mean of 'x' is not finite"):
        model.reconstruct(torch.zeros(2, 3))


def test_a_poor_q_is_said_to_be_poor() -> None:
    p = lt.Joint(z=lt.StandardNormal(8), x=lt.Normal(lt.MLP(8, 30), given="z", scale=0.01))
    model = lt.Model(p, lt.Joint(z=lt.StandardNormal(8)))
    estimate = lt.log_evidence(model, torch.randn(20, 30), samples=100)
    assert "effective sample size" in estimate.caution
    assert "effective sample size" in repr(estimate)


def test_means_of_a_model_without_latents_are_one_per_sample() -> None:
    model = lt.Model(lt.Joint(x=lt.Normal(lt.Constant(3, value=2.0), scale="learnt")))
    assert torch.equal(model.sample(5, mean=True), torch.full((5, 3), 2.0))
