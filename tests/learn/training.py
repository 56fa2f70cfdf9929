"""Small runs, there to be stopped; a module that processes can import without the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import latentia as lt
from latentia.errors import Interrupted


def train(folder: Path, resume: bool, steps: int, **options: object) -> None:
    """Start or resume the run in `folder`. A signal ends the process with the exit code of its error."""
    grey = torch.rand(600, 24, generator=torch.Generator().manual_seed(0))
    data = lt.load_data(grey, binarise="dynamic")
    model = lt.models.vae(data=data, latent=3, hidden=(24,), seed=1)
    settings = {"samples": 3, "batch": 100, "lr": 3e-3, "clip": 50.0, "patience": None, "seed": 5} | options
    settings |= {"steps": steps, "compile": False, "out": folder, "resume": resume, "progress": False}
    try:
        lt.fit(model, data, lt.iwae, **settings)
    except Interrupted as stop:
        sys.exit(stop.exit_code)


def estimate(folder: Path, resume: bool, steps: int, **options: object) -> None:
    """The same by EM, of a mixture from several starts with a net for its components."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(250, 6, generator=generator) + 2 * torch.randint(3, (250, 1), generator=generator)
    data = lt.load_data(torch.where(torch.rand(250, 6, generator=generator) < 0.1, torch.nan, x))
    if options.pop("neural", False):
        data, model = lt.load_data(x), lt.models.neural_mixture(6, 3, hidden=(8,), seed=1)
    else:
        model = lt.models.gaussian_mixture(6, 4, seed=1)
    settings = {"start": "random", "tol": 0.0, "seed": 5, "progress": False} | options
    try:
        lt.fit(model, data, method="em", steps=steps, out=folder, resume=resume, **settings)
    except Interrupted as stop:
        sys.exit(stop.exit_code)
