"""The evidence of a published VAE from below and from above: L_5000, annealing, both sides, the gaps of q.

    python -m benchmarks.published.vae_static_mnist z40 --out RUN --compile yes
    python -m benchmarks.published.evidence_z40 RUN --threads 2

Of the first 1,000 test images of statically binarised MNIST: L_5000, and annealed importance sampling with 16
chains of 500 distributions from the prior (and from q, on the first 100). Of 100 images that the model makes:
bidirectional Monte Carlo. Of the first 100 test images: the approximation and the amortisation gap, with the
best diagonal and the best full q of each image. Nats per image, with standard errors, and minutes.

Expected: annealing above L_5000 - 0.1, sides less than 1 nat apart, gaps that are not negative, and annealing
and both sides in less than 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

import torch

import latentia as lt
from latentia.evidence import Estimate
from latentia.factors import Diagonal, Full

from ..speed.worker import peak_memory
from .vae_static_mnist import static_mnist

Found = TypeVar("Found")
TARGET = 25.0  # minutes


def measured(name: str, work: Callable[[], Found]) -> tuple[Found, float]:
    """What the work gives, and its minutes; both are printed, with the most memory it held."""
    before = peak_memory(reset=True)
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    minutes, cores = (time.perf_counter() - wall) / 60, (time.process_time() - processor) / 60
    memory = peak_memory() - before
    print(f"{name}: {minutes:.1f} minutes, {cores:.1f} of a processor's core, {memory:.0f} MB above the rest")
    print("  " + repr(found).replace("\n", "\n  "), flush=True)
    return found, minutes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder that vae_static_mnist made")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--some", type=int, default=100, help="simulated images, and those of the gaps")
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--distributions", type=int, default=500)
    parser.add_argument("--steps", type=int, default=2000, help="of the search for each image's best q")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = lt.load_model(options.run / "model")
    model.schema = None  # the fixed test images are taken as they are
    x = static_mnist().test.batch()["x"].reshape(-1, *model.p["x"].event)[: options.images]
    some = x[: options.some]
    path = {"distributions": options.distributions}

    def evidence(images: torch.Tensor, method: str, samples: int, **how: object) -> Callable[[], Estimate]:
        return lambda: lt.log_evidence(model, images, method, samples, **how)

    print("python -m benchmarks.published.evidence_z40", *sys.argv[1:])
    print(f"{model.p.equation()}, {len(x):,} test images")
    importance, _ = measured(f"L_{options.samples}", evidence(x, "importance", options.samples))
    annealed, first = measured("AIS from the prior", evidence(x, "ais", options.chains, **path))
    above = (annealed.values - importance.values).double()
    error = float(above.std()) / len(above) ** 0.5
    print(f"  above L_{options.samples} by {float(above.mean()):.3f} +- {error:.3f}")
    from_q, _ = measured(
        f"AIS from q, {len(some)} images", evidence(some, "ais", options.chains, start="q", **path)
    )
    difference = float((from_q.values - annealed.values[: len(some)]).double().mean())
    print(f"  above AIS from the prior, of the same images, by {difference:.3f}")
    sandwich, second = measured(
        f"both sides of {len(some)} simulated images",
        lambda: lt.bdmc(model, len(some), chains=options.chains, **path),
    )
    passed = {
        f"AIS above L_{options.samples} - 0.1": float(above.mean()) > -0.1,
        "both sides less than 1 nat apart": sandwich.gap < 1,
        f"AIS and both sides in less than {TARGET:g} minutes, {first + second:.1f}": first + second < TARGET,
    }
    best = better_of(annealed, from_q, len(some))
    for family in (Diagonal(), Full()):
        gaps, _ = measured(
            f"gaps of q, best {family}",
            lambda family=family: lt.diagnostics.inference_gaps(
                model, some, evidence=best, family=family, steps=options.steps
            ),
        )
        total = gaps.approximation.mean + gaps.amortisation.mean
        print(f"  sum {total:.4f}, total {gaps.total}")
        passed[f"gaps of {family} not negative"] = not gaps.caution.startswith(
            ("The amortised", "The evidence")
        )
        passed[f"gaps of {family} sum to the total"] = abs(total - gaps.total.mean) < 4 * gaps.total.mc_error
    for sentence, true in passed.items():
        print(f"{'yes' if true else 'NO '}  {sentence}")
    print(
        f"{date.today()}; latentia {lt.__version__}, torch {torch.__version__}; CPU, {os.cpu_count()} cores, "
        f"{options.threads} threads"
    )


def better_of(annealed: Estimate, from_q: Estimate, count: int) -> Estimate:
    """Of two lower bounds of the same images the one that is higher on average."""
    first = annealed[:count]
    return from_q if from_q.mean > first.mean else first


if __name__ == "__main__":
    main()
