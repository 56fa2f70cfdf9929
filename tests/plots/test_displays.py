"""Displays: they compute what the model says, and draw it without touching what is not theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import norm

import latentia as lt
from latentia.plots import (
    Display,
    DoesNotApply,
    GraphDisplay,
    KLDisplay,
    LatentPlaneDisplay,
    LatentScatterDisplay,
    LossDisplay,
    ReconstructionDisplay,
    SamplesDisplay,
)

from .conftest import Case


def labels(display: Display) -> list[str]:
    """All axis labels of a drawn figure."""
    axes = display.figure_.axes
    return [text for ax in axes for text in (ax.get_xlabel(), ax.get_ylabel()) if text]


def picture(display: Display) -> np.ndarray:
    """The one image that was drawn."""
    (image,) = display.ax_.images
    return np.asarray(image.get_array())


def test_loss_holds_the_history_and_marks_the_best_validation_step(digits: Case) -> None:
    display = LossDisplay.from_run(digits.run).plot()
    told = {split: [r for r in digits.run.history if r["split"] == split] for split in ("train", "valid")}
    for split, curves in (("train", display.train), ("valid", display.valid)):
        assert curves["step"].tolist() == [record["step"] for record in told[split]]
        assert curves["bound"].tolist() == [record["bound"] for record in told[split]]
        assert curves["kl"].tolist() == [record["terms"]["kl"] for record in told[split]]
    assert display.best_step == digits.run.best_step
    assert display.names == ["bound", "reconstruction", "kl"]
    assert "nats per example (larger is better)" in labels(display)
    lines = {line.get_label(): line for ax in display.figure_.axes for line in ax.lines}
    assert f"step {display.best_step:,}" in next(label for label in lines if label.startswith("best"))


def test_loss_of_a_folder_is_that_of_its_run(digits: Case) -> None:
    one, other = LossDisplay.from_run(digits.folder), LossDisplay.from_run(digits.run)
    assert {name: curve.tolist() for name, curve in one.train.items()} == {
        name: curve.tolist() for name, curve in other.train.items()
    }


def test_loss_leaves_out_first_steps_that_would_flatten_the_rest() -> None:
    steps = np.arange(100, 10_100, 100)
    bound = np.where(steps < 500, -1e6, 50 + steps / 1e4)
    display = LossDisplay({"step": steps, "bound": bound}).plot()
    low, high = display.figure_.axes[1].get_ylim()
    assert 49.5 < low < bound[5] and bound[-1] < high < 51.5
    assert "outside the frame" in display.caption


def test_loss_without_records_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(DoesNotApply, match="no learning curve"):
        LossDisplay.from_run(tmp_path)


def test_reconstructions_are_the_models(digits: Case) -> None:
    x = digits.data.test[:7]
    display = ReconstructionDisplay.from_model(digits.model, x).plot()
    np.testing.assert_allclose(display.inputs, x.tensors["x"].numpy())
    np.testing.assert_allclose(display.reconstructions, digits.model.reconstruct(x).numpy(), rtol=1e-5)
    assert display.limits == (0.0, 16.0)
    drawn = picture(display)
    tile = 32  # 8 pixels, four times enlarged
    assert drawn.shape == (2 * tile + 2, 7 * tile + 6 * 2, 4)
    first = np.repeat(np.repeat(display.inputs[0, 0] / 16, 4, axis=0), 4, axis=1)
    np.testing.assert_allclose(drawn[:tile, :tile, 0], first)
    assert "means" in display.ax_.get_title(loc="left")


def test_reconstructions_of_a_table_are_in_its_own_units(iris: Case) -> None:
    display = ReconstructionDisplay.from_model(iris.model, iris.data.test).plot()
    table = iris.data.schema.table(iris.data.test.tensors["x"])
    assert display.columns == tuple(table)
    np.testing.assert_allclose(display.inputs, np.stack(list(table.values()), axis=1), rtol=1e-6)
    assert set(table) <= set(labels(display))


def test_missing_cells_are_not_drawn_as_numbers() -> None:
    x = torch.rand(40, 3)
    x[::3, 1] = torch.nan
    data = lt.load_data({"x": x}, split=(1.0, 0.0, 0.0))
    model = lt.models.vae(data=data, latent=2, hidden=(4,))
    display = ReconstructionDisplay.from_model(model, data.train).plot()
    assert np.isnan(display.inputs[::3, 1]).all() and np.isfinite(display.reconstructions).all()
    images = np.full((2, 1, 8, 8), 0.5)
    images[0, 0, 2, 3] = np.nan
    drawn = picture(ReconstructionDisplay(images, np.zeros_like(images)).plot())
    hole = drawn[2 * 4, 3 * 4, :3]
    assert hole[0] > hole[2] and (drawn[0, 0, :3] == 0.5).all()


def test_samples_of_images_are_decoder_means(digits: Case) -> None:
    display = SamplesDisplay.from_model(digits.model, n=10, seed=3).plot()
    np.testing.assert_allclose(display.samples, digits.model.sample(10, seed=3, mean=True).numpy(), rtol=1e-5)
    assert picture(display).shape == (3 * 32 + 2 * 2, 4 * 32 + 3 * 2, 4)
    assert "means" in display.ax_.get_title(loc="left")


def test_samples_of_tables_are_draws_beside_the_data(iris: Case) -> None:
    display = SamplesDisplay.from_model(iris.model, iris.data.train, seed=3).plot()
    np.testing.assert_allclose(display.samples, iris.model.sample(120, seed=3).numpy(), rtol=1e-5)
    assert display.data is not None and display.data.shape == (120, 4)
    assert "sepal length (cm)" in labels(display)


def test_samples_do_not_apply_where_p_has_inputs() -> None:
    with pytest.raises(DoesNotApply, match="no samples"):
        SamplesDisplay.from_model(lt.models.autoencoder(event=4, latent=2))


def test_the_latent_plane_is_decoded_at_prior_quantiles(digits: Case) -> None:
    display = LatentPlaneDisplay.from_model(digits.model, digits.data.test, grid=6, dims=(0, 2)).plot()
    np.testing.assert_allclose(norm.cdf(display.first), (np.arange(6) + 0.5) / 6, rtol=1e-5)
    z = torch.tensor([[display.first[4], 0.0, display.second[1]]], dtype=torch.float32)
    np.testing.assert_allclose(display.decoded[1, 4], digits.model.decode(z)[0].numpy(), rtol=1e-4, atol=1e-4)
    assert display.names == ("$z_{0}$", "$z_{2}$") and display.others == 1
    drawn = picture(display)
    assert drawn.shape == (6 * 33 - 1, 6 * 33 - 1, 4)
    highest = np.clip(display.decoded[-1, 0, 0] / 16, 0, 1)  # the largest second coordinate stands above
    np.testing.assert_allclose(drawn[:32:4, :32:4, 0], highest)


def test_the_latent_plane_shows_the_two_most_active_dimensions(digits: Case) -> None:
    display = LatentPlaneDisplay.from_model(digits.model, digits.data.test, grid=3)
    variance = digits.model.encode(digits.data.test).var(0)
    kept = sorted(variance.argsort(descending=True)[:2].tolist())
    assert display.names == tuple(f"$z_{{{dim}}}$" for dim in kept)


def test_the_latent_plane_of_a_table_has_a_panel_for_each_column(iris: Case) -> None:
    display = LatentPlaneDisplay.from_model(iris.model, iris.data.test, grid=8).plot()
    assert display.decoded.shape == (8, 8, 4)
    assert sum(len(ax.images) for ax in display.figure_.axes) == 4


def test_the_scatter_holds_posterior_means_and_labels(digits: Case) -> None:
    x = digits.data.test
    display = LatentScatterDisplay.from_model(digits.model, x, dims=(2, 0)).plot()
    np.testing.assert_allclose(display.codes, digits.model.encode(x)[:, [2, 0]].numpy(), rtol=1e-5)
    assert x.labels is not None and display.labels is not None
    assert display.labels.tolist() == x.labels.tolist()
    assert labels(display) == ["$z_{2}$", "$z_{0}$"]
    legend = display.ax_.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == list("0123456789")


def test_the_scatter_takes_numbers_holes_and_one_dimension() -> None:
    codes = np.random.default_rng(0).normal(size=(30, 2))
    bar = LatentScatterDisplay(codes, codes[:, 0] * 3.5, label="dose").plot()
    assert "dose" in labels(bar)
    holes = LatentScatterDisplay(codes, np.arange(30) % 3 - 1, classes=("a", "b")).plot().ax_.get_legend()
    assert holes is not None and [t.get_text() for t in holes.get_texts()] == ["no label", "a", "b"]
    for given in (None, np.arange(30) % 2, codes[:, 1]):
        LatentScatterDisplay(codes[:, :1], given, names=("$z$",)).plot()


def test_kl_per_dimension_sums_to_the_bounds_kl(digits: Case) -> None:
    display = KLDisplay.from_model(digits.model, digits.data.test).plot()
    elbo = lt.log_evidence(digits.model, digits.data.test, "elbo", samples=1)
    assert display.kl.sum() == pytest.approx(elbo.terms["kl"], rel=1e-4)
    active = lt.diagnostics.active_units(digits.model, digits.data.test)
    assert display.active.tolist() == active.tolist()
    above, below = display.figure_.axes[1:]
    heights = [bar.get_height() for bar in above.patches]
    assert sorted(heights, reverse=True) == sorted(display.kl.tolist(), reverse=True)
    assert any(list(line.get_ydata()) == [display.threshold] * 2 for line in below.lines)
    assert "nats per example" in above.get_ylabel()


def test_kl_per_dimension_of_several_layers_says_which_it_is_of() -> None:
    model = lt.models.helmholtz_machine(4, (3, 12), likelihood="bernoulli")
    x = (torch.rand(30, 4, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    display = KLDisplay.from_model(model, x).plot()
    assert display.figure_.axes[1].get_title(loc="left").startswith("Units of $h_{2}$: ")
    assert display.caption.startswith(
        "Units of h2 by their KL(q(u | h1) ‖ p(u)) at draws of h1, mean over 30"
    )
    assert "h1 has no KL of single units, as its prior depends on h2" in display.caption
    scatter = LatentScatterDisplay.from_model(model, x)
    assert "h2 of encode(x)" in scatter.caption and "Two of the 12 dimensions of h2." in scatter.caption


def test_kl_per_dimension_does_not_apply_to_a_full_covariance() -> None:
    model = lt.models.vae(event=3, latent=2, hidden=(4,), covariance=lt.Full())
    with pytest.raises(DoesNotApply, match="single dimensions"):
        KLDisplay.from_model(model, torch.rand(5, 3))


def test_a_picture_is_drawn_into_given_axes(digits: Case, iris: Case) -> None:
    figure = Figure(layout="constrained")
    one, two = figure.subplots(1, 2)
    samples = SamplesDisplay.from_model(digits.model, n=4)
    assert samples.plot(one) is samples and samples.ax_ is one and samples.figure_ is figure
    ReconstructionDisplay.from_model(iris.model, iris.data.test).plot(two)
    assert len(figure.axes) == 2 + 4
    with pytest.raises(ValueError, match="pass axes made by subplots"):
        KLDisplay([1.0], [1.0]).plot(figure.add_axes((0, 0, 1, 1)))


def test_text_of_the_users_is_never_mathematics() -> None:
    data = np.random.default_rng(0).normal(size=(20, 2))
    SamplesDisplay(data, data, columns=("cost $", r"\frac{")).image()
    ReconstructionDisplay(data, data, columns=("cost $", "_^")).image()
    LatentScatterDisplay(data, np.arange(20) % 2, classes=("$a", "b_"), label="$^").image()
    GraphDisplay({"cost $": "latent", r"a\b{": "observed", "x^2 %": "input"}, [("cost $", r"a\b{")]).image()
    LossDisplay({"step": [1, 2], "bound": [0.0, 1.0], "loss_$^": [0.0, 1.0]}).image()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReconstructionDisplay(np.zeros((2, 3)), np.zeros((2, 4))),
        lambda: SamplesDisplay(np.zeros(3)),
        lambda: LatentPlaneDisplay(np.zeros((2, 3, 4)), [0.0, 1.0], [0.0, 1.0]),
        lambda: LatentScatterDisplay(np.zeros((3, 3))),
        lambda: LatentScatterDisplay(np.zeros((3, 2)), np.zeros(2)),
        lambda: KLDisplay([1.0, 2.0], [1.0]),
        lambda: GraphDisplay({"z": "hidden"}, []),
        lambda: GraphDisplay({"z": "latent"}, [("z", "x")]),
    ],
)
def test_what_does_not_fit_is_refused(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "latentia\[plot\]"'):
        KLDisplay([1.0], [1.0]).plot()


def test_no_backend_is_chosen_and_no_global_setting_changes() -> None:
    code = """
import sys
import latentia.plots
assert "matplotlib" not in sys.modules
import matplotlib
settings = [name for name in matplotlib.rcParams if name != "backend"]
before = [str(matplotlib.rcParams[name]) for name in settings]
latentia.plots.KLDisplay([1.0, 2.0], [1.0, 0.0]).plot().image()
assert "matplotlib.pyplot" not in sys.modules
assert [str(matplotlib.rcParams[name]) for name in settings] == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_files_are_written_by_their_ending(tmp_path: Path) -> None:
    display = KLDisplay([1.0, 2.0], [1.0, 0.0])
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        path = display.save(tmp_path / "new" / f"kl.{ending}")
        assert path.read_bytes().startswith(start)
    with pytest.raises(ValueError, match="nothing"):
        display.save(tmp_path / "kl.nothing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    assert display.plot()._repr_png_() is not None
