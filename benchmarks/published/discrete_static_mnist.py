"""Gradient estimators for 200 binary latents on statically binarised MNIST, under one budget.

    OMP_NUM_THREADS=1 python -m benchmarks.published.discrete_static_mnist vimco --seed 0
    OMP_NUM_THREADS=1 python -m benchmarks.published.discrete_static_mnist vimco --seed 0 --layers 200,200

A sigmoid belief net p(h) p(x | h), linear, with the linear recognition net q(h | x); Adam at 5e-4, batch 50,
80,000 updates, the weights of the last one. REINFORCE has no baseline; NVIL has a network of 100 tanh units,
the running mean and variance; Concrete has temperature 2/3 with p's probabilities of relaxed values extended
linearly; VIMCO has 50 samples. Numbers are nats per image on the 10,000 test images: -L_k, an upper bound on
-log p(x). Published: ARM paper, table 2 (Yin & Zhou 2019), and VIMCO's L_50000 of another paper.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

import latentia as lt

from .vae_static_mnist import static_mnist

Recipe = Callable[[lt.Model], tuple[Any, dict[str, Any]]]
RECIPES: dict[str, Recipe] = {
    "reinforce": lambda model: (lt.Reinforce(model, "none"), {}),
    "wake_sleep": lambda model: (lt.wake_sleep, {}),
    "nvil": lambda model: (lt.nvil(model), {}),
    "arm": lambda model: (lt.arm, {}),
    "disarm": lambda model: (lt.disarm, {}),
    "concrete": lambda model: (lt.elbo, {}),
    "rws": lambda model: (lt.rws, {"samples": 50}),
    "vimco": lambda model: (lt.vimco, {"samples": 50}),
}
PUBLISHED = {  # one layer, two layers
    "reinforce": (164.0, 159.2),
    "wake_sleep": (120.8, 107.7),
    "nvil": (113.1, 99.8),
    "concrete": (107.3, 95.6),
    "arm": (107.2, 96.7),
    "vimco": (98.8, 90.7),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", default="200", help="units of each layer, the nearest to the image first")
    parser.add_argument("--steps", type=int, default=80_000)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--samples", type=int, default=100, help="k of the bound that is reported")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", default="auto", choices=["auto", "yes", "no"])
    parser.add_argument(
        "--precision", default="fp32", choices=["fp32", "bf16"], help="of the products in training"
    )
    parser.add_argument("--out", type=Path, help="run folder, to resume and to keep the model")
    arguments = parser.parse_args()
    data, layers = static_mnist(), tuple(map(int, arguments.layers.split(",")))
    relaxation = "concrete" if arguments.name == "concrete" else "none"
    model = lt.models.helmholtz_machine(data=data, layers=layers, relaxation=relaxation, seed=arguments.seed)
    objective, keywords = RECIPES[arguments.name](model)
    started = time.perf_counter()
    run = lt.fit(
        model,
        data.train,
        objective,
        **keywords,
        steps=arguments.steps,
        batch=50,
        lr=arguments.lr,
        patience=None,
        seed=arguments.seed,
        device=arguments.device,
        precision=arguments.precision,
        compile={"auto": "auto", "yes": True, "no": False}[arguments.compile],
        out=arguments.out,
        resume=arguments.out is not None and arguments.out.exists(),
    )
    fitted = time.perf_counter()
    bound = lt.log_evidence(model, data.test, "importance", arguments.samples)
    published = PUBLISHED.get(arguments.name)
    beside = "" if published is None else f" (published {published[min(len(layers), 2) - 1]})"
    print(
        f"{arguments.name} {arguments.layers} seed {arguments.seed}: {-bound.mean:.2f} nats{beside}, "
        f"-L_{arguments.samples}, standard error over {len(data.test):,} rows {bound.se:.2f}; {run.steps:,} "
        f"updates at {arguments.lr:g}, {run.executor} {arguments.precision}; fit {fitted - started:.0f} s, "
        f"evaluation {time.perf_counter() - fitted:.0f} s; {date.today()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
