"""Real processes, really killed: a run that goes on ends with the same bits as one that was never stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

import latentia as lt
from latentia.errors import UsageError

from .training import train

OFTEN = {"report_every": 2, "valid_every": 40, "checkpoint_every": 7, "schedule": "cosine"}
NEVER = {"valid_every": 1_000_000, "checkpoint_every": 1_000_000, "report_every": 10}

# Processes are forked from a server that has imported what a run needs: that is most of a short run's time.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch._dynamo", "latentia.learn", "tests.learn.training"])


def start(folder: Path, resume: bool, steps: int, options: dict[str, object]) -> BaseProcess:
    process = SERVER.Process(target=train, args=(folder, resume, steps), kwargs=options, daemon=True)
    process.start()
    return process


def wait_until(ready: Callable[[], bool], process: BaseProcess) -> None:
    while process.is_alive() and not ready():
        time.sleep(0.001)


def ended(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("checkpoints/step-*.safetensors"))


def has_saved(folder: Path, step: int) -> bool:
    return (folder / "config.toml").exists() and max([0, *saved_steps(folder)]) >= step


def told(folder: Path) -> list[dict[str, object]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_run_killed_again_and_again_ends_bit_equal_to_the_unbroken_one(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    train(unbroken, False, 600, **OFTEN)
    kills, resume = 0, False
    for later, steps in enumerate((0, 1, 60, 130, 200, 270, 340)):
        process = start(broken, resume, 600, OFTEN)
        wait_until(partial(has_saved, broken, steps), process)
        time.sleep(0.004 * later)  # some kills fall into the writing of a checkpoint, some between two
        process.kill()
        kills += ended(process) == -signal.SIGKILL
        resume = True
    assert ended(start(broken, resume, 600, OFTEN)) == 0
    assert kills >= 5
    for name in ("model/model.safetensors", "checkpoints/best.safetensors"):
        assert (unbroken / name).read_bytes() == (broken / name).read_bytes(), name
    records = [told(unbroken), told(broken)]
    key = [[(r["split"], r["step"]) for r in run] for run in records]
    assert key[0] == key[1]
    valid = [[r["bound"] for r in run if r["split"] == "valid"] for run in records]
    assert valid[0] == valid[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_from_which_the_run_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    process = start(broken, False, 1_000_000, NEVER)
    wait_until((broken / "metrics.jsonl").exists, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert ended(process) == 128 + number
    (step,) = saved_steps(broken)  # the signal's own: no other was due
    before = told(broken)
    assert step >= before[-1]["step"] >= 10
    assert ended(start(broken, True, step + 25, NEVER)) == 0
    assert told(broken)[: len(before)] == before
    train(unbroken, False, step + 25, **NEVER)
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (broken, unbroken)]
    assert weights[0] == weights[1]


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
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is no folder"):
        run_in(tmp_path / "file" / "run")


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
    stopped = run_in(tmp_path / "run", lr=0.3, patience=1, steps=150)
    assert stopped.stopped == "patience"
    assert run_in(tmp_path / "run", lr=0.3, patience=None, steps=150, resume=True).steps == 150


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
