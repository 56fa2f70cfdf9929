"""Steps of the estimators for binary latents, and their ratio to a hand-written loop of the same estimator.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.discrete

A sigmoid belief net 200-784 with the recognition net 784-200, batch 50, Adam, one thread, float32, processor
time in interleaved rounds. VIMCO has 50 samples. Each is measured eager and compiled, both loops by
torch.compile; `fit` compiles by itself where a run is long enough to gain by it. The eager ones come first:
ours lost some hundredths where compiled loops had run before in the same process.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from datetime import date
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import latentia as lt
from latentia.learn.ascent import Plan, Progress, ascend
from latentia.learn.engine import build_engine
from latentia.schedules import learning_rate

ROUNDS, STEPS, BATCH, PIXELS, BITS, SAMPLES = 21, 40, 50, 784, 200, 50
ENDLESS = 10**9


class HandWritten(nn.Module):
    """The nets of a belief net and log p and log q as a tutorial writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = nn.Parameter(torch.zeros(BITS))
        self.decoder, self.encoder = nn.Linear(BITS, PIXELS), nn.Linear(PIXELS, BITS)
        self.baseline = nn.Sequential(nn.Linear(PIXELS, 100), nn.Tanh(), nn.Linear(100, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.zeros(()))

    def log_p(self, x: Tensor, z: Tensor) -> Tensor:
        likelihood = log_bernoulli(self.decoder(z), x)
        return likelihood + log_bernoulli(self.prior, z)

    def wake_sleep(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = torch.bernoulli(torch.sigmoid(self.encoder(x)))
            dream = torch.bernoulli(torch.sigmoid(self.prior).expand(len(x), -1))
            fantasy = torch.bernoulli(torch.sigmoid(self.decoder(dream)))
        return -(self.log_p(x, z) + log_bernoulli(self.encoder(fantasy), dream)).mean()

    def nvil(self, x: Tensor) -> Tensor:
        logits = self.encoder(x)
        z = torch.bernoulli(torch.sigmoid(logits.detach()))
        log_p, log_q = self.log_p(x, z), log_bernoulli(logits, z)
        guess = self.baseline(x).squeeze(-1)
        left = (log_p - log_q - guess).detach()
        scale = self.variance.sqrt().clamp(min=1)
        signal = (left - self.mean) / scale
        self.mean.lerp_(left.mean(), 0.2)
        self.variance.lerp_(left.var(correction=0), 0.2)
        return -(log_p + signal * log_q + signal * guess).mean()

    def vimco(self, x: Tensor, uniform: Tensor | None = None) -> Tensor:
        logits = self.encoder(x)
        uniform = torch.rand(SAMPLES, *logits.shape) if uniform is None else uniform
        z = (uniform < torch.sigmoid(logits)).to(logits.dtype)
        log_q = log_bernoulli(logits, z)
        log_w = self.log_p(x, z) - log_q  # [K, B]
        bound = torch.logsumexp(log_w, 0) - math.log(SAMPLES)
        with torch.no_grad():
            others = (log_w.sum(0) - log_w) / (SAMPLES - 1)
            replaced = log_w.unsqueeze(0) + torch.diag_embed((others - log_w).mT).permute(1, 2, 0)
            signal = bound - torch.logsumexp(replaced, 1) + math.log(SAMPLES)
        return -(bound + (signal * log_q).sum(0)).mean()

    def disarm(self, x: Tensor) -> Tensor:
        logits = self.encoder(x)
        uniform = torch.rand_like(logits)
        pi = torch.sigmoid(logits.detach())
        z = torch.stack([uniform < pi, 1 - uniform < pi]).to(logits.dtype)
        log_p = self.log_p(x, z)
        f = log_p.detach() - log_bernoulli(logits.detach(), z)
        weight = 0.5 * (f[0] - f[1]).unsqueeze(-1) * (z[0] - z[1]) * torch.sigmoid(logits.detach().abs())
        return -(log_p.mean(0) + (weight * logits).sum(-1)).mean()


def log_bernoulli(logits: Tensor, value: Tensor) -> Tensor:
    return (value * logits - F.softplus(logits)).sum(-1)


def images() -> Tensor:
    """Bits as dense as MNIST's."""
    return (torch.rand(5000, PIXELS, generator=torch.Generator().manual_seed(0)) < 0.13).float()


def hand_written(name: str, compiled: bool = False) -> Callable[[], None]:
    torch.manual_seed(0)
    net, x = HandWritten(), images()
    loss_of = getattr(net, name)
    used = [w for n, w in net.named_parameters() if name == "nvil" or not n.startswith("baseline")]
    optimiser = torch.optim.Adam(used, lr=5e-4, fused=True)
    if compiled:
        loss_of = torch.compile(loss_of, dynamic=False)

    def run() -> None:
        for _ in range(STEPS):
            batch = x[torch.randint(len(x), (BATCH,))]
            optimiser.zero_grad()
            noise = (torch.rand(SAMPLES, BATCH, BITS),) if compiled and name == "vimco" else ()
            loss_of(batch, *noise).backward()
            optimiser.step()

    return run


def ours(name: str, compiled: bool = False) -> Callable[[], None]:
    """The loop that `fit` runs."""
    data = lt.load_data(images(), split=(1.0, 0.0, 0.0))
    model = lt.Model(
        lt.Joint(z=lt.Bernoulli(lt.Constant(BITS)), x=lt.Bernoulli(lt.MLP(BITS, PIXELS), given="z")),
        lt.Joint(z=lt.Bernoulli(lt.MLP(PIXELS, BITS), given="x")),
    )
    model.schema = data.train.schema
    objective = lt.nvil(model) if name == "nvil" else getattr(lt, name)
    keywords: dict[str, Any] = {"samples": SAMPLES} if name == "vimco" else {}
    engine = build_engine(
        model,
        objective,
        keywords,
        optimizer="adam",
        lr=5e-4,
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
    names = ("wake_sleep", "nvil", "disarm", "vimco")
    tasks = [(name, compiled) for compiled in (False, True) for name in names]  # eager steps come first
    print(f"{date.today()}, torch {torch.__version__}, 1 thread, medians of {ROUNDS} rounds of {STEPS} steps")
    for name, compiled in tasks:
        pair = (hand_written(name, compiled), ours(name, compiled))
        taken: list[list[float]] = []
        for _ in range(ROUNDS + 1):
            round_ = []
            for run in pair:
                start = time.process_time()
                run()
                round_.append((time.process_time() - start) / STEPS * 1e6)
            taken.append(round_)
        theirs, mine = (statistics.median(column) for column in zip(*taken[1:], strict=True))
        ratio = statistics.median(b / a for a, b in taken[1:])
        label = f"{name}, compiled" if compiled else name
        print(f"{label:20} by hand {theirs:7.0f} us a step, ours {mine:7.0f} us   {ratio:.2f} x")


if __name__ == "__main__":
    main()
