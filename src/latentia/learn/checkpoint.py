"""Checkpoints: everything a run needs to go on exactly, in one safetensors file each; no pickle.

The newest two are kept, `step-00001000.safetensors`, and `best.safetensors` with the best weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from .._files import atomic_write
from .ascent import Progress

KEEP = 2


class Engine(Protocol):
    """What a checkpoint saves and restores: the weights, and what else the next step depends on."""

    @property
    def step_module(self) -> torch.nn.Module: ...

    def tensors(self) -> dict[str, Tensor]: ...

    def load(self, tensors: Mapping[str, Tensor]) -> None: ...


def save_checkpoint(folder: Path, engine: Engine, progress: Progress, settings: Mapping[str, Any]) -> Path:
    """Write the state after `progress.step` steps atomically, then remove all but the newest two.

    The random numbers of a step and the order of an epoch are functions of the seed and the step, so the step
    is their state.
    """
    path = folder / f"step-{progress.step:08d}.safetensors"
    metadata = {"progress": json.dumps(asdict(progress)), "settings": json.dumps(settings)}
    _write(path, engine.tensors(), metadata)
    for old in _steps(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(
    folder: Path, engine: Engine, kind: type[Progress] = Progress
) -> tuple[tuple[Progress, dict[str, Any]] | None, list[Path]]:
    """Restore the newest readable checkpoint into the engine.

    Returns its progress and settings, or None where there is none, and the damaged files passed over.
    """
    damaged = []
    for path in reversed(_steps(folder)):
        try:
            tensors, metadata = _read(path)
            progress = kind(**json.loads(metadata["progress"]))
            settings = json.loads(metadata["settings"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            damaged.append(path)
            continue
        engine.load(tensors)
        return (progress, settings), damaged
    return None, damaged


def save_best(folder: Path, weights: Mapping[str, Tensor], step: int) -> None:
    """Write the best weights so far."""
    _write(folder / "best.safetensors", weights, {"step": str(step)})


def load_best(folder: Path, step: int) -> dict[str, Tensor] | None:
    """The best weights, if they are those of `step`."""
    path = folder / "best.safetensors"
    if not path.exists():
        return None
    tensors, metadata = _read(path)
    return tensors if metadata.get("step") == str(step) else None


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    atomic_write(path, to_bytes(own, metadata))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def clone_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state that later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
