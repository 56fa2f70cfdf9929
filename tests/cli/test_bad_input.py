"""Bad input: a clear sentence, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from latentia.errors import DivergedError

from .conftest import TINY, Cli, Result, tiny

ROWS = "\n".join(f"{i * 0.31 % 1:.2f},{i * 0.17 % 1:.2f}" for i in range(40))


def refused(done: Result, code: int, *words: str) -> None:
    assert done.code == code, done.err
    assert done.sentence.startswith("latentia: ")
    for word in words:
        assert word in done.sentence
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("a,b\n", ["has a header and no rows"]),
        ("a,b\n1,2\n", ["a single row cannot be split"]),
        (f"a,b\n{ROWS}\n0.5,inf\n", ["column 'b'", "row 42", "not finite"]),
        (f"a,b\n{ROWS}\n0.5\n", ["row 42", "1 cell"]),
    ],
    ids=["empty", "header", "one-row", "infinity", "ragged"],
)
def test_a_bad_table_is_refused(cli: Cli, text: str, words: list[str]) -> None:
    Path("t.csv").write_text(text)
    refused(cli("fit", "t.csv", *TINY), 3, *words)


def test_text_where_numbers_were_promised(cli: Cli) -> None:
    Path("t.csv").write_text(f"a,b\n{ROWS}\n0.5,tall\n")
    refused(cli("fit", "t.csv", *TINY, "--types", "b=number"), 3, "column 'b'", "'tall' is not a number")


def test_a_constant_column_is_kept_unscaled_with_a_word(cli: Cli) -> None:
    Path("t.csv").write_text("a,b\n" + "\n".join(f"{i * 0.31 % 1:.2f},7.5" for i in range(40)) + "\n")
    done = cli("fit", "t.csv", *TINY)
    assert done.code == 0, done.err
    assert "Constant" in done.err
    assert "b" in done.err.partition("Constant")[2].splitlines()[0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere/t.csv", ["there is no file or folder nowhere/t.csv"]),
        ("irsi", ["did you mean 'iris'?"]),
        ("mnist", ["train-images-idx3-ubyte", "LATENTIA_DATA"]),
    ],
)
def test_missing_data(cli: Cli, source: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATENTIA_DATA", raising=False)
    refused(cli("fit", source, *TINY), 3, *words)


def test_pictures_of_different_sizes(cli: Cli) -> None:
    from PIL import Image

    Path("pictures").mkdir()
    for name, size in (("a.png", (8, 8)), ("b.png", (8, 9))):
        Image.new("L", size).save(Path("pictures") / name)
    refused(cli("fit", "pictures", *TINY), 3, "different sizes", "8 x 8", "8 x 9")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--latent", "0"], ["at least 1 latent dimension", "latent=0"]),
        (["--batch", "1000"], ["a batch of 1,000 is larger than the 120 training rows"]),
        (["--steps", "0"], ["steps must be at least 1"]),
        (["--lr", "-1"], ["must be positive, got lr=-1.0"]),
        (["--likelihood", "bernouli"], ["likelihood 'bernouli' is unknown"]),
        (["--optimizer", "adma"], ["optimizer 'adma' is unknown"]),
        (["--conv"], ["needs an image shape"]),
        (["--split", "0.5,0.1"], ["three fractions"]),
        (["--binarise", "threshold"], ["binarise is for images"]),
        (["--steps", "5", "--epochs", "2"], ["steps or epochs, not both"]),
    ],
    ids=lambda value: "-".join(value) if value[0].startswith("--") else "",
)
def test_options_that_do_not_fit(cli: Cli, options: list[str], words: list[str]) -> None:
    refused(cli("fit", "iris", "--hidden", "8", *options), 2, *words)


def test_a_label_that_is_no_column(cli: Cli) -> None:
    Path("t.csv").write_text(f"a,b\n{ROWS}\n")
    refused(cli("fit", "t.csv", *TINY, "--label", "c"), 3, "no column 'c'")


def test_a_key_that_is_not_in_the_file(cli: Cli) -> None:
    np.savez("t.npz", weights=np.random.default_rng(0).normal(size=(40, 3)), other=np.ones(3))
    refused(cli("fit", "t.npz", *TINY, "--key", "weihgts"), 3, "did you mean 'weights'?")


def test_a_run_that_diverges_exits_5(cli: Cli) -> None:
    done = cli("fit", "iris", *tiny(lr=1e30, likelihood="normal_network", steps=300, patience=0), "--quiet")
    assert done.code == 5
    assert "not finite" in done.sentence


def test_a_full_disk_is_told_and_nothing_is_lost(
    cli: Cli, digits_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("s.csv").write_text("what was there\n")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    done = cli("sample", digits_run, "--out", "s.csv")
    assert done.code == 1
    assert "the disk is full" in done.sentence
    assert Path("s.csv").read_text() == "what was there\n"
    assert [path.name for path in Path().iterdir()] == ["s.csv"]
    done = cli("fit", "iris", *TINY)
    assert done.code == 1
    assert "the disk is full" in done.sentence


def test_an_unexpected_error_is_one_sentence_with_exit_code_1(
    cli: Cli, digits_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr("latentia.model.Model.sample", broken)
    done = cli("sample", digits_run)
    assert done.code == 1
    assert done.err == (
        "latentia: internal error (RuntimeError: the moon is full); LATENTIA_DEBUG=1 shows where it arose\n"
    )


def corrupt(folder: Path) -> str:
    (folder / "model.safetensors").write_bytes(b"nothing")
    return "is damaged"


def newer(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    return "format 99"


def pickled(folder: Path) -> str:
    (folder / "weights.pkl").write_bytes(b"\x80\x04.")
    return "pickle"


@pytest.mark.parametrize("spoil", [corrupt, newer, pickled])
def test_an_untrusted_model_folder_exits_4(cli: Cli, digits_run: Path, spoil: object, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(digits_run / "model", folder)
    words = spoil(folder)  # type: ignore[operator]
    for command in ("evaluate", "sample", "embed"):
        done = cli(command, folder, *(["digits"] if command != "sample" else []))
        assert done.code == 4
        assert words in done.sentence


def test_an_empty_folder_is_no_model(cli: Cli) -> None:
    Path("nothing").mkdir()
    done = cli("evaluate", "nothing")
    assert done.code == 4
    assert "no model folder" in done.sentence


def test_an_unfinished_run_says_how_to_go_on(cli: Cli) -> None:
    assert cli("fit", "iris", *TINY, "--out", "run", "--quiet").code == 0
    shutil.rmtree("run/model")
    done = cli("evaluate", "run")
    assert done.code == 2
    assert "latentia fit --out run --resume" in done.sentence


def test_rows_of_another_width_are_refused(cli: Cli, digits_run: Path) -> None:
    np.save("x.npy", np.zeros((5, 1, 8, 9)))
    done = cli("score", digits_run, "x.npy")
    assert done.code == 3


def test_diverged_has_its_exit_code() -> None:
    assert DivergedError.exit_code == 5
