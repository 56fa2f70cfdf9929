"""EM in real processes, really killed: it goes on to the same bits."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import latentia as lt
from latentia.errors import UsageError

from .test_resume import SERVER, ended, has_saved, saved_steps, told, wait_until
from .training import estimate

OFTEN = {"starts": 3, "checkpoint_every": 7}


def start(folder: Path, resume: bool, steps: int, options: dict[str, object]) -> BaseProcess:
    process = SERVER.Process(target=estimate, args=(folder, resume, steps), kwargs=options, daemon=True)
    process.start()
    return process


@pytest.mark.parametrize("neural", [False, True])
def test_em_killed_again_and_again_ends_bit_equal_to_the_unbroken_run(tmp_path: Path, neural: bool) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    options = OFTEN | {"neural": neural, "estep": "sampled" if neural else "exact"}
    steps = 12 if neural else 30
    estimate(unbroken, False, steps, **options)
    kills, resume = 0, False
    for later, share in enumerate((0.01, 0.4, 0.8)):
        process = start(broken, resume, steps, options)
        wait_until(partial(has_saved, broken, max(1, int(3 * share * steps))), process)
        time.sleep(0.004 * later)
        process.kill()
        kills += ended(process) == -signal.SIGKILL
        resume = True
    assert ended(start(broken, resume, steps, options)) == 0
    assert kills >= 2
    for name in ("model/model.safetensors", "checkpoints/best.safetensors"):
        assert (unbroken / name).read_bytes() == (broken / name).read_bytes(), name
    records = [told(unbroken), told(broken)]
    assert [(r["split"], r["step"], r["bound"]) for r in records[0]] == [
        (r["split"], r["step"], r["bound"]) for r in records[1]
    ]
    assert len(records[0]) == 3 * steps + 3  # training after every iteration, validation after every start


def test_a_signal_saves_the_state_from_which_em_goes_on(tmp_path: Path) -> None:
    broken, unbroken, never = tmp_path / "broken", tmp_path / "unbroken", {"checkpoint_every": 1_000_000}
    process = start(broken, False, 1_000_000, never)
    wait_until(lambda: len(told(broken)) > 3, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert ended(process) == 128 + signal.SIGINT
    (step,) = saved_steps(broken)
    before = told(broken)
    assert step == before[-1]["step"]
    assert ended(start(broken, True, step + 5, never)) == 0
    estimate(unbroken, False, step + 5, **never)
    assert told(broken)[: len(before)] == before
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (broken, unbroken)]
    assert weights[0] == weights[1]


def test_a_run_of_em_is_resumed_as_it_was_begun(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    estimate(folder, False, 3)
    for options, sentence in (
        ({"tol": 1e-3}, "tol was"),
        ({"starts": 2}, "starts was"),
        ({"seed": 1}, "seed was"),
    ):
        with pytest.raises(UsageError, match=f"cannot resume: {sentence}"):
            estimate(folder, True, 3, **options)
    estimate(folder, True, 6)
    assert max(record["step"] for record in told(folder)) == 6
    whole = tmp_path / "whole"
    estimate(whole, False, 6)
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (folder, whole)]
    assert weights[0] == weights[1]
    model = lt.load_model(folder / "model")
    with pytest.raises(UsageError, match="already fitted"):
        lt.fit(model, [[0.0] * 6] * 9)
