"""Binary and categorical latents as a user types them: objectives, options, exact evidence, pictures."""

from __future__ import annotations

import csv
import io
import tomllib
from pathlib import Path

import numpy as np
import pytest

import latentia as lt
from latentia.cli import main, plan
from latentia.plots import ReceptiveFieldsDisplay

from .conftest import Cli

MACHINE = ["--model", "helmholtz_machine", "--layers", "3,2", "--steps", "6", "--valid-every", "3"]


def table_of_bits(path: Path, rows: int = 200) -> Path:
    """A CSV of six binary columns with two hidden causes."""
    random = np.random.default_rng(0)
    cause = random.random((rows, 2)) < 0.5
    bits = random.random((rows, 6)) < np.where(cause[:, [0, 0, 0, 1, 1, 1]], 0.85, 0.15)
    lines = [",".join(f"b{j}" for j in range(6)), *(",".join(map(str, row)) for row in bits.astype(int))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def bits(cli: Cli) -> Path:
    return table_of_bits(Path("bits.csv"))


@pytest.fixture(scope="module")
def machine_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Helmholtz machine on bits."""
    root = tmp_path_factory.mktemp("machine")
    words = ["fit", table_of_bits(root / "bits.csv"), *MACHINE, "--out", root / "run", "--quiet"]
    assert main([str(word) for word in words]) == 0
    return root / "run"


def test_without_an_objective_it_says_which_and_why(cli: Cli, bits: Path) -> None:
    done = cli("fit", bits, *MACHINE, "--out", "run")
    assert done.code == 0, done.err
    for note in (
        "p(x, h1, h2) = p(h2) p(h1 | h2) p(x | h1)",
        "q(h2 | h1) is Bernoulli of shape [2]",
        "Objective: rws, reweighted wake-sleep, as draws of h1, h2 have no gradient",
    ):
        assert note in done.err, done.err
    assert "best validation rws" in done.out
    config = tomllib.loads(Path("run/config.toml").read_text())
    assert config["model"]["layers"] == [3, 2]
    assert config["objective"] == {"name": "rws", "samples": 10, "q_update": "wake", "enumerate": []}


@pytest.mark.parametrize(
    "objective",
    [
        "wake_sleep --alternate",
        "rws --q-update both --samples 3",
        "reinforce --baseline leave_one_out --samples 3 --normalise",
        "nvil",
        "vimco --samples 3",
        "arm",
        "disarm",
        "elbo --relaxation concrete --temperature 1:0.3:5",
        "iwae --relaxation straight_through --temperature 0.7 --samples 2",
        "elbo --enumerate h1,h2",
    ],
)
def test_every_objective_trains_and_its_config_repeats_the_run(cli: Cli, bits: Path, objective: str) -> None:
    done = cli("fit", bits, *MACHINE, "--out", "run", "--objective", *objective.split())
    assert done.code == 0, done.err
    name = objective.split()[0]
    assert f"best validation {name}" in done.out
    again = cli("fit", "--config", "run/config.toml", "--out", "again", "--quiet")
    assert again.code == 0, again.err
    one, other = ((Path(folder) / "model" / "model.safetensors").read_bytes() for folder in ("run", "again"))
    assert one == other


def test_an_objective_that_learns_resumes(cli: Cli, bits: Path) -> None:
    machine = [word if word != "6" else "12" for word in MACHINE]
    assert cli("fit", bits, *machine, "--objective", "nvil", "--out", "whole", "--quiet").code == 0
    assert cli("fit", bits, *MACHINE, "--objective", "nvil", "--out", "parts", "--quiet").code == 0
    done = cli("fit", "--out", "parts", "--resume", "--steps", 12, "--quiet")
    assert done.code == 0, done.err
    one, other = ((Path(f) / "model" / "model.safetensors").read_bytes() for f in ("whole", "parts"))
    assert one == other


@pytest.mark.parametrize(
    "options, sentence",
    [
        ("--layers 0", "at least 1 layer of at least 1 unit"),
        ("--layers abc", "layers must be whole numbers, such as 200,200; got 'abc'"),
        ("--prior flat", "prior 'flat' is unknown: use 'learnt', 'autoregressive'"),
        ("--objective wake_slep", "there is no objective 'wake_slep'; did you mean 'wake_sleep'?"),
        ("--objective vimco --samples 1", "needs samples=2 or more"),
        ("--objective reinforce --baseline leave_one_out", "needs samples=2 or more"),
        ("--objective rws --q-update dream", "q_update must be 'wake', 'sleep', 'both', got 'dream'"),
        ("--objective nvil --beta 2", "objective nvil has no option 'beta'"),
        ("--objective elbo", "q draws 'h1' from Bernoulli, which cannot be reparameterised"),
        ("--objective elbo --relaxation concrete --temperature 0", "a temperature must be positive, got 0.0"),
        ("--temperature warm", "temperature must be a number such as 0.5, or one that falls"),
        ("--classes 3", "model helmholtz_machine has no option 'classes'"),
        ("--method em", "helmholtz_machine has none"),
    ],
)
def test_bad_options_are_told_in_a_sentence(cli: Cli, bits: Path, options: str, sentence: str) -> None:
    done = cli("fit", bits, *MACHINE[:2], "--steps", 4, "--out", "run", *options.split())
    assert done.code == 2, done.err
    assert sentence in done.sentence, done.sentence


def test_numbers_are_refused_by_binary_visible_units(cli: Cli) -> None:
    done = cli("fit", "iris", *MACHINE, "--likelihood", "bernoulli", "--out", "run")
    assert done.code in (2, 3), done.err
    assert "a Bernoulli needs [0, 1]: use a Normal likelihood, or binarise the data" in done.sentence


def test_evaluate_shows_exact_evidence_beside_the_bounds(cli: Cli, machine_run: Path) -> None:
    done = cli("evaluate", machine_run)
    assert done.code == 0, done.err
    text = done.out
    assert "log p(x) = " in text.splitlines()[0]
    named = [line.split() for line in text.splitlines() if line.startswith(("ELBO  ", "L_1000  ", "exact  "))]
    assert sorted(words[0] for words in named) == ["ELBO", "L_1000", "exact"]
    numbers = {words[0]: float(words[1]) for words in named}
    assert numbers["ELBO"] < numbers["exact"] + 0.01
    assert abs(numbers["L_1000"] - numbers["exact"]) < 0.02
    assert "h2 and h1 are summed out: log p(x) is exact" in text, text


def test_a_long_sum_over_states_is_announced(
    cli: Cli, machine_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SUMMED", 10)
    done = cli("evaluate", machine_run, "--rows", 4)
    assert done.code == 0, done.err
    assert "summing over 32 latent states" in done.err and "--methods elbo,importance" in done.err
    assert "32 latent states" not in cli("evaluate", machine_run, "--rows", 4, "--methods", "elbo").err


def test_more_than_20_bits_have_bounds_only(cli: Cli, bits: Path) -> None:
    assert cli("fit", bits, *MACHINE[:2], "--layers", "30", "--steps", 4, "--out", "run", "--quiet").code == 0
    assert "exact" not in cli("evaluate", "run", "--samples", 20).out.splitlines()[0]
    refused = cli("evaluate", "run", "--methods", "exact")
    assert refused.code == 2
    assert "2^30" in refused.sentence or "1,073,741,824" in refused.sentence, refused.sentence
    assert "1,048,576" in refused.sentence


def test_dreams_codes_and_scores(cli: Cli, machine_run: Path) -> None:
    dreams = list(csv.reader(io.StringIO(cli("sample", machine_run, "-n", 5).out)))
    assert dreams[0] == [f"b{j}" for j in range(6)]
    assert {cell for row in dreams[1:] for cell in row} <= {"0", "1"}
    codes = list(csv.reader(io.StringIO(cli("embed", machine_run).out)))
    assert codes[0] == ["row", "h1_0", "h1_1", "h1_2", "h2_0", "h2_1"]
    done = cli("score", machine_run)
    assert "the exact log-evidence" in done.err, done.err
    scores = [float(row[1]) for row in csv.reader(io.StringIO(done.out)) if row[0] != "row"]
    model = lt.load_model(machine_run / "model")
    every = model.p["x"].support()
    assert abs(float(model.log_evidence(every).exp().sum()) - 1) < 1e-5
    assert max(scores) <= float(model.log_evidence(every).max()) + 1e-5


def test_receptive_fields_of_a_run_name_the_columns_of_its_table(machine_run: Path) -> None:
    display = ReceptiveFieldsDisplay.from_model(lt.load_model(machine_run / "model"))
    assert list(display.fields) == ["h1", "h2"]
    assert display.columns == tuple(f"b{j}" for j in range(6))


def test_of_several_layers_it_is_said_which_one_a_number_is_of(cli: Cli, machine_run: Path) -> None:
    done = cli("evaluate", machine_run, "--methods", "elbo")
    units = [line.split()[0] for line in done.out.splitlines() if line.startswith(("h1[", "h2["))]
    assert [unit[:2] for unit in units] == ["h1"] * 3 + ["h2"] * 2
    for sentence in (
        "KL of h2: what q(u | h1) says beyond p(u), on average over the rows and draws of h1.",
        "h1 has no KL of single units, as its prior depends on h2, which q draws after it: kl(h1) of the",
        "E[u | x] of h2 is taken at the mean of h1 (mean field).",
    ):
        assert sentence in done.out, done.out
    assert "of 3 of h1" in done.out and "of 2 of h2" in done.out
    codes = cli("embed", machine_run).err
    assert "the means of q(h1 | x) and q(h2 | h1), latent parents at their own means (mean field)" in codes
    assert "the mean of p(x | h1) at the mean of q(h1 | x)" in cli("reconstruct", machine_run).err
    assert "means of p(x | h1) at drawn h1, seed 0" in cli("sample", machine_run, "-n", 2, "--mean").err


def test_a_categorical_vae_from_fit_to_codes(cli: Cli, bits: Path) -> None:
    words = ["--model", "categorical_vae", "--latent", 2, "--classes", 3, "--hidden", 4, "--steps", 6]
    done = cli("fit", bits, *words, "--out", "run")
    assert done.code == 0, done.err
    assert "q(z | x) is Concrete Categorical of shape [2], each with 3 codes" in done.err
    assert "best validation elbo" in done.out
    assert "z is summed out: log p(x) is exact" in cli("evaluate", "run").out
    assert "at the most probable codes of q(z | x)" in cli("reconstruct", "run").err
    codes = cli("embed", "run")
    assert "the most probable codes of q(z | x)" in codes.err
    assert {cell for row in csv.reader(io.StringIO(codes.out)) for cell in row[1:]} <= {
        *("z0", "z1"),
        *"012",
    }


def test_models_lists_them(cli: Cli) -> None:
    listed = cli("models").out
    assert "helmholtz_machine" in listed and "categorical_vae" in listed
