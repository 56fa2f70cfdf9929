"""Models with an exact posterior as a user types them: EM, exact evidence, responsibilities, bad input."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest

import latentia as lt
from latentia.cli import main

from .conftest import Cli, Result

BENCHMARKS = Path(os.environ.get("LATENTIA_DATA", "../shared/data")).absolute()
MIXTURE = ["--model", "gaussian_mixture", "--components", 3]


def table(done: Result) -> dict[str, list[str]]:
    """The columns of a CSV on stdout."""
    rows = list(csv.reader(io.StringIO(done.out)))
    return {name: [row[j] for row in rows[1:]] for j, name in enumerate(rows[0])}


def write_csv(name: str, rows: np.ndarray) -> Path:
    """A CSV of columns c0, c1, ..., holes empty."""
    lines = [",".join(f"c{j}" for j in range(rows.shape[1]))]
    lines += [",".join("" if np.isnan(cell) else f"{cell:g}" for cell in row) for row in rows]
    Path(name).write_text("\n".join(lines) + "\n")
    return Path(name)


def weights(folder: str) -> bytes:
    return (Path(folder) / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def iris_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of three Gaussians on iris."""
    folder = tmp_path_factory.mktemp("runs") / "iris"
    assert main(["fit", "iris", *map(str, MIXTURE), "--starts", "2", "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def analysers_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of factor analysers on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    words = "--model mixture_of_factor_analysers --components 3 --latent 2 --covariance spherical --steps 5"
    assert main(["fit", "digits", *words.split(), "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def nltcs(cli: Cli) -> Path:
    """2,000 rows of nltcs.csv, taken evenly, in the test's folder."""
    path = BENCHMARKS / "nltcs.csv"
    if not path.exists():
        pytest.skip("nltcs.csv is not in $LATENTIA_DATA")
    lines = path.read_text().splitlines()
    Path("nltcs.csv").write_text("\n".join([lines[0], *lines[1::11]]) + "\n")
    return Path("nltcs.csv")


def test_fit_says_what_is_exact_and_what_was_learnt(cli: Cli) -> None:
    done = cli("fit", "iris", *MIXTURE, "--tol", "1e-4")
    assert done.code == 0, done.err
    for note in (
        "44 of them free",
        "q(k | x) = p(k, x) / p(x), exact: 3 states of k are enumerated",
        "p(k) is Categorical with 3 codes",
        "Normal with full covariance, one for each of 3 codes: the values are numbers",
        "expectation-maximisation",
    ):
        assert note in done.err
    for fact in ("log p(x), training", "log p(x), validation", "after preprocessing", "converged to 0.0001"):
        assert fact in done.out
    shares = next(line for line in done.out.splitlines() if line.startswith("weights of k"))
    assert sum(map(float, shares.removeprefix("weights of k").split(","))) == pytest.approx(1, abs=2e-3)
    assert "active units" not in done.out


@pytest.mark.parametrize(
    ("source", "words", "said"),
    [
        ("iris", "--model gaussian_mixture --components 2 --covariance diagonal", "Normal of shape [4], one"),
        ("iris", "--model gaussian_mixture --components 2 --covariance spherical", "spherical covariance"),
        ("iris", "--model gaussian_mixture --components 2 --covariance tied", "the same full covariance"),
        ("wine", "--model factor_analysis --latent 2", "noise of a variance for each entry"),
        ("wine", "--model categorical_mixture --components 2", "by column Normal"),
        ("iris", "--model neural_mixture --components 2 --hidden 8 --climbs 3", "one learnt scale"),
        ("iris", "--model gaussian_mixture --components 2 --estep hard --start random", "hard E-steps"),
        ("digits", "--model bernoulli_mixture --components 2 --binarise threshold", "the pixels are 0 or 1"),
    ],
)
def test_every_model_runs_and_is_read_by_every_command(cli: Cli, source: str, words: str, said: str) -> None:
    done = cli("fit", source, *words.split(), "--steps", 4, "--out", "run")
    assert done.code == 0, done.err
    assert said in done.err
    for command in ("evaluate", "score", "embed", "reconstruct"):
        found = cli(command, "run", "--rows", 5)
        assert found.code == 0, found.err
        assert "nan" not in found.out.lower()
    assert cli("sample", "run", "-n", 3).code == 0


def test_a_log_linear_model_of_ten_columns(cli: Cli, nltcs: Path) -> None:
    columns = ",".join(f"d{j}" for j in range(10))
    words = f"--model log_linear --classes 4 --features unary,pairwise --columns {columns} --steps 3"
    done = cli("fit", nltcs, *words.split())
    assert done.code == 0, done.err
    assert "10 binaries: d0" in done.err and "Left out: d10 (as asked)" in done.err
    assert "LogLinear over 1,024 values, with 85 features: the values are 0 or 1" in done.err
    resolved = tomllib.loads(Path("runs/nltcs/config.toml").read_text())
    assert resolved["model"]["features"] == ["unary", "pairwise"]
    assert resolved["data"]["columns"] == columns.split(",")
    found = table(cli("embed", "runs/nltcs", nltcs, "--rows", 4))
    assert list(found) == ["row", "z=0", "z=1", "z=2", "z=3"]
    refused = cli("fit", nltcs, *words.replace("d9", "d99").split(), "--overwrite")
    assert (refused.code, "no column 'd99'" in refused.sentence) == (3, True)


def test_columns_leave_the_label_alone(cli: Cli) -> None:
    rows = "\n".join(f"{i * 0.31 % 1:.2f},{i * 0.17 % 1:.2f},{i % 2},{'ab'[i % 2]}" for i in range(40))
    Path("t.csv").write_text("a,b,c,kind\n" + rows + "\n")
    words = ["--model", "ppca", "--latent", 1, "--columns", "a,b", "--label", "kind"]
    done = cli("fit", "t.csv", *words)
    assert done.code == 0, done.err
    assert "2 numbers: a, b" in done.err and "Labels: kind" in done.err


def test_the_config_repeats_a_run_bit_for_bit_and_another_method_forgets_it(cli: Cli) -> None:
    options = ["--start", "random", "--starts", 2, "--tol", "1e-3", "--seed", 3, "--covariance", "tied"]
    assert cli("fit", "iris", *MIXTURE, *options, "--out", "one", "--quiet").code == 0
    assert cli("fit", "--config", "one/config.toml", "--out", "two", "--quiet").code == 0
    assert weights("one") == weights("two")
    assert Path("one/config.toml").read_text() == Path("two/config.toml").read_text()
    resolved = tomllib.loads(Path("one/config.toml").read_text())
    assert resolved["em"] == {"start": "random", "starts": 2, "tol": 1e-3, "estep": "exact", "climbs": 20}
    assert resolved["fit"] == {"method": "em", "steps": 1000, "seed": 3}
    assert resolved["model"]["covariance"] == "tied" and "objective" not in resolved
    ascent = ["--method", "ascent", "--steps", 10, "--out", "three", "--quiet"]
    assert cli("fit", "--config", "one/config.toml", *ascent).code == 0
    resolved = tomllib.loads(Path("three/config.toml").read_text())
    assert (resolved["fit"]["method"], resolved["objective"]["name"]) == ("ascent", "elbo")
    assert "em" not in resolved


def test_the_default_covariance_is_written_down(cli: Cli) -> None:
    assert cli("fit", "iris", *MIXTURE, "--steps", 2, "--quiet").code == 0
    assert tomllib.loads(Path("runs/iris/config.toml").read_text())["model"]["covariance"] == "full"


def test_an_objective_makes_it_gradient_ascent(cli: Cli) -> None:
    done = cli("fit", "iris", *MIXTURE, "--objective", "elbo", "--steps", 10)
    assert done.code == 0, done.err
    assert "gradient ascent" in done.err and "at step" in done.out and "log p(x), training" in done.out


def test_a_run_of_em_goes_on_where_it_stopped(cli: Cli) -> None:
    options = ["--tol", "0", "--quiet"]
    assert cli("fit", "iris", *MIXTURE, *options, "--steps", 5, "--out", "run").code == 0
    assert "not converged" in cli("fit", "--out", "run", "--resume", "--steps", 8).out
    assert cli("fit", "iris", *MIXTURE, *options, "--steps", 8, "--out", "whole").code == 0
    assert weights("run") == weights("whole")
    refused = cli("fit", "--out", "run", "--resume", "--start", "random")
    assert (refused.code, "start was kmeans and is now random" in refused.sentence) == (2, True)


def test_evaluate_tells_every_split_and_the_criteria(cli: Cli, iris_run: Path) -> None:
    done = cli("evaluate", iris_run)
    assert done.code == 0
    assert "log p(x) = " in done.out.splitlines()[0] and "(exact)" in done.out.splitlines()[0]
    assert "k is summed out: log p(x) is exact" in done.out
    assert "Monte Carlo" not in done.out and "draws" not in done.out
    numbers = json.loads(cli("evaluate", iris_run, "--json").out)
    model, data = lt.load_model(iris_run / "model"), lt.load_data("iris")
    for told in numbers["estimates"]:
        expected = lt.log_evidence(model, data.splits[told["split"]])
        assert (told["mean"], told["rows"]) == (pytest.approx(expected.mean), len(expected.values))
        assert told["se"] == pytest.approx(expected.se)
        assert "mc_error" not in told and "samples" not in told
    assert [told["split"] for told in numbers["estimates"]] == ["train", "valid", "test"]
    k, criteria = 2 + 3 * (4 + 10), numbers["criteria"]
    total = 120 * numbers["estimates"][0]["mean"]
    assert (criteria["parameters"], criteria["rows"]) == (k, 120)
    assert criteria["bic"] == pytest.approx(-2 * total + k * math.log(120))
    assert criteria["aic"] == pytest.approx(-2 * total + 2 * k)
    assert f"BIC {criteria['bic']:,.1f}" in done.out
    assert sum(numbers["components"]["k"]["weights"]) == pytest.approx(1, abs=1e-5)
    assert sum(numbers["components"]["k"]["shares"]) == pytest.approx(1, abs=1e-5)


def test_evaluate_of_chosen_rows_has_criteria_of_whole_training_rows_only(cli: Cli, iris_run: Path) -> None:
    assert "BIC" in cli("evaluate", iris_run, "--split", "train").out
    for words in (["--split", "test"], ["--rows", "10"], ["iris"]):
        done = cli("evaluate", iris_run, *words)
        assert done.code == 0 and "BIC" not in done.out


def test_score_is_exact(cli: Cli, iris_run: Path) -> None:
    found = table(cli("score", iris_run))
    assert list(found) == ["row", "log_evidence"]
    model, rows = lt.load_model(iris_run / "model"), lt.load_data("iris").test
    told = [float(cell) for cell in found["log_evidence"]]
    np.testing.assert_allclose(told, model.log_evidence(rows), rtol=1e-5)


def test_embed_writes_responsibilities_and_means(cli: Cli, iris_run: Path, analysers_run: Path) -> None:
    found = table(cli("embed", iris_run))
    assert list(found) == ["row", "label", "k=0", "k=1", "k=2"]
    sums = sum(np.array([float(cell) for cell in found[f"k={k}"]]) for k in range(3))
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    both = cli("embed", analysers_run, "--rows", 3)
    assert list(table(both)) == ["row", "label", "k=0", "k=1", "k=2", "z0", "z1"]
    assert "the posterior probabilities of k and the means of q(z | x)" in both.err
    assert cli("embed", analysers_run, "--out", "codes.npz").code == 0
    with np.load("codes.npz") as arrays:
        assert arrays["k"].shape == (180, 3) and arrays["z"].shape == (180, 2)


def test_pictures_are_sampled_and_reconstructed(cli: Cli, analysers_run: Path) -> None:
    assert cli("sample", analysers_run, "-n", 4, "--out", "new.png").code == 0
    done = cli("reconstruct", analysers_run, "--rows", 4, "--out", "pairs.png")
    assert "the mean of p(x | k, z) at the most probable k and the mean of z" in done.err
    assert cli("evaluate", analysers_run).out.count("bits") == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("--model vae --starts 3", "--starts is an option of expectation-maximisation, and vae is fitted by"),
        ("--model vae --method em", "--method em needs an exact posterior, and vae has none"),
        ("--model ppca --method likelihood", "for models without latent variables, and ppca has z"),
        ("--model ppca --lr 0.1", "--lr is an option of gradient ascent, and ppca is fitted by expectation"),
        ("--model ppca --beta 2", "--beta is an option of gradient ascent"),
        ("--model ppca --method ascent --tol 1", "leave it out, or say --method em"),
        ("--model ppca --components 3", "model ppca has no option 'components'; it takes latent"),
        ("--model gaussian_mixtur", "did you mean 'gaussian_mixture'?"),
        ("--model gaussian_mixture --covariance ful", "did you mean 'full'?"),
        ("--model mixture_of_factor_analysers --covariance tied", "--covariance tied does not suit"),
        ("--model gaussian_mixture --compnents 3", "Did you mean --components?"),
        ("--model gaussian_mixture --start kmean", 'Did you mean "kmeans"?'),
        ("--model gaussian_mixture --components 0", "at least 1 component"),
        ("--model gaussian_mixture --tol -1", "tol must not be negative"),
        ("--model gaussian_mixture --components 121", "121 components are more than the 120 rows"),
        ("--model bernoulli_mixture", "this mixture takes zeros and ones, and the data hold 'sepal length"),
        ("--model log_linear", "a log-linear model is for binary columns"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(cli: Cli, words: str, hint: str) -> None:
    done = cli("fit", "iris", *words.split())
    assert (done.code, done.out) == (2, "")
    assert hint in done.sentence and "Traceback" not in done.err
    assert not Path("runs/iris").exists()


def test_too_many_values_are_told_with_their_number_and_the_limit(cli: Cli) -> None:
    source = write_csv("wide.csv", np.random.default_rng(0).integers(0, 2, (60, 25)).astype(float))
    done = cli("fit", source, "--model", "log_linear")
    assert done.code == 2
    assert "25 binary columns have 2^25 values, and at most 1,048,576" in done.sentence
    done = cli("fit", source, "--model", "log_linear", "--columns", "c0,c1", "--features", "unry")
    assert "did you mean 'unary'?" in done.sentence


@pytest.mark.parametrize("covariance", ["full", "spherical"])
def test_duplicate_rows_and_constant_columns_leave_finite_numbers(cli: Cli, covariance: str) -> None:
    rows = np.tile([[1.5, 2.5, 7.0], [1.0, 2.0, 7.0]], (20, 1))
    write_csv("twice.csv", rows)
    words = ["--model", "gaussian_mixture", "--components", 4, "--covariance", covariance]
    done = cli("fit", "twice.csv", *words)
    assert done.code == 0, done.err
    assert "Constant in the training rows" in done.err and "holds less than one row" in done.out
    numbers = json.loads(cli("evaluate", "runs/twice", "--json").out)
    assert all(math.isfinite(told["mean"]) for told in numbers["estimates"])


def test_holes_are_marginalised_and_what_is_wholly_missing_is_left_out(cli: Cli) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 4))
    rows[3], rows[4, 1], rows[:, 3] = np.nan, np.nan, np.nan
    write_csv("holes.csv", rows)
    done = cli("fit", "holes.csv", "--model", "gaussian_mixture", "--components", 2)
    assert done.code == 0, done.err
    assert "Left out: c3 (every cell is missing)" in done.err
    assert "1 row with nothing observed" in done.err and "Missing: 1 cell" in done.err
    assert "nan" not in cli("score", "runs/holes", "--split", "train").out
    write_csv("none.csv", np.full((10, 3), np.nan))
    done = cli("fit", "none.csv", "--model", "ppca")
    assert done.code == 3
    assert "no column of none.csv is left to model" in done.sentence


def test_a_held_out_row_that_is_impossible_is_told(cli: Cli) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    rows[3, 1] = 1e30  # a row of the validation split
    done = cli("fit", write_csv("outlier.csv", rows), "--model", "ppca", "--latent", 1, "--quiet")
    assert done.code == 0
    assert "-inf nats per row" in done.out and "nan" not in done.out
    assert "look for extreme values in it" in " ".join(done.out.split())


def test_categories_have_probabilities_and_no_densities(cli: Cli) -> None:
    codes = np.random.default_rng(0).integers(0, 3, size=(60, 2))
    lines = ["size,colour", *(f"{'SML'[a]},{'RGB'[b]}" for a, b in codes)]
    Path("codes.csv").write_text("\n".join(lines) + "\n")
    words = ["--model", "categorical_mixture", "--components", 2, "--steps", 3, "--quiet"]
    assert cli("fit", "codes.csv", *words, "--out", "run").code == 0
    told = cli("evaluate", "run").out
    assert "Probabilities of the columns' own units: not to be compared with densities." in told
