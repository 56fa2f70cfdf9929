"""L_5000 of 1,000 MNIST images against the floor of its matrix products.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.importance [--run RUN]

A VAE 784-200-200-50, tanh (Burda et al. 2016), with fresh weights, or the model of a run folder. The floor
is the decoder's products alone, 5,000 for each image, in chunks of the same size, and the encoder's, once for
each image. Rounds are interleaved; medians over them, ratios within each. Memory is the most the process held
while it ran, less what it held before.
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

import torch
from torch import Tensor, nn

import latentia as lt
from latentia.evidence.methods import live_entries

from .tasks import images
from .worker import peak_memory

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


def timed(run: Callable[[], object], clock: Callable[[], float]) -> tuple[float, object]:
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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: where other work shares the machine"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, clock = model_of(options.run), CLOCKS[options.clock]
    grey, source = images()
    x = (torch.from_numpy(grey[: options.images]) > 127).float()
    runs = {
        "floor": floor(model, x, options.samples),
        "eager": ours(model, x, options.samples, compile=False),
        "compiled": ours(model, x, options.samples, compile=True),
    }
    print("python -m benchmarks.speed.importance", *sys.argv[1:])
    print(f"L_{options.samples} of {len(x):,} images ({source}, above half black): {model.p.equation()}")
    took: dict[str, list[float]] = {name: [] for name in runs}
    for count in range(options.rounds):
        for name, run in runs.items():
            before = peak_memory(reset=True)
            seconds, found = timed(run, clock)
            took[name].append(seconds)
            memory = peak_memory() - before
            told = f", {found.mean:.3f} nats" if isinstance(found, lt.Estimate) else ""
            print(f"  round {count}: {name:9} {seconds:7.2f} s, {memory:.0f} MB{told}", flush=True)
    for name, seconds in took.items():
        ratios = [one / base for one, base in zip(seconds, took["floor"], strict=True)]
        print(f"{name:9} {statistics.median(seconds):7.2f} s, {statistics.median(ratios):.2f} floors")
    print("the first round of `compiled` holds the compilation; the median leaves it out")
    threads = f"{options.threads} threads" if options.threads > 1 else "one thread"
    print(
        f"{date.today()}; latentia {lt.__version__}, torch {torch.__version__}; {os.cpu_count()} cores, "
        f"{threads}, {options.clock} time"
    )


if __name__ == "__main__":
    main()
