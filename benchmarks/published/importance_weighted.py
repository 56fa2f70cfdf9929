"""Importance-weighted autoencoders on dynamically binarised MNIST (Burda et al. 2016), on a shorter schedule.

    OMP_NUM_THREADS=1 python -m benchmarks.published.importance_weighted 50 --compile yes     # k in training

One stochastic layer, z = 50; two tanh layers of 200 each way; Adam (beta1 .9, eps 1e-4), batch 20; output
bias at the logit of the pixel mean, 60,000 training images binarised anew at each presentation. Burda's rate
is 1e-3 * 10^(-i/7) for 3^i epochs, i = 0..7: 3,280 epochs. Here the same eight rates last an eighth of
`--epochs` each. The 10,000 test images are binarised once, by one seed. k = 1 is the VAE. Published -L_5000:
86.76 (k = 1), 85.54 (5), 84.78 (50).
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

import latentia as lt

from .vae_static_mnist import DATA

BATCH = 20
PUBLISHED = {1: "86.76, 19 active units", 5: "85.54, 22 active units", 50: "84.78, 25 active units"}


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Grey images [N, 1, 28, 28], to train on and to test; leaves with a line where the file is absent."""
    path = DATA / "mnist.npz"
    if not path.exists():
        sys.exit(f"skipped: {path} is not there; set LATENTIA_DATA to the folder that holds mnist.npz")
    with np.load(path) as file:
        return file["x_train"].reshape(-1, 1, 28, 28), file["x_test"].reshape(-1, 1, 28, 28)


def ladder(steps: int) -> dict[int, float]:
    """The factor 10^(-i/7) on the rate from each eighth of the run on."""
    return {i * steps // 8: 10 ** (-i / 7) for i in range(8)}


def adam(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-4, fused=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("k", type=int, choices=PUBLISHED, help="draws per image in training")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--rows", type=int, default=10_000, help="test images that L_5000 is of")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", default="auto", choices=["auto", "yes", "no"])
    parser.add_argument("--out", type=Path, help="run folder, to resume and to keep the model")
    arguments = parser.parse_args()
    train, test = mnist()
    data = lt.load_data(train, split=(1.0, 0.0, 0.0), binarise="dynamic")
    model = lt.models.vae(
        data.event_shape,
        latent=50,
        hidden=(200, 200),
        activation="tanh",
        likelihood="bernoulli",
        seed=arguments.seed,
    )
    mean = torch.as_tensor(train / 255, dtype=torch.float32).mean(0).flatten().clamp(1e-3, 1 - 1e-3)
    with torch.no_grad():
        model.p["x"].net.layers[-1].bias.copy_(torch.logit(mean))
    steps = arguments.epochs * len(train) // BATCH
    started = time.perf_counter()
    run = lt.fit(
        model,
        data,
        lt.iwae,
        samples=arguments.k,
        steps=steps,
        batch=BATCH,
        optimizer=adam,
        schedule=ladder(steps),
        seed=arguments.seed,
        device=arguments.device,
        compile={"auto": "auto", "yes": True, "no": False}[arguments.compile],
        patience=None,
        out=arguments.out,
        resume=arguments.out is not None and arguments.out.exists(),
    )
    fitted = time.perf_counter()
    uniform = torch.rand(test.shape, generator=torch.Generator().manual_seed(0))
    binary = (uniform < torch.as_tensor(test / 255)).float()[: arguments.rows]
    model.schema = None  # the test images are taken as they are
    bound = lt.log_evidence(model, binary, "importance", 5000)
    active, units = lt.diagnostics.count_active(lt.diagnostics.active_units(model, binary))
    print(f"k = {arguments.k}: published -L_5000 {PUBLISHED[arguments.k]}, after 3,280 epochs")
    print(
        f"-L_5000 = {-bound.mean:.3f} nats per image (standard errors: Monte Carlo {bound.mc_error:.3f}, "
        f"rows {bound.se:.3f}), an upper bound on -log p(x); {len(binary):,} test images; {active} of "
        f"{units} units active"
    )
    length = f"{arguments.epochs} epochs, {run.steps:,} steps of batch {BATCH}"
    print(f"{length}, seed {arguments.seed}; {run.executor}")
    if arguments.out is not None:
        np.save(arguments.out / "l5000.npy", bound.values.cpu().numpy())
    print(
        f"{date.today()}; latentia {lt.__version__}, torch {torch.__version__}; {torch.get_num_threads()} "
        f"threads; fit {fitted - started:.0f} s, evaluation {time.perf_counter() - fitted:.0f} s"
    )


if __name__ == "__main__":
    main()
