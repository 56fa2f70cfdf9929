"""Displays of models with an exact posterior: ellipses, component means, responsibilities, spectra, EM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Ellipse

import latentia as lt
from latentia.plots import (
    ComponentsDisplay,
    DoesNotApply,
    LatentScatterDisplay,
    LossDisplay,
    MixtureDisplay,
    ResponsibilityDisplay,
    SpectrumDisplay,
    pictures,
    plot_run,
)
from latentia.plots import _canvas as canvas
from latentia.plots._values import scattered, some_rows
from latentia.report import write_report

from .conftest import Case


def fitted(name: str, folder: Path, make: str, options: dict[str, object], **fit: object) -> Case:
    data = lt.load_data(name)
    model = getattr(lt.models, make)(data=data, **options)
    return Case(data, model, lt.fit(model, data, out=folder, progress=False, **fit), folder)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Three Gaussians on iris, from two starts."""
    folder = tmp_path_factory.mktemp("mixture") / "run"
    return fitted("iris", folder, "gaussian_mixture", {"components": 3}, starts=2, start="random", tol=1e-4)


@pytest.fixture(scope="module")
def ppca(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """PPCA of the digits."""
    return fitted("digits", tmp_path_factory.mktemp("ppca") / "run", "ppca", {"latent": 3})


@pytest.fixture(scope="module")
def analysers(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A mixture of factor analysers on the digits."""
    folder = tmp_path_factory.mktemp("analysers") / "run"
    options: dict[str, object] = {"components": 4, "latent": 2}
    return fitted("digits", folder, "mixture_of_factor_analysers", options, steps=3)


def ellipses(display: MixtureDisplay) -> list[Ellipse]:
    return [patch for patch in display.ax_.patches if isinstance(patch, Ellipse)]


def test_one_gaussian_is_the_rows_mean_and_covariance_in_their_own_units() -> None:
    data = lt.load_data("iris", split=(1.0, 0.0, 0.0))
    model = lt.models.gaussian_mixture(data=data, components=1, floor=1e-6)
    lt.fit(model, data, progress=False)
    columns = ("petal length (cm)", "sepal width (cm)")
    display = MixtureDisplay.from_model(model, data.train, columns=columns).plot()
    table = data.schema.table(data.train.tensors["x"])
    rows = np.stack([np.asarray(table[name], float) for name in columns], axis=1)
    np.testing.assert_allclose(display.points, rows, rtol=1e-5)
    np.testing.assert_allclose(display.means[0], rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(display.covariances[0], np.cov(rows.T, bias=True), rtol=1e-3)
    one, two = ellipses(display)
    widest = 2 * np.sqrt(np.linalg.eigvalsh(display.covariances[0])[1])
    assert (one.width, two.width) == (pytest.approx(widest), pytest.approx(2 * widest))
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == columns


def test_more_columns_are_projected_on_their_principal_axes(mixture: Case) -> None:
    display = MixtureDisplay.from_model(mixture.model, mixture.data.train).plot()
    values = mixture.model.batch(mixture.data.train, slice(None))["x"].double().numpy()
    variances, vectors = np.linalg.eigh(np.cov(values.T, bias=True))
    np.testing.assert_allclose(display.points.var(0), variances[::-1][:2], rtol=1e-6)
    share = 100 * variances[-1] / variances.sum()
    assert display.ax_.get_xlabel() == f"principal axis 1 ({share:.0f} % of the variance)"
    normal = mixture.model.p["x"].distribution(torch.arange(3))
    covariance = normal.covariance_matrix.detach().double().numpy()
    axes = vectors[:, ::-1][:, :2]
    areas = [np.linalg.det(axes.T @ one @ axes) for one in covariance]
    np.testing.assert_allclose(np.linalg.det(display.covariances), areas, rtol=1e-4)
    assert len(ellipses(display)) == 6 and "The axes are the two directions" in display.caption


def test_points_mix_the_colours_of_their_components(mixture: Case) -> None:
    rows = mixture.data.test
    display = MixtureDisplay.from_model(mixture.model, rows).plot()
    probs = mixture.model.posterior(rows).probs.double().numpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(display.responsibilities, probs, atol=1e-6)
    colours = np.array([to_rgb(colour) for colour in canvas.class_colours(3)])
    drawn = display.ax_.collections[0].get_facecolors()[:, :3]
    np.testing.assert_allclose(drawn, probs @ colours, atol=1e-3)


def test_empty_components_are_not_drawn() -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    means, covariances = np.zeros((3, 2)), np.tile(np.eye(2), (3, 1, 1))
    display = MixtureDisplay(points, means, covariances, [0.999, 0.0005, 0.0005]).plot()
    assert display.drawn == [0] and len(ellipses(display)) == 2
    assert "2 components of a weight below 0.005 are left out" in display.caption
    one = MixtureDisplay(points, means[:2], covariances[:2], [0.999, 0.001])
    assert " 1 component of a weight below 0.005 is left out" in one.caption


def test_a_mixture_of_factor_analysers_has_its_latents_integrated_out(analysers: Case) -> None:
    display = MixtureDisplay.from_model(analysers.model, analysers.data.test)
    factor = analysers.model.p["x"]
    weight, scale = factor.weight.detach().double(), factor.scale.detach().double()
    whole = weight @ weight.mT + torch.diag_embed(scale.square().expand(4, 64))
    values = analysers.model.batch(analysers.data.test, slice(None))["x"].flatten(1).double().numpy()
    _, vectors = np.linalg.eigh(np.cov(values.T, bias=True))
    axes = vectors[:, ::-1][:, :2]
    areas = [np.linalg.det(axes.T @ one.numpy() @ axes) for one in whole]
    np.testing.assert_allclose(np.linalg.det(display.covariances), areas, rtol=1e-4)


def test_the_means_of_factor_analysers_are_those_at_latents_of_zero() -> None:
    data = lt.load_data("iris")
    model = lt.models.mixture_of_factor_analysers(data=data, components=3, latent=2)
    lt.fit(model, data, steps=3, progress=False)
    display = ComponentsDisplay.from_model(model, data.train)
    expected = data.schema.decode("x", model.p["x"].bias.detach()).numpy()
    np.testing.assert_allclose(display.means, expected, rtol=1e-5)
    assert display.columns[0] == "sepal length (cm)"


@pytest.mark.parametrize("covariance", [lt.Full(), lt.Diagonal(), lt.Spherical(), lt.Tied(), lt.LowRank(1)])
def test_every_covariance_has_ellipses(covariance: object) -> None:
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    for make in (lt.models.gaussian_mixture, lt.models.bayesian_gaussian_mixture):
        if make is lt.models.gaussian_mixture or not isinstance(covariance, lt.LowRank):
            display = MixtureDisplay.from_model(make(3, 2, covariance=covariance), x)
            assert display.covariances.shape == (2, 2, 2)
            assert (np.linalg.eigvalsh(display.covariances) > 0).all()


def test_component_means_of_images_are_decoded_and_sorted_by_weight(analysers: Case) -> None:
    display = ComponentsDisplay.from_model(analysers.model, analysers.data.test).plot()
    decoded = analysers.model.decode({"k": torch.arange(4)})
    np.testing.assert_allclose(display.means, decoded.numpy(), rtol=1e-5)  # type: ignore[union-attr]
    assert display.order == np.argsort(-display.weights).tolist() and display.limits == (0.0, 16.0)
    texts = [text.get_text() for text in display.ax_.texts]
    assert texts[0] == f"{display.order[0]}:  {display.weights.max():.3f}"


def test_component_means_of_a_table_are_in_its_own_units(mixture: Case) -> None:
    display = ComponentsDisplay.from_model(mixture.model, mixture.data.train).plot()
    decoded = mixture.model.decode(torch.arange(3)).numpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(display.means, decoded, rtol=1e-5)
    table = mixture.data.schema.table(mixture.data.train.tensors["x"])
    spread = [np.asarray(column, float).std() for column in table.values()]
    np.testing.assert_allclose(display.spread, spread, rtol=1e-4)
    np.testing.assert_allclose(display.weights @ display.effects, 0, atol=1e-6)
    heaviest = display.order[0]
    assert display.ax_.texts[0].get_text() == f"{display.means[heaviest, 0]:.2f}"


def test_a_category_is_told_by_its_levels(tmp_path: Path) -> None:
    towns = ["Aarau", "Bern", "Chur"]
    lines = ["size,town", *(f"{80 + 1.7 * ((i * 37) % 50):.1f},{towns[i % 3]}" for i in range(60))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data = lt.load_data(tmp_path / "t.csv")
    model = lt.models.categorical_mixture(data=data, components=2)
    lt.fit(model, data, steps=3, progress=False)
    display = ComponentsDisplay.from_model(model, data.train).plot()
    assert display.columns == ("size", "town = Aarau", "town = Bern", "town = Chur")
    np.testing.assert_allclose(display.means[:, 1:].sum(1), 1, rtol=1e-5)
    assert "the probability of each level" in display.caption


def test_responsibilities_are_averaged_by_class(mixture: Case) -> None:
    rows = mixture.data.train
    display = ResponsibilityDisplay.from_model(mixture.model, rows).plot()
    assert display.classes == ("setosa", "versicolor", "virginica")
    np.testing.assert_allclose(display.shares.sum(1), 1, rtol=1e-5)
    assert rows.labels is not None
    probs = mixture.model.posterior(rows).probs.numpy()  # type: ignore[union-attr]
    expected = probs[rows.labels.numpy() == 0].mean(0)
    np.testing.assert_allclose(display.shares[0], expected[list(display.numbers)], rtol=1e-4, atol=1e-6)
    assert display.counts.sum() == 120


def test_ppcas_spectrum_agrees_in_what_it_retains_and_averages_the_rest(ppca: Case) -> None:
    display = SpectrumDisplay.from_model(ppca.model, ppca.data.train).plot()
    np.testing.assert_allclose(display.model[:3], display.sample[:3], rtol=1e-3)
    assert display.noise == pytest.approx(display.sample[3:].mean(), rel=1e-2)
    np.testing.assert_allclose(display.model[3:], display.noise, rtol=1e-4)
    assert display.retained == 3 and f"{100 * display.kept:.0f} percent" in display.caption
    SpectrumDisplay([3.0, 1.0, 0.5], [3.0, 0.75, 0.75], 1, 0.75).image()
    SpectrumDisplay([3.0, 1.0, 0.0], [3.0, 0.75, 0.1], 1).image()


def test_the_learning_curve_of_em_is_one_of_iterations(mixture: Case) -> None:
    display, folder = LossDisplay.from_run(mixture.run).plot(), LossDisplay.from_run(mixture.folder)
    assert display.em == folder.em == "log p(x)"
    assert display.ax_.get_xlabel() == "iteration"
    assert display.ax_.get_ylabel() == "log p(x), nats per example"
    assert len(display._starts()) == 2 and "another start begins" in display.caption
    bound = display.train["bound"]
    assert display.best_step == display.train["step"][np.argmax(bound)]
    for place in display._starts():
        assert (np.diff(bound[place]) >= -1e-6).all()
    told = {"step": [1, 2, 3, 4], "bound": [-3.0, -2.0, -1.0, 0.0]}
    rising = LossDisplay(told | {"start": [1, 1, 2, 2]}, em="log p(x, z)")
    assert [(place.start, place.stop) for place in rising._starts()] == [(0, 2), (2, 4)]
    assert rising.names == ["bound"] and "Where a line ends" in rising.caption
    assert len(LossDisplay(told, em="log p(x)")._starts()) == 1


def test_rounding_is_not_drawn_as_a_rise() -> None:
    still = LossDisplay({"step": [1, 2], "bound": [-4.66155064, -4.66155058]}, em="log p(x)").plot()
    low, high = still.ax_.get_ylim()
    assert low < -4.66155064 < -4.66155058 < high and high - low == pytest.approx(4.66e-3, rel=1e-3)


def test_hard_em_climbs_the_joint(tmp_path: Path) -> None:
    case = fitted("iris", tmp_path, "gaussian_mixture", {"components": 2}, estep="hard", steps=3)
    for run in (case.run, case.folder):
        display = LossDisplay.from_run(run).plot()
        assert display.em == "log p(x, z)" and "log p(x, z)" in display.ax_.get_ylabel()


def test_a_run_gets_the_pictures_that_suit_its_model(mixture: Case, ppca: Case, analysers: Case) -> None:
    shared = ["reconstructions", "samples"]
    components = ["loss", "graph", "components", "mixture", "responsibilities", *shared]
    plane = ["loss", "graph", "mixture", "spectrum", *shared, "latent_plane", "latent_scatter"]
    plane.append("aggregate_posterior")
    for case, expected in ((mixture, components), (analysers, components), (ppca, plane)):
        assert list(pictures(case.model, case.data, case.folder)) == expected
    written = plot_run(mixture.folder, mixture.model, mixture.data)
    assert [path.stem for path in written] == components
    with pytest.raises(DoesNotApply, match="another thing in each component"):
        LatentScatterDisplay.from_model(analysers.model, analysers.data.test)
    LatentScatterDisplay.from_model(analysers.model, analysers.data.test, variable="z")


def test_a_variational_bayes_mixture_has_ellipses_too(tmp_path: Path) -> None:
    options: dict[str, object] = {"components": 3, "covariance": lt.Diagonal()}
    case = fitted("iris", tmp_path, "bayesian_gaussian_mixture", options, steps=5)
    found = pictures(case.model, case.data, case.folder)
    assert {"components", "mixture", "loss"} <= set(found)
    assert found["loss"].em == "lower bound on log p"  # type: ignore[attr-defined]


def test_the_report_tells_exact_evidence_and_the_criteria(mixture: Case) -> None:
    text = write_report(mixture.folder, mixture.model, mixture.data).read_text("utf-8")
    trained = lt.log_evidence(mixture.model, mixture.data.train)
    for expected in (
        f"{trained.mean:,.3f}",
        "train, 120",
        "the exact log-evidence",
        "BIC",
        "Iterations of EM",
    ):
        assert expected in text
    assert "Monte Carlo" not in text and "L_100" not in text


def test_rows_are_taken_evenly_since_they_may_be_sorted(mixture: Case) -> None:
    rows = some_rows(mixture.model, mixture.data.train, 10)
    numbers = mixture.data.train.rows
    assert rows.rows.tolist() == numbers[::12].tolist()
    assert len(some_rows(mixture.model, mixture.data.train, 500)) == 120


def test_few_whole_numbers_are_moved_apart_and_others_are_not() -> None:
    column = np.array([0.0, 1.0, 1.0, np.nan])
    moved = scattered(column)
    assert np.nanmax(np.abs(moved - column)) < 0.2 and len(set(moved[:3])) == 3
    for other in (np.array([0.5, 1.0]), np.arange(30.0)):
        assert scattered(other) is other


@pytest.mark.parametrize(
    "make",
    [
        lambda: MixtureDisplay(np.zeros((3, 3)), np.zeros((1, 2)), np.zeros((1, 2, 2))),
        lambda: MixtureDisplay(np.zeros((3, 2)), np.zeros((1, 2)), np.zeros((2, 2, 2))),
        lambda: MixtureDisplay(np.zeros((3, 2)), np.zeros((1, 2)), np.zeros((1, 2, 2)), [0.5, 0.5]),
        lambda: ComponentsDisplay(np.zeros((3, 2)), np.zeros(2)),
        lambda: ComponentsDisplay(np.zeros((3, 2)), np.zeros(3), columns=("a",)),
        lambda: ResponsibilityDisplay(np.zeros((3, 2)), np.zeros(2)),
        lambda: SpectrumDisplay([1.0, 2.0], [1.0], 1),
        lambda: MixtureDisplay.from_model(
            lt.models.gaussian_mixture(2), torch.rand(5, 2), columns=("a", "b")
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]


def test_displays_that_do_not_apply_say_why(mixture: Case, ppca: Case, digits: Case) -> None:
    for make in (
        lambda: SpectrumDisplay.from_model(mixture.model, mixture.data.train),
        lambda: ComponentsDisplay.from_model(ppca.model, ppca.data.test),
        lambda: ResponsibilityDisplay.from_model(ppca.model, ppca.data.test),
        lambda: MixtureDisplay.from_model(digits.model, digits.data.test),
        lambda: MixtureDisplay.from_model(lt.models.bernoulli_mixture(3), torch.ones(5, 3)),
    ):
        with pytest.raises(DoesNotApply, match=r"\w+ \w+"):
            make()


def test_text_of_the_users_is_never_mathematics() -> None:
    ComponentsDisplay(np.eye(2), [0.5, 0.5], columns=("cost $", r"\frac{"), component="k_$").image()
    ResponsibilityDisplay(np.eye(2), [3, 4], classes=("$a", "b_^"), label="$^", component="k_$").image()
    MixtureDisplay(np.eye(2), np.eye(2), [np.eye(2)] * 2, names=("cost $", r"\frac{"), component="$^").image()
