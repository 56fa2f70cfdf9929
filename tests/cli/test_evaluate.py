"""latentia evaluate: numbers that can be quoted, with their errors, units and warnings."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import latentia as lt

from .conftest import TINY, Cli, tiny

FEW = ["--samples", "20", "--elbo-samples", "10"]


def test_the_first_line_can_be_quoted(cli: Cli, digits_run: Path) -> None:
    done = cli("evaluate", digits_run, *FEW)
    assert done.code == 0
    first = done.out.splitlines()[0]
    assert f"{digits_run} on digits, test split, 180 rows: log p(x) ≥ -" in first
    assert "±" in first
    assert "L_20" in first
    assert "bits per dimension" in first


def test_it_says_which_number_is_a_bound_in_which_units_and_from_how_many_samples(
    cli: Cli, digits_run: Path
) -> None:
    done = cli("evaluate", digits_run, *FEW)
    for text in (
        "Both are lower bounds on log p(x): the ELBO by 10 draws",
        "with 20",
        "pixels 0..16, the log-Jacobian of preprocessing included",
        "± Monte Carlo",
        "reconstruction",
        "kl",
        "Active units:",
        "z[0]",
    ):
        assert text in done.out


def test_json_is_pure_and_agrees_with_the_library(cli: Cli, digits_run: Path) -> None:
    done = cli("evaluate", digits_run, *FEW, "--rows", "30", "--json")
    numbers = json.loads(done.out)
    model, data = lt.load_model(digits_run / "model"), lt.load_data("digits")
    bounds = {one["name"]: one for one in numbers["estimates"]}
    for name, method, samples in (("ELBO", "elbo", 10), ("L_20", "importance", 20)):
        expected = lt.log_evidence(model, data.test[:30], method, samples)
        assert bounds[name]["mean"] == pytest.approx(expected.mean, abs=1e-9)
        assert bounds[name]["se"] == pytest.approx(expected.se)
        assert bounds[name]["mc_error"] == pytest.approx(expected.mc_error)
        assert bounds[name]["direction"] == "lower"
        assert bounds[name]["bits_per_dimension"] == pytest.approx(-expected.mean / (64 * math.log(2)))
    terms = bounds["ELBO"]["terms"]
    assert terms["reconstruction"] - terms["kl"] + terms["log-Jacobian"] == pytest.approx(
        bounds["ELBO"]["mean"]
    )
    assert terms["log-Jacobian"] == pytest.approx(-64 * math.log(16))
    assert sum(numbers["kl_per_dimension"]["z"]) == pytest.approx(terms["kl"], rel=1e-4)
    assert (numbers["rows"], numbers["split"], len(numbers["activity"]["z"])) == (30, "test", 2)


def test_other_data_are_taken_whole_and_splits_on_request(cli: Cli, digits_run: Path) -> None:
    whole = json.loads(cli("evaluate", digits_run, "digits", "--samples", "2", "--json").out)
    train = json.loads(cli("evaluate", digits_run, "--split", "train", "--samples", "2", "--json").out)
    assert (whole["rows"], whole["split"]) == (1797, None)
    assert (train["rows"], train["split"]) == (1437, "train")
    refused = cli("evaluate", digits_run, "iris", "--split", "test")
    assert refused.code == 2
    assert "--split" in refused.sentence


def test_a_model_folder_needs_data(cli: Cli, digits_run: Path) -> None:
    refused = cli("evaluate", digits_run / "model")
    assert refused.code == 2
    assert "does not say which data" in refused.sentence
    assert cli("evaluate", digits_run / "model", "digits", "--rows", "20", *FEW).code == 0


def test_a_table_is_evaluated_in_its_own_units(cli: Cli, table_run: Path) -> None:
    done = cli("evaluate", table_run, *FEW)
    assert done.code == 0
    assert "the columns' own units" in done.out
    assert "bits per dimension" not in done.out


def test_an_autoencoder_has_no_evidence(cli: Cli) -> None:
    assert cli("fit", "digits", "--model", "autoencoder", *TINY, "--quiet").code == 0
    done = cli("evaluate", "runs/digits")
    assert done.code == 0
    assert "no evidence" in done.out.splitlines()[0]
    assert "Reconstructions and no evidence" in done.out
    refused = cli("score", "runs/digits")
    assert refused.code == 2
    assert "reconstructions and no evidence" in refused.sentence
    assert cli("sample", "runs/digits").code == 2
    assert cli("embed", "runs/digits", "--rows", "3").code == 0


def test_collapse_is_warned_of_in_a_sentence(cli: Cli) -> None:
    assert cli("fit", "digits", *tiny(beta=1000, lr=0.02, steps=150), "--quiet").code == 0
    done = cli("evaluate", "runs/digits", *FEW)
    assert "Warning: The posterior has collapsed" in done.out
    assert "--warmup" in done.out


def test_a_posterior_that_does_not_factorise_has_no_kl_per_dimension(cli: Cli) -> None:
    assert cli("fit", "iris", *TINY, "--covariance", "full", "--quiet").code == 0
    done = cli("evaluate", "runs/iris", *FEW)
    assert "KL per dimension: there is none" in done.out
    assert json.loads(cli("evaluate", "runs/iris", *FEW, "--json").out)["kl_per_dimension"] is None


def test_changed_data_are_noticed(cli: Cli) -> None:
    rows = [f"{i * 0.31 % 1:.2f},{i * 0.17 % 1:.2f}" for i in range(60)]
    Path("t.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    assert cli("fit", "t.csv", *TINY, "--quiet").code == 0
    Path("t.csv").write_text("a,b\n" + "\n".join(rows[:-5]) + "\n")
    done = cli("evaluate", "runs/t", *FEW)
    assert done.code == 3
    assert "is not what runs/t was fitted to" in done.sentence
