"""latentia evaluate: numbers that can be quoted, with their errors, units and warnings."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch

import latentia as lt
from latentia.cli import main, measured

from .conftest import TINY, Cli, tiny

FEW = ["--samples", "20", "--elbo-samples", "10"]
SHORT = ["--chains", "4", "--distributions", "6"]


@pytest.fixture(scope="module")
def binary_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of black and white digits."""
    folder = tmp_path_factory.mktemp("runs") / "binary"
    words = ["--binarise", "threshold", *tiny(steps=80, lr=0.01)]
    assert main(["fit", "digits", *words, "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def ppca_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PPCA of the digits, in ten latent dimensions."""
    folder = tmp_path_factory.mktemp("runs") / "ppca"
    words = ["--model", "ppca", "--latent", "10"]
    assert main(["fit", "digits", *words, "--out", str(folder), "--quiet"]) == 0
    return folder


def test_the_first_line_can_be_quoted(cli: Cli, digits_run: Path) -> None:
    done = cli("evaluate", digits_run, *FEW)
    assert done.code == 0
    first = done.out.splitlines()[0]
    assert f"{digits_run} on digits, test split, 180 rows: log p(x) ≥ -" in first
    assert "±" in first
    assert "nats per image (lower bound by importance sampling, L_20" in first
    assert "bits per dimension" in first


def test_it_says_which_number_is_a_bound_in_which_units_and_from_how_many_samples(
    cli: Cli, digits_run: Path
) -> None:
    done = cli("evaluate", digits_run, *FEW)
    for text in (
        "ELBO: by 10 draws of q(z | x); below log p(x) by KL(q || posterior)",
        "over 20 draws of q",
        "lower: on average at most log p(x)",
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
    spread = torch.arange(30) * len(data.test) // 30  # files may be sorted, and their first rows alike
    for name, method, samples in (("ELBO", "elbo", 10), ("L_20", "importance", 20)):
        expected = lt.log_evidence(model, data.test[spread], method, samples)
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
    assert (numbers["best"], numbers["quote"]) == (
        "L_20",
        cli("evaluate", digits_run, *FEW, "--rows", 30).out.splitlines()[0],
    )


def test_the_bounds_stand_in_order_with_what_their_weights_say(cli: Cli, binary_run: Path) -> None:
    words = ["evaluate", binary_run, "--methods", "naive,ais,importance,elbo", "--rows", 20, *SHORT]
    words += ["--samples", 50, "--start", "q", "--schedule", "linear"]
    numbers = json.loads(cli(*words, "--json").out)
    told = numbers["estimates"]
    assert {one["name"] for one in told} == {"ELBO", "L_50", "naive", "AIS"}
    assert [one["mean"] for one in told] == sorted(one["mean"] for one in told)
    assert numbers["best"] == told[-1]["name"]
    model, rows = lt.load_model(binary_run / "model"), lt.load_data("digits", binarise="threshold").test
    rows = rows[torch.arange(20) * len(rows) // 20]
    options = {"ais": {"samples": 4, "distributions": 6, "schedule": "linear", "start": "q"}}
    for one in told:
        given = options.get(one["method"], {"samples": one["samples"]})
        expected = lt.log_evidence(model, rows, one["method"], **given)
        assert (one["mean"], one["mc_error"]) == pytest.approx((expected.mean, expected.mc_error))
        if expected.effective is not None and expected.bias is not None:
            assert one["effective_sample_size"] == pytest.approx(float(expected.effective.median()))
            assert one["bias"] == pytest.approx(float(expected.bias.mean()))
        if one["method"] in ("importance", "naive"):
            assert expected.k_hat is not None
            heavy = (expected.k_hat > one["k_hat_threshold"]).double().mean()
            assert one["k_hat_high"] == pytest.approx(float(heavy))
    ais = next(one for one in told if one["name"] == "AIS")
    assert ais["annealing"]["start"] == "q" and ais["annealing"]["distributions"] == 6
    assert ais["k_hat_high"] is None
    lines = cli(*words).out.splitlines()
    assert [line.split()[0] for line in lines[4:8]] == [one["name"] for one in told]
    assert max(map(len, lines[2:8])) <= 80
    assert "AIS: annealed importance sampling, 4 chains from q(z | x) over 6 distributions" in "".join(lines)


def test_naive_warns_where_exact_and_importance_agree(cli: Cli, ppca_run: Path) -> None:
    words = ["evaluate", ppca_run, "--methods", "importance,naive,exact", "--rows", 30]
    numbers = json.loads(cli(*words, "--json").out)
    told = {one["method"]: one for one in numbers["estimates"]}
    assert [one["method"] for one in numbers["estimates"]] == ["naive", "exact", "importance"]
    assert told["importance"]["mean"] == pytest.approx(told["exact"]["mean"], abs=0.01)
    assert told["exact"]["direction"] == "exact" and numbers["best"] == "exact"
    assert told["naive"]["mean"] < told["exact"]["mean"] - 4
    assert "effective sample size" in told["naive"]["caution"] and told["exact"]["caution"] is None
    done = cli(*words)
    assert "(exact," in done.out.splitlines()[0] and "see the warning" not in done.out.splitlines()[0]
    assert "Warning: naive: The effective sample size is" in done.out and "--methods ais" in done.out
    assert "z is integrated out" in done.out


def test_a_sandwich_of_simulated_rows_stands_apart(cli: Cli, binary_run: Path) -> None:
    words = ["evaluate", binary_run, *FEW, "--rows", 10, "--bdmc", 6, *SHORT]
    numbers = json.loads(cli(*words, "--json").out)
    expected = lt.bdmc(lt.load_model(binary_run / "model"), 6, chains=4, distributions=6)
    told = numbers["simulated"]
    assert (told["rows"], told["gap"]) == (6, pytest.approx(expected.gap))
    assert told["upper"]["mean"] == pytest.approx(expected.upper.mean)
    assert told["upper"]["direction"] == "upper"
    assert [one["direction"] for one in numbers["estimates"]] == ["lower", "lower"]
    done = cli(*words)
    assert "≥" in done.out.splitlines()[0] and "6 rows simulated from the model" in done.out
    assert "not to be compared with it" in done.out


def test_gaps_take_the_evidence_that_is_there(
    cli: Cli, binary_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "inference_gaps", partial(measured.inference_gaps, steps=40))
    words = ["evaluate", binary_run, *FEW, "--rows", 12, "--gaps", 5, "--methods", "elbo,ais", *SHORT]
    numbers = json.loads(cli(*words, "--json").out)
    gaps = numbers["gaps"]
    assert (gaps["rows"], gaps["evidence"]["name"], gaps["family"]) == (5, "AIS", "diagonal")
    parts = gaps["approximation"]["mean"] + gaps["amortisation"]["mean"]
    assert parts == pytest.approx(gaps["total"]["mean"], abs=1e-4)
    model, rows = lt.load_model(binary_run / "model"), lt.load_data("digits", binarise="threshold").test
    ais = lt.log_evidence(model, rows[torch.arange(12) * len(rows) // 12], "ais", 4, distributions=6)
    some = torch.arange(5) * 12 // 5
    assert gaps["evidence"]["mean"] == pytest.approx(float(ais.values[some].double().mean()))
    done = cli("evaluate", binary_run, *FEW, "--rows", 12, "--gaps", 2, *SHORT)
    for text in ("gaps of q, 2 rows", "approximation gap", "log p(x), at least, AIS", "lower bound"):
        assert text in done.out


def test_calibration_information_and_reconstruction_on_request(
    cli: Cli, binary_run: Path, ppca_run: Path
) -> None:
    asked = ["--calibration", 200, "--information", "--reconstruction"]
    words = ["evaluate", binary_run, *FEW, "--rows", 40, *asked]
    numbers = json.loads(cli(*words, "--json").out)
    assert numbers["calibration"]["simulations"] == 200
    assert list(numbers["calibration"]["p_values"]) == ["z[0]", "z[1]", "log p(x | z)"]
    assert numbers["information"]["mutual_information"]["value"] < math.log(40)
    assert numbers["reconstruction"]["x"]["cross_entropy"]["mean"] > 0
    done = cli(*words)
    for text in ("Simulation-based calibration, 200 simulations", "parts of the KL", "cross-entropy"):
        assert text in done.out
    exact = json.loads(cli("evaluate", ppca_run, "--calibration", 200, "--reconstruction", "--json").out)
    assert exact["calibration"]["passed"] is True
    assert exact["reconstruction"]["x"]["squared"]["mean"] > 0
    plain = json.loads(cli("evaluate", ppca_run, "--json").out)
    assert not {"calibration", "information", "gaps", "simulated"} & set(plain)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("--methods impotance", "did you mean 'importance'?"),
        ("--methods ,", "names none"),
        ("--methods exact", "the method exact does not suit this model"),
        ("--chains 4", "--chains is an option of annealing"),
        ("--methods ais --distributions 0", "distributions must be at least 1, got 0"),
        ("--methods ais --schedule liner", 'Did you mean "linear"?'),
        ("--samples 0", "samples must be at least 1, got 0"),
        ("--bdmc 0", "--bdmc must be at least 1, got 0"),
        ("--gaps few", 'unable to convert "few" into int'),
        ("--gaps 0", "--gaps must be at least 1, got 0"),
        ("--calibration 50", "--calibration must be at least 100, got 50"),
        ("--rows 0", "--rows must be at least 1, got 0"),
    ],
)
def test_what_does_not_suit_is_one_sentence(cli: Cli, digits_run: Path, words: str, hint: str) -> None:
    done = cli("evaluate", digits_run, *words.split())
    assert (done.code, done.out) == (2, "")
    assert hint in done.sentence and "Traceback" not in done.err


def test_what_does_not_suit_an_exact_posterior(cli: Cli, ppca_run: Path) -> None:
    for words, hint in (
        ("--gaps", "both gaps are zero"),
        ("--methods ais --start q", "use 'prior'"),
        ("--samples 0", "--samples must be at least 1, got 0"),
    ):
        done = cli("evaluate", ppca_run, *words.split())
        assert done.code == 2
        assert hint in done.sentence


def test_score_takes_a_method(cli: Cli, binary_run: Path, ppca_run: Path) -> None:
    done = cli("score", binary_run, "--method", "elbo", "--samples", 5, "--rows", 3)
    assert done.out.splitlines()[0] == "row,log_evidence,mc_error"
    assert "ELBO" in done.err and "a lower bound" in done.err
    assert cli("score", ppca_run, "--method", "naive", "--rows", 3).out.startswith(
        "row,log_evidence,mc_error"
    )
    refused = cli("score", binary_run, "--method", "exact", "--rows", 3)
    assert refused.code == 2
    assert "the method exact does not suit this model" in refused.sentence


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
