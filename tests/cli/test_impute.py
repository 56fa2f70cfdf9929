"""latentia impute: a file comes back as it was, its holes filled."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

import latentia as lt
from latentia.cli import main

from .conftest import Cli

NAMES = ["plot", "sepal_length", "sepal_width", "petal_length", "petal_width", "species"]
HOLES = ("", "?", "NA")


def iris(path: Path, holes: float, seed: int = 0) -> list[list[str]]:
    """Iris as a CSV file with a column that no model is for, some of the measured cells missing."""
    rng, found = np.random.default_rng(seed), load_iris()
    rows = []
    for i, (numbers, code) in enumerate(zip(found.data.tolist(), found.target, strict=True)):
        cells = [*(f"{number:.2f}" for number in numbers), str(found.target_names[code])]
        gone = rng.random(5) < holes
        rows.append(
            [f"P{i}", *(str(rng.choice(HOLES)) if g else c for c, g in zip(cells, gone, strict=True))]
        )
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *rows])
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture fitted to iris without holes."""
    root = tmp_path_factory.mktemp("iris")
    iris(root / "iris.csv", 0.0)
    options = ["--model", "categorical_mixture", "--components", "6", "--types", "plot=ignored", "--quiet"]
    assert main(["fit", str(root / "iris.csv"), *options, "--out", str(root / "run")]) == 0
    return root / "run"


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_every_cell_that_was_there_stays_as_it_was_written(cli: Cli, run: Path) -> None:
    holed, whole = iris(Path("holes.csv"), 0.25), iris(Path("whole.csv"), 0.0)
    done = cli("impute", run, "holes.csv", "--out", "filled.csv")
    assert done.code == 0, done.err
    gone = sum(cell in HOLES for row in holed for cell in row)
    assert f"150 rows: {gone} missing cells filled" in done.err
    assert "left as they are: plot" in done.err
    header, *filled = rows_of(Path("filled.csv").read_text())
    assert header == NAMES
    for before, after in zip(holed, filled, strict=True):
        assert all(a == b for b, a in zip(before, after, strict=True) if b not in HOLES)
        assert after[5] in ("setosa", "versicolor", "virginica")
        assert all(float(number) > 0 for number in after[1:5])
    species = [(a[5], w[5]) for b, a, w in zip(holed, filled, whole, strict=True) if b[5] in HOLES]
    assert np.mean([a == b for a, b in species]) > 0.8
    pairs = [
        (float(a[3]), float(w[3])) for b, a, w in zip(holed, filled, whole, strict=True) if b[3] in HOLES
    ]
    assert np.mean([(a - w) ** 2 for a, w in pairs]) < 0.3 * load_iris().data[:, 2].var()


def test_draws_stand_below_each_other_and_in_arrays(cli: Cli, run: Path) -> None:
    iris(Path("holes.csv"), 0.25)
    done = cli("impute", run, "holes.csv", "--draws", "3", "--seed", "1")
    assert "3 draws" in done.err
    header, *rows = rows_of(done.out)
    assert header == ["draw", *NAMES]
    assert [int(row[0]) for row in rows] == [1] * 150 + [2] * 150 + [3] * 150
    assert rows_of(cli("impute", run, "holes.csv", "--draws", "3", "--seed", "1").out)[1:] == rows
    assert cli("impute", run, "holes.csv", "--draws", "3", "--seed", "1", "--out", "x.npz").code == 0
    assert cli("impute", run, "holes.csv", "--out", "x.npy").code == 0
    drawn, means = np.load("x.npz")["x"], np.load("x.npy")
    assert drawn.shape == (3, 150, 5)
    assert means.shape == (150, 5)
    assert not np.isnan(drawn).any()
    model = lt.load_model(run / "model")
    assert np.array_equal(drawn, lt.impute(model, "holes.csv", draws=3, seed=1).numpy())
    assert np.allclose(drawn[:, :, 0].flatten(), [float(row[2]) for row in rows], rtol=1e-6)


def test_a_file_without_holes_comes_back_as_it_is(cli: Cli, run: Path) -> None:
    iris(Path("whole.csv"), 0.0)
    done = cli("impute", run, "whole.csv", "--out", "same.csv")
    assert done.code == 0
    assert "nothing is missing" in done.err
    assert rows_of(Path("same.csv").read_text()) == rows_of(Path("whole.csv").read_text())


def test_what_cannot_be_imputed_is_refused(cli: Cli, run: Path, table_run: Path) -> None:
    iris(Path("holes.csv"), 0.25)
    refused = cli("impute", table_run, "holes.csv")
    assert refused.code == 2
    assert "impute needs the posterior in closed form" in refused.sentence
    for option, value, word in (("--out", "x.png", "must end in"), ("--draws", "0", "at least 1")):
        refused = cli("impute", run, "holes.csv", option, value)
        assert refused.code == 2
        assert word in refused.sentence
    Path("other.csv").write_text("sepal_length,species\n5.1,setosa\n")
    refused = cli("impute", run, "other.csv")
    assert refused.code == 3
    assert "lacks column 'sepal_width'" in refused.sentence
    Path("odd.csv").write_text(",".join(NAMES[1:]) + "\n5.1,3.5,,0.2,tulip\n")
    refused = cli("impute", run, "odd.csv")
    assert refused.code == 3
    assert "tulip" in refused.sentence


def test_its_help_shows_examples(cli: Cli) -> None:
    done = cli("impute", "--help")
    assert done.code == 0
    assert "latentia impute" in done.out.partition("Examples:")[2]
    assert "impute" in cli("--help").out
