"""Real processes: signals, exit codes, pipes."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentia.cli import main

LONG = ["--hidden", "16", "--latent", "2", "--patience", "0", "--compile", "no", "--valid-every", "50"]


def command(*argv: object) -> list[str]:
    return [sys.executable, "-m", "latentia", *map(str, argv)]


def test_an_interrupt_ends_in_a_sentence_that_says_how_to_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("fit", "iris", *LONG, "--steps", 1_000_000, "--out", "run"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("latentia: interrupted after step")
    assert "latentia fit --out run --resume" in last
    assert out == ""


def test_exit_codes_and_streams_of_a_process(tmp_path: Path) -> None:
    done = subprocess.run(command("fit", "iris", "--stepz", 3), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("latentia: ")
    assert done.stderr.count("\n") == 1


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


def test_output_survives_a_narrow_encoding(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["evaluate", str(digits_run), "--rows", "5", "--samples", "3"]) == 0
    assert b"?" in narrow.buffer.getvalue()
