"""The pictures of the diagnostics show the numbers that the diagnostics give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import latentia as lt
from latentia.diagnostics import Calibration, calibration, information
from latentia.diagnostics._rows import Unit
from latentia.plots import AggregatePosteriorDisplay, CalibrationDisplay, DoesNotApply

from .gaussian_q import gaussian_q, normal_grid

EYE = torch.eye(2, dtype=torch.float64)


def test_the_rank_histograms_are_the_calibrations() -> None:
    made = calibration(lt.models.ppca(event=3, latent=2).double(), 500)
    display = CalibrationDisplay(made).plot()
    parts = display.figure_.axes[1:]
    assert len(parts) == 3
    for part, counts in zip(parts, made.counts, strict=True):
        bars = [patch.get_height() for patch in part.patches if hasattr(patch, "get_height")]
        assert bars[: len(counts)] == counts.tolist()
    assert "Calibrated as far as 500 simulations" in display.caption
    assert display.ax_.texts[0].get_text().startswith("Calibrated")


def test_wrong_units_stand_out_and_the_worst_are_shown() -> None:
    generator = torch.Generator().manual_seed(0)
    ranks = torch.randint(0, 100, (30, 400), generator=generator)
    ranks[17] = 50
    display = CalibrationDisplay(Calibration(ranks, tuple(Unit("z", i) for i in range(30)), draws=99))
    assert len(display.shown) == 12 and 17 in display.shown and display.shown == sorted(display.shown)
    assert "z[17] is too wide" in display.caption and "12 of 30" in display.caption
    assert display.image().startswith(b"\x89PNG")


def test_draws_lie_over_the_priors_contours() -> None:
    model, x = gaussian_q(2 * EYE, 0.1 * EYE, full=False), normal_grid(15)
    display = AggregatePosteriorDisplay.from_model(model, x, dims=(1, 0)).plot()
    assert display.draws.shape == (225, 2)
    expected = 2 * x[:, [1, 0]].numpy()
    assert np.abs(display.draws - expected).max() < 0.6
    first, second = np.meshgrid(*display.axes, indexing="ij")
    np.testing.assert_allclose(display.density, np.exp(-(first**2 + second**2) / 2) / (2 * np.pi), rtol=1e-6)
    assert display.names == ("$z_{1}$", "$z_{0}$")
    told = information(model, x)
    assert str(told.marginal_kl) in display.caption and "marginal KL" in display.caption
    (points, *_) = display.ax_.collections
    np.testing.assert_allclose(points.get_offsets(), display.draws)


def test_contours_hold_their_share_of_the_prior() -> None:
    display = AggregatePosteriorDisplay.from_model(gaussian_q(EYE, EYE, full=False), normal_grid(5)).plot()
    contours = display.ax_.collections[1]
    radii = [float(np.linalg.norm(path.vertices, axis=1).mean()) for path in contours.get_paths()]
    expected = [np.sqrt(-2 * np.log(0.05)), np.sqrt(-2 * np.log(0.5))]
    np.testing.assert_allclose(radii, expected, rtol=0.03)


def test_one_dimension_and_priors_without_a_density_of_their_own() -> None:
    flat = AggregatePosteriorDisplay.from_model(
        gaussian_q(EYE[:1], EYE[:1, :1], False), normal_grid(5)
    ).plot()
    assert flat.flat and flat.density.shape == flat.axes[0].shape
    assert {text.get_text() for text in flat.ax_.get_legend().get_texts()} == {"q(z)", "p(z)"}
    p = lt.Joint(
        b=lt.StandardNormal(2),
        a=lt.Normal(lt.MLP(2, 6), given="b"),
        x=lt.Normal(lt.MLP(3, 3), given="a", scale=1.0),
    )
    q = lt.Joint(a=lt.Normal(lt.MLP(3, 6), given="x"), b=lt.Normal(lt.MLP(3, 4), given="a"))
    display = AggregatePosteriorDisplay.from_model(lt.Model(p, q), torch.randn(30, 3), variable="a").plot()
    cell = np.prod([axis[1] - axis[0] for axis in display.axes])
    assert 0.9 < display.density.sum() * cell < 1.05
    assert "of all 5 latent dimensions together; two are shown" in display.caption
    figure = Figure()
    assert display.plot(figure.subplots()).figure_ is figure


def test_pictures_that_do_not_apply_say_why() -> None:
    x = torch.randn(5, 3)
    with pytest.raises(DoesNotApply, match="no density q"):
        AggregatePosteriorDisplay.from_model(lt.models.autoencoder(event=3, latent=2), x)
    with pytest.raises(DoesNotApply, match="no continuous latent variable"):
        AggregatePosteriorDisplay.from_model(lt.models.gaussian_mixture(event=3, components=2), x)
    binary = lt.models.helmholtz_machine(4, (3,), likelihood="bernoulli")
    with pytest.raises(DoesNotApply, match="'h1' is discrete"):
        AggregatePosteriorDisplay.from_model(binary, torch.ones(5, 4))
    with pytest.raises(DoesNotApply, match="no latent variable with a density"):
        CalibrationDisplay.from_model(lt.models.autoencoder(event=3, latent=2))
    with pytest.raises(ValueError, match="dims are one or two"):
        AggregatePosteriorDisplay.from_model(gaussian_q(EYE, EYE, full=False), normal_grid(3), dims=(0, 5))
    with pytest.raises(ValueError, match=r"draws must be \[P, 2\]"):
        AggregatePosteriorDisplay(np.zeros((3, 3)), [np.zeros(2)] * 2, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="one number a grid point"):
        AggregatePosteriorDisplay(np.zeros((3, 2)), [np.zeros(2)] * 2, np.zeros((2, 3)))
