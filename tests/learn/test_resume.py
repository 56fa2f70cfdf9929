"""Real processes, really killed: a run that goes on ends with the same bits as one that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import latentia as lt
from latentia.errors import UsageError

SCRIPT = """
import sys
import latentia as lt
folder, resume, steps = sys.argv[1], sys.argv[2] == "resume", int(sys.argv[3])
data = lt.load_data("digits", binarise="dynamic")
model = lt.models.vae(data=data, latent=3, hidden=(24,), seed=1)
lt.fit(model, data, lt.iwae, samples=3, steps=steps, batch=100, valid_every=40, checkpoint_every=7,
       patience=None, seed=5, schedule="cosine", clip=50.0, out=folder, resume=resume, progress=False)
"""
STEPS = 1500


def start(folder: Path, mode: str, steps: int = STEPS) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), mode, str(steps)], env=environment)


def wait_for_steps(folder: Path, steps: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not any(
        int(path.stem.split("-")[1]) >= steps for path in folder.glob("checkpoints/step-*.safetensors")
    ):
        time.sleep(0.002)


def test_a_run_killed_again_and_again_ends_bit_equal_to_the_unbroken_one(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    reference = start(unbroken, "new")
    kills, mode = 0, "new"
    for steps in (1, 300, 700, 1200, None):
        process = start(broken, mode)
        if steps is not None:
            wait_for_steps(broken, steps, process)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        else:
            assert process.wait() == 0
        mode = "resume"
    assert reference.wait() == 0
    assert kills >= 3
    for name in ("model/model.safetensors", "checkpoints/best.safetensors"):
        assert (unbroken / name).read_bytes() == (broken / name).read_bytes(), name
    told = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (unbroken, broken)
    ]
    key = [[(r["split"], r["step"]) for r in records] for records in told]
    assert key[0] == key[1]
    valid = [[r["bound"] for r in records if r["split"] == "valid"] for records in told]
    assert valid[0] == valid[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_before_it_ends_the_program(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    process = start(folder, "new", 100_000)
    wait_for_steps(folder, 20, process)
    process.send_signal(number)
    assert process.wait() != 0
    steps = max(int(p.stem.split("-")[1]) for p in folder.glob("checkpoints/step-*.safetensors"))
    assert steps >= 20
    assert len(list(folder.glob("checkpoints/step-*.safetensors"))) <= 2


def run_in(folder: Path, **options: object) -> lt.Run:
    data = lt.load_data("iris")
    model = lt.models.vae(data=data, latent=2, hidden=(8,))
    settings = {"steps": 40, "valid_every": 10, "progress": False, "out": folder} | options
    return lt.fit(model, data, **settings)


def test_the_newest_two_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    run_in(tmp_path / "run", checkpoint_every=10)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best.safetensors", "step-00000030.safetensors", "step-00000040.safetensors"]


def test_an_existing_run_is_neither_lost_nor_mixed_up(tmp_path: Path) -> None:
    first = run_in(tmp_path / "run")
    with pytest.raises(UsageError, match="resume it, overwrite it"):
        run_in(tmp_path / "run")
    with pytest.raises(UsageError, match="cannot resume: lr was"):
        run_in(tmp_path / "run", resume=True, lr=0.5)
    with pytest.raises(UsageError, match="no run to resume"):
        run_in(tmp_path / "other", resume=True)
    longer = run_in(tmp_path / "run", resume=True, steps=80)
    assert longer.steps == 80
    assert longer.history[: len(first.history)] == first.history
    assert run_in(tmp_path / "run", overwrite=True).steps == 40


def test_a_refusal_touches_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_in(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for options in (
        {"resume": True, "lr": 0.5},
        {"overwrite": True, "batch": 10_000},
        {"overwrite": True, "lr": -1},
    ):
        with pytest.raises(UsageError):
            run_in(folder, **options)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError):
        run_in(tmp_path / "new", batch=10_000)
    assert not (tmp_path / "new").exists()


def test_other_data_or_another_schedule_are_not_the_same_run(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    with pytest.raises(UsageError, match="schedule was"):
        run_in(tmp_path / "run", resume=True, schedule="cosine")
    other = lt.load_data("iris", seed=1)
    with pytest.raises(UsageError, match="data was"):
        options = {"steps": 40, "valid_every": 10, "progress": False, "out": tmp_path / "run", "resume": True}
        lt.fit(lt.models.vae(data=other, latent=2, hidden=(8,)), other, **options)


def test_functions_of_the_step_can_be_resumed(tmp_path: Path) -> None:
    for resume in (False, True):
        run = run_in(tmp_path / "run", beta=lambda step: 0.5, resume=resume, steps=40 + 20 * resume)
    assert run.steps == 60


def test_more_patience_lets_a_stopped_run_go_on(tmp_path: Path) -> None:
    stopped = run_in(tmp_path / "run", lr=0.3, patience=1, steps=400)
    assert stopped.stopped == "patience"
    assert run_in(tmp_path / "run", lr=0.3, patience=None, steps=400, resume=True).steps == 400


def test_only_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("step-*"):
        path.write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match="none of the checkpoints"):
        run_in(tmp_path / "run", resume=True)


def test_a_longer_run_equals_one_that_was_resumed(tmp_path: Path) -> None:
    run_in(tmp_path / "a", steps=40)
    resumed = run_in(tmp_path / "a", steps=80, resume=True).model
    whole = run_in(tmp_path / "b", steps=80).model
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    whole = run_in(tmp_path / "a", checkpoint_every=10).model
    run_in(tmp_path / "b", checkpoint_every=10)
    newest = tmp_path / "b" / "checkpoints" / "step-00000040.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    resumed = run_in(tmp_path / "b", checkpoint_every=10, resume=True).model
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))
