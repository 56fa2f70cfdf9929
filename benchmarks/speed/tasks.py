"""What every contestant of a task trains, and the data it is given: the autoencoders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

PIXELS = 784
SIDE = 28
CHANNELS = (32, 64)
INK = 0.19  # share of bright pixels in the synthetic images, as in MNIST
RATE = 1e-3  # Adam's, everywhere


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is measured.

    kind        who can take part: a key of `contestants.CONTESTANTS`
    steps       of one measurement
    peer        whose time is divided by that of the others: their speed-up; None where only the floor counts
    targets     by contestant, one thread: the smallest speed-up, or else the largest ratio to the floor
    difference  whether a measurement is the time of 1 + `steps` steps less that of one, so that what a call
                does once does not count
    """

    kind: ClassVar[str]
    name: str
    title: str
    steps: int
    peer: str | None = None
    targets: dict[str, float] = field(default_factory=dict)
    difference: bool = False


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Task):
    """A variational autoencoder with a Bernoulli likelihood of grey values, trained by Adam.

    hidden    sizes of the encoder's hidden layers, mirrored by the decoder; unused with `conv`
    samples   K, draws of z per example; above 1 the objective is the importance-weighted bound
    """

    kind = "autoencoder"
    batch: int
    latent: int
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    samples: int = 1
    conv: bool = False


AUTOENCODERS = (
    Autoencoder(
        name="mlp",
        title="MLP VAE 784-400-20, ReLU, batch 128; an epoch of MNIST is 468 steps",
        batch=128,
        latent=20,
        steps=468,
        hidden=(400,),
        targets={"ours compiled": 1.5, "ours compiled bf16": 1.1},
    ),
    Autoencoder(
        name="iwae",
        title="IWAE, K=50, 784-200-200-50, tanh, batch 100",
        batch=100,
        latent=50,
        steps=40,
        hidden=(200, 200),
        activation="tanh",
        samples=50,
        targets={"ours compiled": 1.3, "ours compiled bf16": 0.85},
    ),
    Autoencoder(
        name="conv",
        title="convolutional VAE, 1-32-64 channels (4x4, stride 2), 20 latents, ReLU, batch 128",
        batch=128,
        latent=20,
        steps=50,
        conv=True,
        targets={"ours eager": 1.1},
    ),
)


def images() -> tuple[NDArray[np.uint8], str]:
    """60,000 grey images `[60000, 784]` and where they come from: MNIST if it is there, else synthetic."""
    path = Path(os.environ.get("LATENTIA_DATA", "../shared/data")) / "mnist.npz"
    if path.is_file():
        with np.load(path) as archive:
            return archive["x_train"].reshape(-1, PIXELS), "MNIST"
    rng = np.random.default_rng(0)
    bright = rng.random((60_000, PIXELS), dtype=np.float32) < INK
    grey = rng.integers(1, 256, (60_000, PIXELS), dtype=np.uint8)
    return np.where(bright, grey, 0).astype(np.uint8), "synthetic images"
