"""A model folder that is damaged or untrusted is refused with one sentence."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import latentia as lt
from latentia.errors import ArchiveError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return lt.models.vae(event=3, latent=2, hidden=(5,)).save(tmp_path / "model")


def rewrite(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def garble(folder: Path) -> None:
    content = b"\x10" + b"\x00" * 7 + b"not json at all."
    (folder / "model.safetensors").write_bytes(content)
    rewrite(folder, sha256=hashlib.sha256(content).hexdigest())


def drop_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.popitem()
    save_file(tensors, folder / "model.safetensors")
    rewrite(folder, sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def call(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"call": name, "args": list(args), "kwargs": kwargs}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def pickled(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps({"a": 1}))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors"),
    "no json": (lambda f: (f / "config.json").write_text("{"), "is damaged: it is not JSON"),
    "not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "is damaged: it is not JSON"),
    "too deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "is damaged: it is not JSON"),
    "another json": (lambda f: (f / "config.json").write_text("[1]"), "does not state its format"),
    "newer": (
        lambda f: rewrite(f, format=2, latentia="9.9"),
        "format 2, written by latentia 9.9.*update latentia",
    ),
    "cut": (truncate, "is damaged: its sha256"),
    "a bit flipped": (flip, "is damaged: its sha256"),
    "no safetensors": (garble, "model.safetensors is damaged"),
    "a weight is gone": (drop_a_weight, "the weights do not fit the model: .* lacks"),
    "sha256 gone": (lambda f: rewrite(f, sha256=None), "is damaged: its sha256"),
    "unknown constructor": (
        lambda f: rewrite(f, expression={"p": call("Malware"), "q": None}),
        "made of 'Malware'.*does not know",
    ),
    "a path": (
        lambda f: rewrite(f, expression={"p": call("os.system", "true"), "q": None}),
        "made of 'os.system'",
    ),
    "wrong arguments": (
        lambda f: rewrite(f, expression={"p": call("StandardNormal", -1), "q": None}),
        "StandardNormal cannot be built",
    ),
    "too large": (
        lambda f: rewrite(f, expression={"p": call("Constant", 10**15), "q": None}),
        "Constant cannot be built",
    ),
    "no pair": (lambda f: rewrite(f, expression={"p": 3, "q": None}), "not a pair of Joints"),
    "half a pair": (lambda f: rewrite(f, expression={"q": None}), "its expression builds no model"),
    "no expression": (lambda f: rewrite(f, expression=[1]), "its expression builds no model"),
    "a dangling reference": (
        lambda f: rewrite(f, expression={"p": {"ref": 1}, "q": None}),
        "has no meaning there",
    ),
    "a dangling tensor": (
        lambda f: rewrite(f, expression={"p": {"tensor": "x"}, "q": None}),
        "has no meaning there",
    ),
    "deep": (lambda f: rewrite(f, expression={"p": nested(900), "q": None}), "is damaged|not a pair"),
    "an unhashable key": (
        lambda f: rewrite(f, expression={"p": {"dict": [[[1], 2]]}, "q": None}),
        "its expression builds no model",
    ),
    "dangling aliases": (lambda f: rewrite(f, aliases={"a": "b"}), "its aliases name weights"),
    "a damaged schema": (lambda f: rewrite(f, schema={"fields": 3}), "its schema cannot be read"),
    "a pickle": (lambda f: pickled(f, "weights.pkl"), "looks like a pickle"),
    "a torch file": (lambda f: torch.save({"a": torch.ones(1)}, f / "extra"), "looks like a pickle"),
    "an old torch file": (lambda f: (f / "pytorch_model.bin").write_bytes(b""), "looks like a pickle"),
    "a joblib file": (lambda f: (f / "scaler.JOBLIB").write_bytes(b""), "looks like a pickle"),
    "a pickle in disguise": (lambda f: pickled(f, "notes.txt"), "looks like a pickle"),
    "a pickle in a folder": (lambda f: ((f / "a").mkdir(), pickled(f, "a/b")), "looks like a pickle"),
    "weights that are a pickle": (lambda f: pickled(f, "model.safetensors"), "looks like a pickle"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_damaged_or_untrusted_is_refused_with_one_sentence(name: str, saved: Path) -> None:
    damage, sentence = REFUSED[name]
    damage(saved)
    with pytest.raises(ArchiveError, match=sentence) as raised:
        lt.load_model(saved)
    assert raised.value.exit_code == 4
    assert "\n" not in str(raised.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="is not a folder"):
        lt.load_model(tmp_path / "nothing")


def test_a_run_folder_is_told_from_its_model(saved: Path) -> None:
    with pytest.raises(ArchiveError, match=f"a model is in {saved}"):
        lt.load_model(saved.parent)


def test_into_is_a_model(saved: Path) -> None:
    with pytest.raises(TypeError, match="into must be a Model, got Linear"):
        lt.load_model(saved, into=torch.nn.Linear(1, 1))  # type: ignore[arg-type]
