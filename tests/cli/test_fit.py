"""latentia fit: what it says and writes, its configuration, functions of one's own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from latentia.cli.settings import read_config
from latentia.errors import UsageError

from .conftest import TINY, Cli, tiny

OWN = """
import torch
import latentia as lt
from latentia.objectives import Bound, elbo


class Laplace(lt.Factor):
    def __init__(self, net, given):
        super().__init__(net, given, parameters=2)

    def distribution(self, *parents):
        loc, raw = self.parts(*parents, count=2)
        entries = torch.distributions.Laplace(loc, raw.exp() + 0.01, validate_args=False)
        return torch.distributions.Independent(entries, len(self.event), validate_args=False)


def laplace_vae(data, latent=2, width=8, seed=0):
    size = data.event_shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        p = lt.Joint(z=lt.StandardNormal(latent), x=Laplace(lt.MLP(latent, 2 * size, (width,)), given="z"))
        q = lt.Joint(z=lt.Normal(lt.MLP(size, 2 * latent, (width,)), given="x"))
    return lt.Model(p, q)


def library_vae(event, hidden=(8,), seed=0):
    return lt.models.vae(event=event, latent=2, hidden=hidden, seed=seed)


def tempered(p, q, values, noise, *, temperature=2.0):
    bound = elbo(p, q, values, noise)
    return Bound(bound.value, bound.value / temperature, bound.terms, bound.direction)


def no_model(data):
    return 3
