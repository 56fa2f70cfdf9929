"""Comparison: paired errors, what kinds of numbers may be ordered, and that one failure stops nobody else."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import sem

import latentia as lt
from latentia.comparison import Compared, Comparison, NotComparableError, suited_models
from latentia.comparison.budget import Budget, Recipe
from latentia.evidence import Estimate
from latentia.learn.folder import read_metrics
from latentia.plots import ComparisonDisplay, DoesNotApply


@pytest.fixture(scope="module")
def iris() -> lt.data.Data:
    return lt.load_data("iris")


def mixture(data: lt.data.Data, components: int = 2) -> Any:
    return lambda seed: lt.models.gaussian_mixture(data=data, components=components, seed=seed)


def small_vae(data: lt.data.Data, **options: Any) -> Any:
    return lambda seed: lt.models.vae(data=data, latent=2, hidden=(8,), seed=seed, **options)


def estimate(values: list[float], direction: str = "exact") -> Estimate:
    tensor = torch.tensor(values)
    return Estimate(tensor, torch.zeros_like(tensor), direction, "importance", 7)  # type: ignore[arg-type]


def row(name: str, *seeds: list[float], direction: str = "exact") -> Compared:
    return Compared(name, tuple(estimate(values, direction) for values in seeds))


def comparison(*rows: Compared) -> Comparison:
    count = len(rows[0].estimates[0].values)
    return Comparison(rows, "votes", count, "units", "print", "a budget")


@pytest.fixture(scope="module")
def fitted(iris: lt.data.Data) -> Comparison:
    entries = {
        "one": mixture(iris, 1),
        "three": (mixture(iris, 3), None, {"starts": 2}),
        "vae": (small_vae(iris), lt.iwae, {"samples": 3, "lr": 1e-2}),
        "broken": lambda seed: lt.models.bernoulli_mixture(data=iris, seed=seed),
        "autoencoder": lambda seed: lt.models.autoencoder(data=iris, latent=2, hidden=(4,), seed=seed),
    }
    return lt.compare(iris, entries, updates=30, seeds=(0, 3), samples=20, progress=False)


def test_numbers_are_those_of_log_evidence_in_the_datas_units(fitted: Comparison, iris: lt.data.Data) -> None:
    for name, options in (("three", {}), ("vae", {"samples": 20})):
        for seed, model, found in zip((0, 3), fitted[name].models, fitted[name].estimates, strict=True):
            expected = lt.log_evidence(model, iris.test, seed=seed, **options)
            assert torch.equal(found.values, expected.values)
            assert found.units == "data"
    values = [found.values.double().numpy() for found in fitted["vae"].estimates]
    assert fitted["vae"].mean == pytest.approx(np.mean(values))
    assert fitted["vae"].se == pytest.approx(sem(np.mean(values, 0)))
    assert fitted["vae"].spread == pytest.approx(np.std([np.mean(v) for v in values], ddof=1))
    raw = torch.cat([lt.load_data("iris", standardise=False).test.tensors["x"]])
    in_units = fitted["three"].models[0].log_evidence(raw)
    assert torch.allclose(fitted["three"].estimates[0].values, in_units, atol=1e-4)


def test_differences_have_paired_errors(fitted: Comparison) -> None:
    def values(name: str) -> np.ndarray:
        return np.mean([found.values.double().numpy() for found in fitted[name].estimates], 0)

    for one, other in (("three", "one"), ("three", "vae"), ("vae", "one")):
        found, paired = fitted.difference(one, other), values(one) - values(other)
        assert found.mean == pytest.approx(paired.mean())
        assert found.se == pytest.approx(sem(paired))
        means = [[e.mean for e in fitted[name].estimates] for name in (one, other)]
        assert found.seeds == pytest.approx(math.hypot(*(sem(m) for m in means)), abs=1e-12)
    assert fitted.difference("three", "vae").kind == "at most"
    assert fitted.difference("vae", "three").kind == "at least"
    assert fitted.difference("three", "one").kind == "exact"


def test_the_order_and_what_has_no_place_in_it(fitted: Comparison) -> None:
    assert [r.name for r in fitted.rows] == ["three", "one", "vae", "autoencoder", "broken"]
    assert [r.name for r in fitted.ranked] == ["three", "one", "vae"]
    kinds = {r.name: r.direction for r in fitted.rows[:4]}
    assert kinds == {"one": "exact", "three": "exact", "vae": "lower", "autoencoder": "none"}
    assert "no evidence" in fitted["autoencoder"].unranked
    text = fitted.table()
    for words in ("≥ -", "L_20", "≤ ", "broken: failed: this mixture takes zeros and ones", "30 updates"):
        assert words in text


def test_one_that_fails_stops_nobody_else_and_says_why(fitted: Comparison) -> None:
    broken = fitted["broken"]
    assert len(broken.failures) == 2
    assert "the data hold 'sepal length (cm)' (number)" in broken.unranked
    assert math.isnan(broken.mean)


def test_parameters_updates_and_how_the_fits_ended_are_told(fitted: Comparison) -> None:
    assert fitted["one"].parameters == 4 + 10
    assert fitted["three"].parameters == 3 * (4 + 10) + 2
    assert (fitted["one"].updates, fitted["one"].stopped) == (2, ("converged",))
    assert (fitted["vae"].updates, fitted["vae"].stopped) == (30, ("steps",))
    assert fitted["vae"].fit_seconds is not None and fitted["vae"].fit_seconds > 0
    assert any(note.startswith("Cut off") and "vae" in note for note in fitted.notes)


def test_csv_holds_every_digit(fitted: Comparison, tmp_path: Path) -> None:
    path = fitted.to_csv(tmp_path / "new" / "table.csv")
    with path.open(newline="") as file:
        lines = {line["model"]: line for line in csv.DictReader(file)}
    assert list(lines) == [r.name for r in fitted.rows]
    for name, line in lines.items():
        found = fitted[name]
        for column, value in (("nats", found.mean), ("se", found.se), ("seed_spread", found.spread)):
            assert (float(line[column]) if line[column] else math.nan) == pytest.approx(
                value, abs=0, nan_ok=True
            )
        behind = fitted.behind(found)
        assert line["behind_se"] == ("" if behind is None else repr(behind.se))
        assert (line["rows"], line["units"]) == ("15", "the columns' own units")
    assert lines["vae"]["direction"] == "lower" and lines["vae"]["samples"] == "20"
    assert lines["broken"]["failures"].startswith("this mixture takes")


def test_the_dict_is_json(fitted: Comparison) -> None:
    told = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    assert told["winner"] == fitted.winner
    assert [model["place"] for model in told["models"]] == [1, 2, 3, None, None]
    assert len(told["models"][0]["seeds"]) == 2


def test_the_winner_may_be_chance() -> None:
    near = comparison(row("a", [-1.0, -2.0, -3.0]), row("b", [-1.5, -1.5, -3.5]))
    assert near.winner == (
        "a is best: -2.00 ± 0.58 nats per row on 3 test rows (exact), 0.17 ± 0.33 more than b; the "
        "difference is not beyond two standard errors, so other test rows could turn it around."
    )
    far = comparison(row("a", [-1.0, -2.0, -3.0]), row("b", [-2.0, -3.1, -4.0]))
    assert far.winner.endswith("1.033 ± 0.033 more than b; the difference is beyond two standard errors.")


def test_a_clear_difference_may_still_turn_around_with_the_seeds() -> None:
    moving = row("a", [-1.0, -2.0, -3.0], [-3.0, -4.0, -5.0])
    found = comparison(moving, row("b", [-2.5, -3.6, -4.5])).winner
    assert (
        "beyond two standard errors, but other seeds could turn it around (their standard error is 1)"
        in found
    )


def test_one_test_row_has_no_error() -> None:
    found = comparison(row("a", [-1.0]), row("b", [-2.0]))
    assert math.isnan(found.difference("a", "b").se)
    assert "one test row cannot tell how sure that is" in found.winner


def test_bounds_prove_an_order_in_one_direction_only() -> None:
    high, low = [-1.0, -2.0, -3.0], [-2.0, -3.1, -4.0]
    lower_first = comparison(row("vae", high, direction="lower"), row("ppca", low))
    assert "vae is best: ≥ -2.00 ± 0.58" in lower_first.winner
    assert "at least 1.033 ± 0.033 more than ppca" in lower_first.winner
    exact_first = comparison(row("ppca", high), row("vae", low, direction="lower"))
    assert "above the lower bound of vae, which is no proof: vae may be better" in exact_first.winner
    bounds = comparison(row("a", high, direction="lower"), row("b", low, direction="lower"))
    assert bounds.difference("a", "b").kind == "of bounds"
    assert "a comes first" in bounds.winner and "no proof" in bounds.winner


def test_the_best_of_the_exact_ones_is_told_of_bounds_that_prove_nothing() -> None:
    high, low, least = [-1.0, -2.0, -3.0], [-2.0, -3.1, -4.0], [-4.0, -5.2, -6.0]
    one = comparison(row("ppca", high), row("fa", low), row("vae", least, direction="lower")).winner
    assert one.endswith("Of vae there is only a lower bound, which proves no order.")
    bounds = [row(name, least, direction="lower") for name in ("vae", "sbn")]
    two = comparison(row("ppca", high), row("fa", low), *bounds).winner
    assert two.endswith("Of vae, sbn there are only lower bounds, which prove no order.")
    proven = comparison(row("vae", high, direction="lower"), row("ppca", low), row("fa", least)).winner
    assert "proves no order" not in proven


def test_data_read_in_another_way_are_refused_before_anything_is_fitted() -> None:
    grey, black = lt.load_data("digits"), lt.load_data("digits", binarise="threshold")
    model = small_vae(grey)(0)
    lt.fit(model, grey, steps=2, progress=False)

    def never(seed: int) -> lt.Model:
        raise AssertionError("nothing is fitted")

    with pytest.raises(NotComparableError, match=r"'grey'.*pixels 0..16, and the data are.*binarised pixels"):
        lt.compare(black, {"never": never, "grey": model}, progress=False)
    with pytest.raises(ValueError, match=r"'built'.*cannot be compared"):
        lt.compare(black, {"built": lambda seed: small_vae(grey)(seed)}, updates=2, progress=False)


def test_other_columns_are_named(iris: lt.data.Data) -> None:
    other = lt.load_data("iris", types={"sepal length (cm)": "ignored"})
    model = mixture(other)(0)
    lt.fit(model, other, steps=2, progress=False)
    with pytest.raises(
        NotComparableError, match=r"it has no column 'sepal length \(cm\)', and the data have"
    ):
        lt.compare(iris, {"other": model}, progress=False)
    whole = mixture(iris)(0)
    lt.fit(whole, iris, steps=2, progress=False)
    with pytest.raises(NotComparableError, match=r"is a number to it, and not there in the data"):
        lt.compare(other, {"whole": whole}, progress=False)


def test_runs_and_fitted_models_take_part_as_they_are(iris: lt.data.Data, tmp_path: Path) -> None:
    run = lt.fit(mixture(iris)(0), iris, steps=20, out=tmp_path / "run", progress=False)
    plain = mixture(iris)(1)
    found = lt.compare(
        iris,
        {"run": run.folder, "folder": str(tmp_path / "run" / "model"), "model": run.model, "plain": plain},
        updates=20,
        seeds=(0, 1),
        progress=False,
    )
    expected = lt.log_evidence(run.model, iris.test)
    for name in ("run", "folder", "model"):
        assert torch.equal(found[name].estimates[0].values, expected.values)
        assert len(found[name].estimates) == 1
    assert found["run"].updates == run.steps
    assert found["run"].fit_seconds == pytest.approx(read_metrics(tmp_path / "run")[-1]["seconds"], abs=0.5)
    assert len(found["plain"].models) == 2
    assert not plain.fitted


def test_a_run_that_may_have_seen_the_test_rows_is_not_ranked(tmp_path: Path) -> None:
    for name, options in (("wine", {}), ("digits", {"binarise": "threshold"})):
        data, other = (lt.load_data(name, seed=seed, **options) for seed in (0, 1))
        make = lt.models.ppca if name == "wine" else lt.models.bernoulli_mixture
        lt.fit(make(data=other), other, steps=2, out=tmp_path / name, progress=False)
        found = lt.compare(data, {"other": tmp_path / name}, progress=False)
        assert "may have seen these test rows" in found["other"].unranked
        assert found.winner == "No model could be ranked."
        assert math.isfinite(found["other"].mean)


def test_other_scaling_of_the_same_columns_is_comparable(iris: lt.data.Data) -> None:
    plain = lt.load_data("iris", standardise=False)
    model = mixture(plain, 1)(0)
    lt.fit(model, plain, steps=20, progress=False)
    found = lt.compare(
        iris, {"plain": model, "scaled": mixture(iris, 1)}, updates=20, seeds=(0,), progress=False
    )
    assert found["plain"].mean == pytest.approx(found["scaled"].mean, abs=2e-2)
    assert torch.allclose(found["plain"].values, model.log_evidence(plain.test).double(), atol=1e-4)


def test_a_damaged_run_is_a_failure_and_an_absent_one_a_mistake(iris: lt.data.Data, tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    found = lt.compare(iris, {"run": tmp_path / "run", "one": mixture(iris, 1)}, updates=2, progress=False)
    assert "config.json" in found["run"].unranked
    assert found.winner.startswith("one is the only one that could be ranked: -2.40 ± 0.31")
    with pytest.raises(ValueError, match="there is no run or model folder"):
        lt.compare(iris, {"run": tmp_path / "none"}, progress=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"updates": 5, "seconds": 1}, "a budget has one measure: say updates or seconds"),
        ({"updates": 0}, "updates must be above 0, got 0"),
        ({"seeds": ()}, "seeds are different whole numbers"),
        ({"seeds": (1, 1)}, "seeds are different whole numbers"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"method": "importanc"}, "did you mean 'importance'"),
        ({"update": 5}, "compare has no option 'update'; did you mean 'updates'"),
        ({"entries": {}}, "there is nothing to compare"),
        ({"entries": {"a": 3}}, "'a' is a int: pass a model"),
    ],
)
def test_mistakes_are_told_at_the_door(iris: lt.data.Data, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        lt.compare(iris, **{"entries": {"one": mixture(iris, 1)}, "progress": False, **options})


def test_no_test_rows(iris: lt.data.Data) -> None:
    whole = lt.load_data("iris", split=(0.9, 0.1, 0))
    with pytest.raises(ValueError, match="iris has no test rows: a comparison needs both"):
        lt.compare(whole, {"one": mixture(whole, 1)})


def test_entries_that_do_not_fit_are_failures_of_their_own(iris: lt.data.Data) -> None:
    done = mixture(iris, 1)(0)
    lt.fit(done, iris, steps=2, progress=False)
    with pytest.raises(ValueError, match="'done' is fitted already: pass the model alone"):
        lt.compare(iris, {"done": (done, lt.elbo)}, progress=False)
    entries = {
        "number": lambda seed: seed,
        "same": lambda seed: done,
        "steps": (mixture(iris, 1), None, {"steps": 3}),
        "internal": lambda seed: {}["absent"],
    }
    found = lt.compare(iris, entries, updates=2, seeds=(4,), progress=False)
    sentences = {r.name: r.unranked for r in found.rows}
    assert "gave a int, and a latentia.Model was expected" in sentences["number"]
    assert "fitted already: build a new one for each seed" in sentences["same"]
    assert "steps is set by the comparison" in sentences["steps"]
    assert sentences["internal"] == "KeyError: 'absent'"


def test_interruptions_are_not_failures(iris: lt.data.Data) -> None:
    def interrupted(seed: int) -> lt.Model:
        raise lt.errors.Interrupted("enough", 2)

    with pytest.raises(lt.errors.Interrupted):
        lt.compare(iris, {"one": interrupted}, progress=False)


def test_evaluations_are_steps_times_batch_and_iterations_times_rows(iris: lt.data.Data) -> None:
    budget = Budget(evaluations=1200)
    ascent = budget.fit(Recipe(small_vae(iris)(0), None, {"batch": 40}), iris, seed=0)
    assert ascent.updates == 30
    em = budget.fit(Recipe(mixture(iris, 3)(0), None, {"tol": 0.0}), iris, seed=0)
    assert em.updates == 10
    with pytest.raises(ValueError, match="100 evaluations are not enough for one iteration of EM"):
        Budget(evaluations=100).fit(Recipe(mixture(iris)(0)), iris, seed=0)


def test_seconds_end_a_fit(iris: lt.data.Data) -> None:
    for recipe in (
        Recipe(lt.models.factor_analysis(data=iris, latent=1), None, {"tol": 0.0}),
        Recipe(small_vae(iris)(0), None, {"patience": None}),
    ):
        found = Budget(seconds=0.2).fit(recipe, iris, seed=0)
        assert found.stopped == "steps"
        assert found.updates >= 1
        assert recipe.model.fitted


@pytest.mark.parametrize("pace", [0.001, 0.01, 0.3])
def test_as_many_steps_are_taken_as_fit_into_the_seconds(
    iris: lt.data.Data, pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def timed(*_: Any, steps: int, **__: Any) -> Any:
        lengths.append(steps)
        history = [{"split": "train", "seconds": pace * step} for step in range(1, steps + 1)]
        return SimpleNamespace(steps=steps, seconds=pace * steps, stopped="steps", history=history)

    monkeypatch.setattr("latentia.comparison.budget.fit", timed)
    ascent = Budget(seconds=3.0).fit(Recipe(small_vae(iris)(0)), iris, seed=0)
    assert ascent.updates == pytest.approx(3 / pace, abs=1)
    assert sum(lengths[:-1]) <= max(3, 0.3 * ascent.updates)
    lengths.clear()
    em = Budget(seconds=3.0).fit(Recipe(mixture(iris)(0)), iris, seed=0)
    assert em.updates == sum(lengths)
    assert 0.9 * 3 - 2 * pace <= em.updates * pace <= 3 + 2 * pace
    assert len(lengths) < 10


def test_em_in_slices_ends_where_it_would_have(iris: lt.data.Data) -> None:
    one, other = mixture(iris, 3)(0), mixture(iris, 3)(0)
    sliced = Budget(seconds=20.0).fit(Recipe(one), iris, seed=0)
    whole = Budget(updates=500).fit(Recipe(other), iris, seed=0)
    assert (sliced.stopped, sliced.updates) == ("converged", pytest.approx(whole.updates, abs=2))
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_models_are_picked_that_fit_the_columns() -> None:
    numbers = suited_models(lt.load_data("wine"))
    assert {name.partition(":")[0] for name in numbers} == {
        *("gaussian_mixture", "ppca", "factor_analysis", "mixture_of_factor_analysers", "vae")
    }
    binary = suited_models(lt.load_data("digits", binarise="threshold"))
    assert {name.partition(":")[0] for name in binary} == {"bernoulli_mixture", "vae"}
    mixed = suited_models(lt.load_data(_table()))
    assert {name.partition(":")[0] for name in mixed} == {"categorical_mixture", "vae"}
    with pytest.raises(ValueError, match="no models are known by heart for data of a, b"):
        suited_models(lt.load_data({"a": np.random.default_rng(0).normal(size=(40, 2)), "b": np.eye(40, 3)}))


def test_without_entries_a_mixed_table_finds_its_winner() -> None:
    data = lt.load_data(_table())
    found = lt.compare(data, updates=4, seeds=(0,), samples=5, progress=False)
    assert not [r.failures for r in found.rows if r.failures]
    assert "categorical_mixture" in found.winner


def test_the_picture_shows_the_ranked_ones(fitted: Comparison, tmp_path: Path) -> None:
    display = ComparisonDisplay.from_comparison(fitted)
    assert display.names == ["three", "one", "vae"]
    assert display.left_out == ["autoencoder", "broken"]
    assert display.means.tolist() == [r.mean for r in fitted.ranked]
    assert math.isnan(display.differences[0])
    assert display.differences[1] == fitted.difference("three", "one").se
    drawn = display.plot()
    labels = [text.get_text() for text in drawn.ax_.get_legend().get_texts()]
    assert labels == ["exact", "lower bound"]
    assert "Without a place: autoencoder, broken." in display.caption
    assert display.save(tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DoesNotApply):
        ComparisonDisplay.from_comparison(Comparison((Compared("a"),), "d", 1, "u", "p", "b"))


def test_the_picture_is_not_flattened_by_one_far_behind() -> None:
    nan = math.nan
    numbers = ([-1.0, -2.0, -3.0, -900.0], [0.1] * 4, [nan, 0.1, 0.1, 9.0], ["exact"] * 4)
    display = ComparisonDisplay(["a", "b", "c", "d"], *numbers).plot()
    low, high = display.ax_.get_xlim()
    assert -5 < low < -3.1 and -0.9 < high < 0
    assert [text.get_text() for text in display.ax_.texts] == ["◂ -900"]
    assert "outside the frame" in display.caption
    with pytest.raises(ValueError, match="must be as many"):
        ComparisonDisplay(["a"], *numbers)


def _table() -> Any:
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(0)
    town = generator.choice(["Aarau", "Bern", "Chur"], size=80)
    return pandas.DataFrame({"size": generator.normal(80, 9, size=80), "town": town, "rooms": town == "Bern"})
