"""L_5000 of 1,000 MNIST images against the floor of its matrix products.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.importance [--run RUN]

A VAE 784-200-200-50, tanh (Burda et al. 2016), with fresh weights, or the model of a run folder. The floor
is the decoder's products alone, 5,000 for each image, in chunks of the same size, and the encoder's, once
for each image. It is timed before and after each run, whose ratio is to the mean of the two, as the machine's
speed drifts; a first run that compiles is not counted. Memory is the most the process held while it ran, less
what it held before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

import latentia as lt
from latentia.evidence.methods import live_entries

from .tasks import images
from .worker import peak_memory

Found = TypeVar("Found")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def model_of(run: Path | None) -> lt.Model:
    """The model of a run folder, its images taken as they are; else a fresh one."""
    if run is None:
        return lt.models.vae((784,), likelihood="bernoulli", latent=50, hidden=(200, 200), activation="tanh")
    model = lt.load_model(run / "model")
    model.schema = None
    return model


def floor(model: lt.Model, x: Tensor, samples: int) -> Callable[[], object]:
    """The products of the layers, and nothing else."""
    nets = [
        [m.weight.detach() for m in part.modules() if isinstance(m, nn.Linear)] for part in (model.q, model.p)
    ]
    encoder, decoder = nets
    chunk = max(1, live_entries(x.device) // model.widest)
    z = torch.randn(chunk, decoder[0].shape[1])

    def run() -> None:
        h = x
        for weight in encoder:
            h = h @ weight.T
        for _ in range(len(x)):
            for start in range(0, samples, chunk):
                h = z[: samples - start]
                for weight in decoder:
                    h = h @ weight.T

    return torch.no_grad()(run)


def ours(model: lt.Model, x: Tensor, samples: int, compile: bool) -> Callable[[], lt.Estimate]:
    return lambda: lt.log_evidence(model, x, "importance", samples, compile=compile)


def timed(run: Callable[[], Found], clock: Callable[[], float]) -> tuple[float, Found]:
    begun = clock()
    found = run()
    return clock() - begun, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a run folder, whose model is evaluated")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: where other work shares the machine"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, clock = model_of(options.run), CLOCKS[options.clock]
    grey, source = images()
    x = (torch.from_numpy(grey[: options.images]) > 127).float()
    base = floor(model, x, options.samples)
    print("python -m benchmarks.speed.importance", *sys.argv[1:])
    print(f"L_{options.samples} of {len(x):,} images ({source}, above half black): {model.p.equation()}")
    for name in ("eager", "compiled"):
        run = ours(model, x, options.samples, compile=name == "compiled")
        if name == "compiled":
            print(f"compiled, and run once: {timed(run, clock)[0]:.2f} s")
        ratios, before = [], timed(base, clock)[0]
        for count in range(1 if name == "eager" else options.rounds):
            held = peak_memory(reset=True)
            seconds, found = timed(run, clock)
            memory, after = peak_memory() - held, timed(base, clock)[0]
            ratios.append(2 * seconds / (before + after))
            print(
                f"  {name} {count}: {seconds:6.2f} s between floors of {before:.2f} and {after:.2f} s, "
                f"{ratios[-1]:.2f} floors, {memory:.0f} MB, {found.mean:.3f} nats",
                flush=True,
            )
            before = after
        print(f"{name}: {statistics.median(ratios):.2f} floors, the median of {len(ratios)}")
    threads = f"{options.threads} threads" if options.threads > 1 else "one thread"
    print(
        f"{date.today()}; latentia {lt.__version__}, torch {torch.__version__}; {os.cpu_count()} cores, "
        f"{threads}, {options.clock} time"
    )


if __name__ == "__main__":
    main()
