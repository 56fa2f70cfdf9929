"""latentia compare: a table of held-out evidence, a sentence that names the winner, and files of both."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

import latentia as lt

from .conftest import TINY, Cli

FAST = ["--updates", "4", "--seeds", "2", "--quiet"]
BENCHMARKS = Path(os.environ.get("LATENTIA_DATA", "../shared/data"))


def test_a_table_a_sentence_and_files(cli: Cli) -> None:
    done = cli("compare", "wine", "--models", "ppca:latent=3,vae:latent=2:hidden=8,6", *FAST, "--samples", 10)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["model", "nats", "per", "row", "±", "seeds", "behind", "kind", "params", "s"]
    assert [line.split()[0] for line in lines[1:3]] == ["ppca:latent=3", "vae:latent=2:hidden=8,6"]
    assert "≥ -" in lines[2] and "L_10" in lines[2]
    assert lines[-1].startswith("ppca:latent=3 comes first")
    assert "the columns' own units" in done.out
    folder = Path("runs/wine-comparison")
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "comparison.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    data = lt.load_data("wine")
    model = lt.models.ppca(data=data, latent=3)
    lt.fit(model, data, steps=4, progress=False)
    assert float(written[0]["nats"]) == pytest.approx(lt.log_evidence(model, data.test).mean)


def test_json_is_pure_and_a_csv_may_be_named(cli: Cli) -> None:
    done = cli(
        "compare", "iris", "--models", "gaussian_mixture:components=2", *FAST, "--json", "--out", "t.csv"
    )
    numbers = json.loads(done.out)
    assert numbers["models"][0]["model"] == "gaussian_mixture:components=2"
    assert numbers["rows"] == 15
    assert Path("t.csv").exists() and not Path("runs").exists()
    assert cli("compare", "iris", "--out", "t.png").code == 2


def test_options_reach_the_model_the_method_and_the_objective(cli: Cli) -> None:
    specs = [
        "gaussian_mixture:components=3:covariance=spherical:starts=2",
        "vae:latent=3:hidden=none:objective=iwae:samples=2:lr=0.01:batch=20:covariance=low-rank:1",
        "bayesian_gaussian_mixture:components=2:concentration=0.5",
    ]
    done = cli("compare", "iris", "--models", ",".join(specs), *FAST, "--samples", 5, "--json")
    found = {model["model"]: model for model in json.loads(done.out)["models"]}
    assert set(found) == set(specs)
    assert not any(model["failures"] for model in found.values())
    assert found[specs[0]]["parameters"] == 3 * 5 + 2
    assert found[specs[1]]["parameters"] == 3 * 4 + 4 + 1


def test_a_function_of_ones_own_takes_part(cli: Cli) -> None:
    Path("narrow_models.py").write_text(
        "import latentia as lt\n"
        "def narrow(data, latent=1, seed=0):\n"
        "    return lt.models.ppca(data=data, latent=latent, seed=seed)\n"
    )
    done = cli("compare", "iris", "--models", "narrow_models:narrow:latent=2,ppca:latent=2", *FAST, "--json")
    one, other = json.loads(done.out)["models"]
    assert {one["model"], other["model"]} == {"narrow_models:narrow:latent=2", "ppca:latent=2"}
    assert one["nats"] == pytest.approx(other["nats"])


def test_without_models_those_are_picked_that_fit_the_columns(cli: Cli) -> None:
    source = BENCHMARKS / "nltcs.csv"
    if not source.exists():
        pytest.skip(f"nltcs.csv is not in $LATENTIA_DATA ({BENCHMARKS})")
    header, *rows = source.read_text().splitlines()
    Path("some.csv").write_text("\n".join([header, *rows[::70]]) + "\n")
    done = cli("compare", "some.csv", "--seconds", "0.1", "--seeds", "1", "--samples", "20")
    assert done.code == 0
    assert "bernoulli_mixture:components=5, seed 0:" in done.err
    assert "at most about 0.1 s of training a fit" in done.out
    assert done.out.splitlines()[-1].startswith("bernoulli_mixture:components=")
    assert "nats per row on 31 test rows (exact)" in done.out.splitlines()[-1]


def test_the_method_and_its_samples_are_a_choice(cli: Cli) -> None:
    method = ["--method", "naive", "--samples", 7]
    done = cli("compare", "iris", "--models", "vae:latent=1", *FAST, *method, "--json")
    (found,) = json.loads(done.out)["models"]
    assert (found["method"], found["samples"], found["direction"]) == ("naive", 7, "lower")
    assert cli("compare", "iris", "--method", "bdmc").code == 2
    assert cli("compare", "iris", "--models", "ppca", *FAST, "--samples", 0).code == 2


def test_minutes_are_shared(cli: Cli) -> None:
    done = cli(
        "compare", "iris", "--models", "ppca,factor_analysis:latent=1", "--minutes", "0.02", "--seeds", 2
    )
    assert "at most about 0.3 s of training a fit" in done.out


def test_runs_take_part(cli: Cli, digits_run: Path) -> None:
    models = ["--models", "linear_vae:latent=2"]
    done = cli("compare", "digits", "--runs", digits_run, *models, *FAST, "--samples", 5, "--json")
    found = {model["model"]: model for model in json.loads(done.out)["models"]}
    run = found[str(digits_run)]
    expected = lt.log_evidence(lt.load_model(digits_run / "model"), lt.load_data("digits").test, samples=5)
    assert run["nats"] == pytest.approx(expected.mean)
    assert (run["updates"], run["unranked"]) == (20, None)
    assert len(run["seeds"]) == 1 and len(found["linear_vae:latent=2"]["seeds"]) == 2
    alone = cli("compare", "digits", "--runs", digits_run, "--quiet", "--samples", 2)
    assert alone.out.splitlines()[-1].startswith(f"{digits_run} is the only one that could be ranked")


def test_a_run_of_another_split_is_listed_and_not_ranked(cli: Cli) -> None:
    assert cli("fit", "digits", *TINY, "--seed", 5, "--quiet").code == 0
    done = cli("compare", "digits", "--runs", "runs/digits", "--quiet", "--samples", 2)
    assert "not ranked: it was fitted to other training rows" in done.out
    same = cli("compare", "digits", "--runs", "runs/digits", "--quiet", "--samples", 2, "--split-seed", 5)
    assert "is the only one that could be ranked" in same.out


def test_other_preprocessing_is_refused_with_the_reason(cli: Cli, digits_run: Path) -> None:
    done = cli("compare", "digits", "--binarise", "threshold", "--runs", digits_run, *FAST)
    assert done.code == 2
    assert "cannot be compared" in done.sentence
    assert "pixels 0..16" in done.sentence and "binarised" in done.sentence


def test_it_goes_on_when_one_fails(cli: Cli) -> None:
    done = cli("compare", "iris", "--models", "bernoulli_mixture,ppca,vae:warmup=3:beta=2:lr=-1", *FAST)
    assert done.code == 0
    assert "bernoulli_mixture: failed: this mixture takes zeros and ones" in done.out
    assert "lr and clip must be positive" in done.out
    assert done.out.splitlines()[-1].startswith("ppca is the only one that could be ranked")
    none = cli("compare", "iris", "--models", "bernoulli_mixture", *FAST)
    assert none.code == 2
    assert "no model could be evaluated" in none.sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "ppca,gausian_mixture"], "did you mean 'gaussian_mixture'"),
        (["--models", "ppca:latnt=2"], "ppca has no option 'latnt'; did you mean 'latent'"),
        (["--models", "ppca:latent=two"], "latent must be a whole number"),
        (["--models", "vae:steps=3"], "steps is the same for all: use --updates"),
        (["--models", "ppca,ppca"], "--models names ppca twice"),
        (["--models", ","], "--models names no model"),
        (["--seconds", "1", "--minutes", "1"], "both budgets"),
        (["--models", "ppca", "--updates", "-3"], "updates must be above 0"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--models", "ppca", "--split", "0.9,0.1,0"], "iris has no test rows"),
        (["--runs", "nowhere"], "there is no run or model folder nowhere"),
    ],
)
def test_mistakes_are_told_in_a_sentence(cli: Cli, arguments: list[str], sentence: str) -> None:
    done = cli("compare", "iris", *arguments)
    assert done.code == 2
    assert sentence in done.sentence
