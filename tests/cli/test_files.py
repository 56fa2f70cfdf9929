"""sample, reconstruct, embed, score and plot: the files they write."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

import latentia as lt

from .conftest import Cli


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def size_of(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def test_samples_as_a_picture_arrays_and_rows(cli: Cli, digits_run: Path) -> None:
    done = cli("sample", digits_run, "-n", "6", "--out", "new/six.png")
    assert done.code == 0, done.err
    assert size_of(Path("new/six.png")) == (3 * 58 + 2, 2 * 58 + 2)
    assert "means" in done.err
    assert cli("sample", digits_run, "-n", "6", "--out", "six.npz").code == 0
    arrays = np.load("six.npz")
    assert arrays["x"].shape == (6, 1, 8, 8)
    model = lt.load_model(digits_run / "model")
    assert np.allclose(arrays["x"], model.sample(6, seed=0).numpy())
    means = cli("sample", digits_run, "-n", "6", "--mean", "--out", "means.npz")
    assert means.code == 0
    assert np.load("means.npz")["x"].std() < arrays["x"].std()
    assert cli("sample", digits_run, "-n", "2", "--seed", "1", "--out", "two.csv").code == 0
    assert len(rows_of(Path("two.csv").read_text())) == 2


def test_a_tables_samples_come_back_in_its_columns_units_and_levels(cli: Cli, table_run: Path) -> None:
    done = cli("sample", table_run, "-n", "30")
    rows = rows_of(done.out)
    assert list(rows[0]) == ["size", "town", "rooms"]
    assert {row["town"] for row in rows} <= {"Aarau", "Bern", "Chur"}
    assert all(float(row["rooms"]) == int(float(row["rooms"])) for row in rows)
    assert 60 < np.mean([float(row["size"]) for row in rows]) < 190
    assert "30 draws" in done.err


def test_a_table_is_no_picture(cli: Cli, table_run: Path) -> None:
    for command in ("sample", "reconstruct"):
        refused = cli(command, table_run, "--out", "x.png")
        assert refused.code == 2
        assert "are a table, not pictures" in refused.sentence


def test_reconstructions_beside_their_inputs(cli: Cli, digits_run: Path) -> None:
    assert cli("reconstruct", digits_run, "--out", "pairs.png", "--rows", "20").code == 0
    assert size_of(Path("pairs.png")) == (16 * 58 + 2, 4 * 58 + 2)
    assert cli("reconstruct", digits_run, "digits", "--out", "pairs.npz", "--rows", "5").code == 0
    arrays = np.load("pairs.npz")
    assert sorted(arrays) == ["input", "label", "reconstruction", "row"]
    data = lt.load_data("digits", split=(1, 0, 0))
    assert np.array_equal(arrays["input"], data.train.tensors["x"][:5].numpy())
    assert arrays["reconstruction"].shape == (5, 1, 8, 8)


def test_a_tables_reconstructions_keep_columns_and_levels(cli: Cli, table_run: Path) -> None:
    rows = rows_of(cli("reconstruct", table_run, "--rows", "4").out)
    assert list(rows[0]) == ["row", "size", "town", "rooms"]
    assert all(row["town"] in ("Aarau", "Bern", "Chur") for row in rows)


def test_codes_are_the_posterior_means(cli: Cli, digits_run: Path) -> None:
    rows = rows_of(cli("embed", digits_run).out)
    assert list(rows[0]) == ["row", "label", "z0", "z1"]
    test = lt.load_data("digits").test
    codes = lt.load_model(digits_run / "model").encode(test)
    assert [int(row["row"]) for row in rows] == test.rows.tolist()
    assert [int(row["label"]) for row in rows] == test.labels.tolist()
    written = np.array([[float(row["z0"]), float(row["z1"])] for row in rows])
    assert np.allclose(written, codes.numpy(), rtol=1e-6, atol=1e-6)
    assert cli("embed", digits_run, "--out", "c.npz").code == 0
    assert np.allclose(np.load("c.npz")["z"], codes.numpy())
    assert cli("embed", digits_run, "--out", "c.npy").code == 0
    assert np.allclose(np.load("c.npy"), codes.numpy())


def test_scores_are_one_line_per_row(cli: Cli, digits_run: Path) -> None:
    assert cli("score", digits_run, "digits", "--samples", "10", "--rows", "25", "--out", "s.csv").code == 0
    rows = rows_of(Path("s.csv").read_text())
    assert list(rows[0]) == ["row", "log_evidence", "mc_error"]
    assert [int(row["row"]) for row in rows] == list(range(25))
    first = lt.load_data("digits", split=(1, 0, 0)).train[:25]
    expected = lt.log_evidence(lt.load_model(digits_run / "model"), first, samples=10)
    assert np.allclose([float(row["log_evidence"]) for row in rows], expected.values, rtol=1e-5)
    assert np.allclose([float(row["mc_error"]) for row in rows], expected.mc_errors, rtol=1e-4)


def test_new_rows_are_read_by_the_models_schema(cli: Cli, table_run: Path) -> None:
    Path("new.csv").write_text("rooms,colour,town,size\n2,red,Bern,100\n1,blue,Chur,?\n")
    rows = rows_of(cli("score", table_run, "new.csv", "--samples", "10").out)
    assert len(rows) == 2
    Path("bad.csv").write_text("rooms,town,size\n2,Basel,100\n")
    refused = cli("score", table_run, "bad.csv")
    assert refused.code == 3
    assert "Basel" in refused.sentence
    Path("short.csv").write_text("rooms,town\n2,Bern\n")
    refused = cli("score", table_run, "short.csv")
    assert refused.code == 3
    assert "lacks column 'size'" in refused.sentence


def test_commands_work_from_another_folder(
    cli: Cli, table_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli("embed", table_run, "--rows", "2").code == 0


def test_an_output_files_ending_is_checked_before_any_work(cli: Cli, digits_run: Path) -> None:
    for command, name in (("sample", "x.jpg"), ("embed", "x.png"), ("score", "x.npz"), ("reconstruct", "x")):
        refused = cli(command, digits_run, "--out", name)
        assert refused.code == 2
        assert "must end in" in refused.sentence
        assert not Path(name).exists()


def test_plot_draws_the_run_and_writes_its_report(cli: Cli, digits_run: Path) -> None:
    pytest.importorskip("matplotlib")
    done = cli("plot", digits_run)
    assert done.code == 0, done.err
    written = [Path(line) for line in done.out.split()]
    assert {path.name for path in written} >= {"loss.png", "samples.png", "report.html"}
    assert all(path.stat().st_size > 0 for path in written)
    refused = cli("plot", digits_run / "model")
    assert refused.code == 2
    assert "is a model folder" in refused.sentence
