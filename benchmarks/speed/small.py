"""Steps so small that dispatch dominates: microseconds a step, and the ratio to a hand-written loop.

    python -m benchmarks.speed.small

A VAE 64-400-8 on the embedded digits, batch 128, Adam, one thread, float32, in interleaved rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import date
from itertools import islice

import torch
from torch import nn
from torch.nn import functional as F

import latentia as lt
from latentia.learn.ascent import Plan, Progress, ascend
from latentia.learn.engine import build_engine
from latentia.schedules import learning_rate

ROUNDS, STEPS, BATCH, LATENT, HIDDEN = 7, 400, 128, 8, 400
ENDLESS = 10**9


def hand_written(x: torch.Tensor) -> Callable[[], None]:
    """The loop of a tutorial on a resident tensor."""
    layers = [
        nn.Linear(a, b) for a, b in ((64, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, 64))
    ]
    optimiser = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=1e-3, fused=True)

    def run() -> None:
        for _ in range(STEPS):
            batch = x[torch.randint(len(x), (BATCH,))]
            mean, raw = layers[1](torch.relu(layers[0](batch))).chunk(2, dim=1)
            scale = F.softplus(raw)
            z = mean + scale * torch.randn_like(scale)
            logits = layers[3](torch.relu(layers[2](z)))
            reconstruction = F.binary_cross_entropy_with_logits(logits, batch, reduction="none").sum(1)
            kl = 0.5 * (mean.square() + scale.square() - 1 - 2 * scale.log()).sum(1)
            loss = (reconstruction + kl).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return run


def ours(compiled: bool) -> Callable[[], None]:
    """The loop that `fit` runs."""
    data = lt.load_data("digits", binarise="threshold", split=(1.0, 0.0, 0.0))
    model = lt.models.vae(data=data, latent=LATENT, hidden=(HIDDEN,))
    engine = build_engine(
        model,
        lt.elbo,
        {},
        optimizer="adam",
        lr=1e-3,
        schedule=learning_rate("constant", ENDLESS),
        clip=None,
        alternate=False,
        bf16=False,
        seed=0,
    )
    values = model.batch(data.train, torch.arange(BATCH))
    engine.probe(values)
    if compiled and (reason := engine.compile(values)):
        raise RuntimeError(reason)
    progress = Progress()

    def run() -> None:
        plan = Plan(progress.step + STEPS + 1, BATCH, ENDLESS, STEPS, ENDLESS, None)
        for _ in islice(ascend(engine, data.train, None, plan, progress), STEPS):
            pass

    return run


def main() -> None:
    torch.set_num_threads(1)
    x = lt.load_data("digits", binarise="threshold", split=(1.0, 0.0, 0.0)).train.batch()["x"].flatten(1)
    contestants = {
        "hand-written loop": hand_written(x),
        "ours eager": ours(False),
        "ours compiled": ours(True),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(ROUNDS + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if round_:
                times[name].append((time.perf_counter() - start) / STEPS * 1e6)
    print(f"{date.today()}, torch {torch.__version__}, 1 thread, medians of {ROUNDS} rounds of {STEPS} steps")
    for name, taken in times.items():
        ratio = statistics.median(t / h for t, h in zip(taken, times["hand-written loop"], strict=True))
        print(f"{name:18} {statistics.median(taken):8.0f} us a step   {ratio:.2f} x the hand-written loop")


if __name__ == "__main__":
    main()
