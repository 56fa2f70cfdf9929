"""Reconstruction errors are those of what the model reconstructs, in the data's units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import latentia as lt
from latentia.diagnostics import Reconstruction, reconstruction_error


def single(model: lt.Model, x: object) -> Reconstruction:
    found = reconstruction_error(model, x)
    assert isinstance(found, Reconstruction)
    return found


def test_of_images_it_is_the_mean_squared_error_in_grey_levels() -> None:
    data = lt.load_data("digits")
    model = lt.models.vae(data=data, latent=2, hidden=(8,))
    x = data.test[:50]
    found = single(model, x)
    expected = (x.tensors["x"].double() - model.reconstruct(x).double()).square().flatten(1).mean(1)
    assert found.squared is not None and found.cross_entropy is None
    torch.testing.assert_close(found.squared.values, expected, rtol=1e-5, atol=1e-6)
    assert found.squared.se == pytest.approx(float(expected.std() / 50**0.5), rel=1e-5)
    assert found.units == "pixels 0..16" and "of pixels 0..16" in repr(found)


def test_of_binary_pixels_it_is_the_cross_entropy() -> None:
    x = (torch.rand(20, 6, generator=torch.Generator().manual_seed(0)) < 0.4).double()
    model = lt.models.vae(event=6, latent=2, hidden=(5,), likelihood="bernoulli").double()
    found = single(model, x)
    mean = model.reconstruct(x)
    expected = -(torch.xlogy(x, mean) + torch.xlogy(1 - x, 1 - mean)).sum(1)
    assert found.cross_entropy is not None and found.squared is None
    torch.testing.assert_close(found.cross_entropy.values, expected)


def test_grey_values_under_a_bernoulli_are_numbers() -> None:
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))
    model = lt.models.vae(event=6, latent=2, hidden=(5,), likelihood="bernoulli")
    found = single(model, x)
    assert found.cross_entropy is None and found.squared is not None
    expected = (x - model.reconstruct(x)).square().mean(1).double()
    torch.testing.assert_close(found.squared.values, expected, rtol=1e-5, atol=1e-7)


def test_a_table_is_told_column_by_column_and_holes_are_left_out() -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame(
        {"age": 50 * rng.random(60), "sex": rng.choice(["m", "f"], 60), "visits": rng.poisson(3, 60)}
    )
    table.loc[:9, "age"] = np.nan
    data = lt.load_data(table, split=(1.0, 0.0, 0.0))
    model = lt.models.vae(data=data, latent=2, hidden=(4,))
    found = single(model, data.train)
    assert list(found.columns) == ["age", "sex", "visits"]
    assert found.squared is not None and found.cross_entropy is not None
    given = data.schema.table(data.train.batch()["x"])
    made = model.reconstruct(data.train)
    columns = [column.name for column in data.schema.fields["x"].columns]
    age, visits = (made[:, columns.index(name)].double().numpy() for name in ("age", "visits"))
    error = np.square(np.asarray(given["age"], dtype=float) - age)
    assert found.columns["age"] == pytest.approx(error[10:].mean(), rel=1e-4)
    assert found.squared.values[:10].numpy() == pytest.approx(
        np.square(np.asarray(given["visits"], dtype=float) - visits)[:10], rel=1e-4
    )
    assert found.columns["sex"] == pytest.approx(found.cross_entropy.mean, rel=1e-6)
    assert 0.3 < found.columns["sex"] < 1.5


def test_several_variables_come_as_a_dict() -> None:
    p = lt.Joint(
        z=lt.StandardNormal(2),
        k=lt.Categorical(lt.MLP(2, 3), given="z"),
        x=lt.Normal(lt.MLP(2, 4), given="z", scale=1.0),
    )
    model = lt.Model(p, lt.Joint(z=lt.Normal(lt.MLP(4, 4), given="x"))).double()
    x = torch.randn(10, 4, dtype=torch.float64)
    k = torch.arange(10) % 3
    found = reconstruction_error(model, {"x": x, "k": k})
    assert isinstance(found, dict) and set(found) == {"x", "k"}
    with torch.no_grad():
        log_p = torch.log_softmax(p["k"].net(model.encode({"x": x, "k": k})), -1)
    entropy = found["k"].cross_entropy
    assert entropy is not None
    torch.testing.assert_close(entropy.values, -log_p[torch.arange(10), k])


def test_exact_posteriors_and_autoencoders_reconstruct_too() -> None:
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for model in (lt.models.ppca(event=4, latent=2), lt.models.autoencoder(event=4, latent=2)):
        model = model.double()
        found = single(model, x)
        assert found.squared is not None
        torch.testing.assert_close(found.squared.values, (x - model.reconstruct(x)).square().mean(1))


def test_without_an_encoder_or_rows_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no inference model"):
        reconstruction_error(lt.Model(lt.Joint(x=lt.Normal(lt.Constant(8)))), torch.randn(5, 4))
