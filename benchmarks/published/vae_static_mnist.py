"""Published MLP VAEs on statically binarised MNIST (Larochelle & Murray's split), reproduced.

    python -m benchmarks.published.vae_static_mnist z40
        one 400-unit ReLU layer each way; published -L_200 89.78
    python -m benchmarks.published.vae_static_mnist z128
        256-256 each way; published -L_128 97.10, -ELBO 103.31

Both train by `latentia.fit` on 50,000 images, keep the weights of the best validation ELBO, and evaluate the
10,000 test images. Numbers are nats per image; L_k is the importance-weighted lower bound with k samples.
`--fraction 0.01` shortens the schedule. Two variants tell what the first set-up lacks: `--hidden 400,400` has
other layers, and `--dynamic` trains on the grey images of mnist.npz, binarised anew at each presentation, and
still evaluates the fixed test images.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

import latentia as lt

DATA = Path(os.environ.get("LATENTIA_DATA", "../shared/data"))
STEPS_PER_EPOCH = 500  # 50,000 images in batches of 100
DROP = 10 ** (-1 / 5)
SETTINGS: dict[str, dict[str, Any]] = {
    "z40": {
        "model": {"latent": 40, "hidden": (400,)},
        "fit": {
            "steps": 500 * STEPS_PER_EPOCH,
            "batch": 100,
            "lr": 1e-4,
            "schedule": {200 * STEPS_PER_EPOCH: DROP, 350 * STEPS_PER_EPOCH: DROP**2},
        },
        "samples": 200,
        "published": "-L_200 89.78, accept +-0.6",
    },
    "z128": {
        "model": {"latent": 128, "hidden": (256, 256)},
        "fit": {"steps": 65_000, "batch": 128, "lr": 1e-3, "optimizer": "rmsprop"},
        "samples": 128,
        "published": "-L_128 97.10 and -ELBO 103.31, accept +-1 or better",
    },
}


def static_mnist() -> lt.data.Data:
    """The fixed binarisation, from mnist_static.npz in LATENTIA_DATA (default ../shared/data).

    Leaves with a line where the file is absent.
    """
    path = DATA / "mnist_static.npz"
    if not path.exists():
        sys.exit(f"skipped: {path} is not there; set LATENTIA_DATA to the folder that holds mnist_static.npz")
    with np.load(path) as file:
        parts = {name: np.unpackbits(file[f"x_{name}"], axis=1) for name in ("train", "valid", "test")}
    return lt.load_data(parts["train"], valid=parts["valid"], test=parts["test"], split=(1.0, 0.0, 0.0))


def dynamic_mnist() -> lt.data.Data:
    """50,000 and 10,000 grey images, binarised anew at each presentation, from mnist.npz beside it."""
    with np.load(DATA / "mnist.npz") as file:
        images = file["x_train"].reshape(-1, 1, 28, 28)
    parts = {"valid": images[50_000:], "test": images[50_000:]}
    return lt.load_data(images[:50_000], split=(1.0, 0.0, 0.0), binarise="dynamic", **parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", default="auto", choices=["auto", "yes", "no"])
    parser.add_argument("--fraction", type=float, default=1.0, help="of the published number of steps")
    parser.add_argument("--out", type=Path, help="run folder, to resume and to keep the model")
    parser.add_argument("--hidden", help="other hidden layers, such as 400,400")
    parser.add_argument("--dynamic", action="store_true", help="train on images binarised anew")
    arguments = parser.parse_args()
    setting = dict(SETTINGS[arguments.name])
    if arguments.hidden:
        setting["model"] = {**setting["model"], "hidden": tuple(map(int, arguments.hidden.split(",")))}
    static = static_mnist()
    data = dynamic_mnist() if arguments.dynamic else static
    model = lt.models.vae(data.event_shape, likelihood="bernoulli", seed=arguments.seed, **setting["model"])
    options = dict(setting["fit"])
    options["steps"] = max(1, int(options["steps"] * arguments.fraction))
    if "schedule" in options:
        options["schedule"] = {
            int(step * arguments.fraction): factor for step, factor in options["schedule"].items()
        }
    started = time.perf_counter()
    run = lt.fit(
        model,
        data,
        lt.elbo,
        seed=arguments.seed,
        device=arguments.device,
        compile={"auto": "auto", "yes": True, "no": False}[arguments.compile],
        patience=None,
        valid_every=2000,
        out=arguments.out,
        resume=arguments.out is not None and arguments.out.exists(),
        **options,
    )
    fitted = time.perf_counter()
    test = static.test.batch()["x"].reshape(-1, *data.event_shape)
    model.schema = None  # the fixed test images are taken as they are
    bounds = [
        lt.log_evidence(model, test, method, samples)
        for method, samples in (("elbo", 100), ("importance", setting["samples"]))
    ]
    print(f"{arguments.name}: published {setting['published']}")
    print(f"model {setting['model']}, fit {options}, seed {arguments.seed}")
    for estimate in bounds:
        print(
            f"-{estimate.name} = {-estimate.mean:.3f} nats per image "
            f"(standard errors: Monte Carlo {estimate.mc_error:.3f}, rows {estimate.se:.3f}), "
            f"10,000 test images, an upper bound on -log p(x)"
        )
    print(
        f"best validation ELBO {run.best_value:.3f} at step {run.best_step:,} of {run.steps:,}; "
        f"{run.executor}"
    )
    device = (
        torch.cuda.get_device_name()
        if arguments.device == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(
        f"{date.today()}; latentia {lt.__version__}, torch {torch.__version__}; {device}; "
        f"fit {fitted - started:.0f} s, evaluation {time.perf_counter() - fitted:.0f} s"
    )


if __name__ == "__main__":
    main()
