"""Every example runs, quickly when told so, and writes the pictures that it promises."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
PROMISED = {
    "compare_models": {"compare_models.png"},
    "em_bars": {"em_bars.png"},
    "estimator_variance": {"estimator_variance.png"},
    "gaussian_mixture": {"gaussian_mixture.png"},
    "kl_directions": {"kl_directions.png"},
    "latent_plane": {"latent_plane.png", "latent_scatter.png", "graph.png"},
    "latent_sizes": {"latent_sizes.png"},
    "linear_vae": {"linear_vae.png"},
    "log_linear": {"log_linear.png"},
    "mean_field": {"mean_field.png"},
    "missing_cells": {"missing_cells.png"},
    "naive_monte_carlo": {"naive_monte_carlo.png"},
    "new_likelihood": {"new_likelihood.png"},
    "new_objective": {"multiply_weighted.png"},
    "ppca": {"ppca.png"},
    "sandwich": {"sandwich.png"},
    "vae_gap": {"vae_gap.png"},
    "wake_sleep_dreams": {"wake_sleep_dreams.png"},
}


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_example_writes_what_it_promises(script: Path, tmp_path: Path) -> None:
    module = load(script)
    written = module.main(budget=0.002, out=tmp_path / "new")
    assert {path.name for path in written} == PROMISED[script.stem]
    assert set((tmp_path / "new").iterdir()) == set(written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert re.search(r"\((19|20)\d\d\)", module.__doc__ or ""), "an example is a lesson, with its source"
