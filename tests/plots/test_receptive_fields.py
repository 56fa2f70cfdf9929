"""Receptive fields: what switching a binary unit does to the mean of x."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import latentia as lt
from latentia.plots import DoesNotApply, ReceptiveFieldsDisplay, pictures


def machine(**options: object) -> lt.Model:
    return lt.models.helmholtz_machine(**({"event": (1, 3, 2), "likelihood": "bernoulli"} | options))


def test_the_fields_of_a_linear_layer_are_its_weights_through_the_sigmoid() -> None:
    model = machine(layers=(4,)).double()
    net = model.p["x"].net.layers[-1]
    net.weight.data *= 5
    dreams = model.p.complete({}, lt.Noise(0, dtype=torch.float64), batch=2000).values["h1"][0].mean(0)
    fields = ReceptiveFieldsDisplay.from_model(model).fields["h1"]
    for unit in range(4):
        on, off = dreams.clone(), dreams.clone()
        on[unit], off[unit] = 1.0, 0.0
        expected = (net(on).sigmoid() - net(off).sigmoid()).detach().reshape(1, 3, 2)
        np.testing.assert_allclose(fields[unit], expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize("prior", ["learnt", "autoregressive"])
def test_means_are_passed_down_from_the_upper_layers(prior: str) -> None:
    model = machine(layers=(3, 2), prior=prior).double()
    with torch.no_grad():
        model.p["h1"].net.layers[-1].weight[:, 1] = 0  # the second unit of h2 changes nothing
    display = ReceptiveFieldsDisplay.from_model(model)
    assert list(display.fields) == ["h1", "h2"]
    assert np.abs(display.fields["h2"][0]).max() > 1e-4
    assert np.abs(display.fields["h2"][1]).max() == 0
    assert display.order["h2"] == [0, 1]


def test_the_picture_of_a_table_names_its_columns(tmp_path: Path) -> None:
    rows = (torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) < 0.5).int().tolist()
    path = tmp_path / "bits.csv"
    path.write_text("\n".join(["a,b,c", *(",".join(map(str, row)) for row in rows)]) + "\n")
    model = lt.models.helmholtz_machine(data=lt.load_data(path), layers=(2,))
    display = ReceptiveFieldsDisplay.from_model(model).plot()
    assert display.columns == ("a", "b", "c")
    assert display.fields["h1"].shape == (2, 3)
    assert "2 units of h1" in display.caption
    assert display.save(tmp_path / "fields.png").stat().st_size > 1000


def test_images_are_a_grid_and_stand_among_the_pictures_of_a_model(tmp_path: Path) -> None:
    model = machine(layers=(50, 3))
    x = (torch.rand(12, 1, 3, 2, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    display = pictures(model, x)["receptive_fields"]
    assert "40 of 50 units of h1, 3 units of h2" in display.caption
    assert display.save(tmp_path / "fields.png").stat().st_size > 1000


def test_the_images_of_all_layers_have_one_size() -> None:
    random = np.random.default_rng(0)
    sizes = {"h1": 25, "h2": 8, "h3": 12}
    display = ReceptiveFieldsDisplay({n: random.normal(size=(k, 1, 8, 6)) for n, k in sizes.items()}).plot()
    display.figure_.draw_without_rendering()
    pixels = []
    for panel in display.figure_.axes[1:]:
        (left, top), (right, bottom) = panel.transData.transform([(0, 0), (1, 1)])
        pixels.append((right - left, top - bottom))
    np.testing.assert_allclose(pixels, np.full((3, 2), pixels[0][0]), rtol=0.01)


def test_models_without_binary_layers_have_none() -> None:
    with pytest.raises(DoesNotApply, match="has no layer of binary latent units"):
        ReceptiveFieldsDisplay.from_model(lt.models.vae(4, 2))
    with pytest.raises(ValueError, match=r"fields must be \[U, C, H, W\] or \[U, D\]"):
        ReceptiveFieldsDisplay({"h1": np.zeros((2, 3)), "h2": np.zeros((2, 4))})
