"""Real processes: signals, exit codes, pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Cli

LONG = ["--hidden", "16", "--latent", "2", "--patience", "0", "--compile", "no", "--valid-every", "50"]


def command(*argv: object) -> list[str]:
    return [sys.executable, "-m", "latentia", *map(str, argv)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_resume_ends_as_if_unbroken(
    cli: Cli, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = subprocess.Popen(
        command("fit", "iris", *LONG, "--steps", 1_000_000, "--out", "run"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("latentia: interrupted after step")
    assert "latentia fit --out run --resume" in last
    assert out == ""
    if number is not signal.SIGTERM:
        return
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*.safetensors")).stem
    steps = int(newest.partition("-")[2]) + 60
    assert cli("fit", "--out", "run", "--resume", "--steps", steps, "--quiet").code == 0
    assert cli("fit", "iris", *LONG, "--steps", steps, "--out", "whole", "--quiet").code == 0
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("run", "whole")]
    assert weights[0] == weights[1]


def test_exit_codes_and_streams_of_a_process(tmp_path: Path) -> None:
    done = subprocess.run(command("fit", "nowhere.csv"), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "latentia: there is no file or folder nowhere.csv\n"


def test_a_reader_that_stops_early_is_no_error(digits_run: Path) -> None:
    writer = subprocess.Popen(
        command("sample", digits_run, "-n", 3000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.readline()
    writer.stdout.close()
    err = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(timeout=60) in (0, 1)
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_output_survives_a_narrow_encoding(digits_run: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command("evaluate", digits_run, "--rows", 5, "--samples", 3),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