"""


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_fit_says_what_it_understood_and_what_was_learnt(cli: Cli) -> None:
    done = cli("fit", "digits", *TINY)
    assert done.code == 0
    for note in (
        "1 x 8 x 8",
        "3 of 64 pixels",
        "p(x, z) = p(z) p(x | z)",
        "one learnt scale: the pixels are grey",
    ):
        assert note in done.err
    assert "the mean elbo of 180 validation rows" in done.err
    for fact in ("best validation elbo", "pixels 0..16", "learnt scale of x", "active units", "runs/digits"):
        assert fact in done.out
    assert "latentia evaluate runs/digits" in done.err
    assert {path.name for path in Path("runs/digits").iterdir()} >= {
        "config.toml",
        "metrics.jsonl",
        "checkpoints",
        "model",
    }
    first = json.loads(Path("runs/digits/metrics.jsonl").read_text().splitlines()[0])
    assert first["split"] == "train"


def test_quiet_leaves_the_table_alone(cli: Cli) -> None:
    done = cli("fit", "iris", *TINY, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "What was learnt" in done.out


def test_the_resolved_config_repeats_the_run_bit_for_bit(cli: Cli) -> None:
    options = [
        "--beta",
        "0.5",
        "--warmup",
        "10",
        "--seed",
        "3",
        "--covariance",
        "low-rank:1",
        "--batch",
        "50",
    ]
    assert cli("fit", "iris", *TINY, *options, "--schedule", "10=0.5,20=0.1", "--out", "one").code == 0
    again = cli("fit", "--config", "one/config.toml", "--out", "two")
    assert again.code == 0, again.err
    assert weights(Path("one")) == weights(Path("two"))
    assert Path("one/config.toml").read_text() == Path("two/config.toml").read_text()
    resolved = tomllib.loads(Path("one/config.toml").read_text())
    assert resolved["model"]["likelihood"] == "normal"
    assert resolved["model"]["hidden"] == [16]
    assert resolved["data"]["split"] == [0.8, 0.1, 0.1]
    assert resolved["fit"]["schedule"] == {"10": 0.5, "20": 0.1}
    assert resolved["fit"]["optimizer"] == "adam"
    assert (resolved["fit"]["valid_every"], resolved["fit"]["checkpoint_every"]) == (10, 10)


def test_a_length_in_epochs_takes_the_place_of_steps(cli: Cli) -> None:
    assert cli("fit", "iris", *TINY, "--batch", "40", "--out", "one", "--quiet").code == 0
    done = cli("fit", "--config", "one/config.toml", "--epochs", "2", "--out", "two", "--quiet")
    assert done.code == 0, done.err
    assert tomllib.loads(Path("two/config.toml").read_text())["fit"]["steps"] == 6


def test_flags_override_the_config(cli: Cli) -> None:
    Path("run.toml").write_text(
        'data = "iris"\nlatent = 3\nsteps = 10\n[model]\nhidden = "8"\nconv = false\n'
    )
    assert cli("fit", "--config", "run.toml", "--latent", "2", "--quiet").code == 0
    resolved = tomllib.loads(Path("runs/iris/config.toml").read_text())
    assert (resolved["model"]["latent"], resolved["model"]["hidden"], resolved["fit"]["steps"]) == (
        2,
        [8],
        10,
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("latnet = 3", "did you mean 'latent'?"),
        ("[fit]\nstep = 3", "did you mean 'steps'?"),
        ("[model]\nlatnt = 3", "did you mean 'latent'?"),
        ("latent = 'many'", "latent in run.toml must be a whole number; got 'many'"),
        ("conv = 3", "must be true or false"),
        ("precision = 'fp33'", "did you mean 'fp32'?"),
        ("latent = 3\n[model]\nlatent = 2", "gives latent twice"),
        ("latent = = 3", "cannot be read as TOML"),
    ],
)
def test_a_config_is_checked(cli: Cli, text: str, hint: str) -> None:
    Path("run.toml").write_text(text)
    done = cli("fit", "iris", "--config", "run.toml")
    assert done.code == 2
    assert hint in done.sentence


def test_a_missing_config_is_a_usage_error(cli: Cli) -> None:
    done = cli("fit", "iris", "--config", "none.toml")
    assert (done.code, done.sentence) == (2, "latentia: there is no config file none.toml")


def test_a_run_made_in_python_can_still_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[fit]\nkeywords = {}\nlr = 0.1\nobjective = "elbo"\n')
    assert read_config(tmp_path / "config.toml", strict=False)["fit"] == {"lr": 0.1}
    with pytest.raises(UsageError, match="no option 'keywords'"):
        read_config(tmp_path / "config.toml")


@pytest.mark.parametrize(
    "options",
    [
        ["digits", "--conv", "--channels", "4", "--binarise", "dynamic", "--latent", "2", "--steps", "4"],
        ["digits", "--model", "autoencoder", *TINY],
        ["wine", "--model", "linear_vae", "--latent", "2", "--epochs", "3", "--patience", "0"],
        ["iris", *TINY, "--objective", "iwae", "--samples", "3", "--optimizer", "sgd", "--clip", "1"],
        ["iris", *tiny(free_bits=0.1, precision="bf16", hidden="none"), "--alternate"],
        ["iris", *TINY, "--covariance", "full", "--likelihood", "normal_network", "--no-standardise"],
        ["iris", *TINY, "--split", "0.5,0.5,0", "--label", "class", "--types", "petal length (cm)=ignored"],
    ],
    ids=["conv", "autoencoder", "linear", "iwae", "free-bits", "full", "split"],
)
def test_fit_takes_its_options_and_evaluate_reads_the_run(cli: Cli, options: list[str]) -> None:
    done = cli("fit", *options, "--out", "run", "--quiet")
    assert done.code == 0, done.err
    split = "valid" if "0.5,0.5,0" in options else "test"
    assert cli("evaluate", "run", "--split", split, "--samples", "5", "--elbo-samples", "3").code == 0


def test_splits_come_from_files_of_their_own(cli: Cli) -> None:
    for name, count in {"train": 40, "valid": 12, "test": 9}.items():
        rows = "\n".join(f"{i * 0.31 % 1:.2f},{i * 0.17 % 1:.2f}" for i in range(count))
        Path(f"{name}.csv").write_text("a,b\n" + rows + "\n")
    done = cli("fit", "train.csv", "--valid", "valid.csv", "--test", "test.csv", *TINY)
    assert done.code == 0, done.err
    assert "40 train, 12 valid, 9 test" in done.err
    assert "test split, 9 rows" in cli("evaluate", "runs/train", "--samples", "5").out


def test_an_existing_run_is_refused_and_left_alone(cli: Cli) -> None:
    assert cli("fit", "iris", *TINY, "--quiet").code == 0
    before = weights(Path("runs/iris"))
    refused = cli("fit", "iris", *TINY, "--seed", "1")
    assert refused.code == 2
    assert "--resume" in refused.sentence
    assert "--overwrite" in refused.sentence
    assert weights(Path("runs/iris")) == before
    assert cli("fit", "iris", *tiny(latent=0), "--overwrite").code == 2
    assert weights(Path("runs/iris")) == before, "a run is only replaced once the new one can start"
    assert cli("fit", "iris", *TINY, "--seed", "1", "--overwrite").code == 0
    assert weights(Path("runs/iris")) != before


def test_resume_goes_on_with_the_runs_own_options(cli: Cli) -> None:
    assert cli("fit", "iris", *TINY, "--seed", "2", "--quiet").code == 0
    assert cli("fit", "--out", "runs/iris", "--resume", "--steps", "60", "--quiet").code == 0
    assert cli("fit", "iris", *tiny(seed=2, steps=60), "--out", "whole", "--quiet").code == 0
    assert weights(Path("runs/iris")) == weights(Path("whole"))


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["--out", "run", "--resume", "--latent", "5"], "cannot resume: latent was 2 and is now 5"),
        (["wine", "--out", "run", "--resume"], "cannot resume: source was iris and is now wine"),
        (["--out", "run", "--resume", "--overwrite"], "say one of them"),
        (["--out", "elsewhere", "--resume"], "there is no run in elsewhere to resume"),
        (["--out", "run", "--resume", "--config", "run/config.toml"], "leave --config out"),
        (["--out", "run", "--resume", "--lr", "0.5"], "cannot resume: lr was"),
    ],
)
def test_resume_refuses_to_be_another_run(cli: Cli, argv: list[str], hint: str) -> None:
    assert cli("fit", "iris", *TINY, "--out", "run", "--quiet").code == 0
    done = cli("fit", *argv)
    assert done.code == 2
    assert hint in done.sentence


def test_functions_of_ones_own(cli: Cli) -> None:
    Path("mine.py").write_text(OWN)
    done = cli("fit", "iris", "--model", "mine:laplace_vae", "--objective", "mine:tempered", "--steps", "10")
    assert done.code == 0, done.err
    assert "mine.Laplace" in done.out
    resolved = tomllib.loads(Path("runs/iris/config.toml").read_text())
    assert resolved["model"] == {"name": "mine:laplace_vae", "latent": 2, "width": 8}
    assert resolved["objective"] == {"name": "mine:tempered", "temperature": 2.0}
    refused = cli("evaluate", "runs/iris")
    assert refused.code == 4
    assert "--model mine:laplace_vae" in refused.sentence
    for command in (["evaluate", "--samples", "5"], ["score", "--samples", "5"], ["embed"], ["sample"]):
        assert cli(command[0], "runs/iris", *command[1:], "--model", "mine:laplace_vae").code == 0
    Path("run.toml").write_text("[model]\nwidth = 4\n[objective]\ntemperature = 3.0\n")
    options = ["--config", "run.toml", "--model", "mine:laplace_vae", "--objective", "mine:tempered"]
    assert cli("fit", "iris", *options, "--steps", "10", "--out", "other", "--quiet").code == 0
    assert tomllib.loads(Path("other/config.toml").read_text())["model"]["width"] == 4
    assert cli("evaluate", "other", "--model", "mine:laplace_vae", "--samples", "5").code == 0


def test_a_model_function_of_library_parts_needs_no_repeating(cli: Cli) -> None:
    Path("parts.py").write_text(OWN)
    assert cli("fit", "iris", "--model", "parts:library_vae", "--hidden", "4", "--steps", "10").code == 0
    assert cli("evaluate", "runs/iris", "--samples", "5").code == 0


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("absent:f", "no module 'absent' is in"),
        ("own:laplce_vae", "did you mean 'laplace_vae'?"),
        ("own:no_model", "returned int"),
        (".own:f", "is no module's name"),
    ],
)
def test_a_function_that_is_none_is_told(cli: Cli, spec: str, hint: str) -> None:
    Path("own.py").write_text(OWN)
    done = cli("fit", "iris", "--model", spec, "--steps", "5")
    assert done.code == 2
    assert hint in done.sentence
