"""Two small finished runs: an image model of digits and a table model of iris, both with a latent plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import latentia as lt


@dataclass(frozen=True)
class Case:
    data: lt.data.Data
    model: lt.Model
    run: lt.Run
    folder: Path


def fitted(name: str, folder: Path, latent: int) -> Case:
    data = lt.load_data(name)
    model = lt.models.vae(data=data, latent=latent, hidden=(16,), seed=0)
    run = lt.fit(
        model, data, steps=30, valid_every=10, report_every=5, lr=1e-2, out=folder, progress=False, seed=0
    )
    return Case(data, model, run, folder)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return fitted("digits", tmp_path_factory.mktemp("digits") / "run", latent=3)


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return fitted("iris", tmp_path_factory.mktemp("iris") / "run", latent=2)
