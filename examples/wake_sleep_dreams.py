"""What a Helmholtz machine dreams, before, during and after wake-sleep.

    wake     z ~ q(z | x) of a digit x,       raise log p(x, z) over theta
    sleep    (x, z) ~ p(x, z), a dream,       raise log q(z | x) over lambda

Two layers of binary units, p(h2) p(h1 | h2) p(x | h1) and q(h1 | x) q(h2 | h1). Given all values the log
probabilities are sums over layers, so each weight is moved by the units at its two ends alone. At first p
dreams noise, and q learns to read noise; as p sees digits through q, its dreams become digits, and q learns
to read those.

The curves are two numbers of held-out digits: the ELBO, which the wake phase climbs over theta, and a
tighter bound, L_100. The sleep phase does not climb the ELBO over lambda: it minimises KL(p(z | x) || q(z |
x)) over dreams, and the lecture's advantages and drawbacks both come from that.

Hinton, Dayan, Frey & Neal (1995), "The wake-sleep algorithm for unsupervised neural networks".
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import latentia as lt

HERE = Path("runs/examples/wake_sleep_dreams")
STAGES = (0, 500, 3_000, 16_000)  # steps after which it dreams
SHOWN = 10


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Train on the digits in stages. budget: a fraction of the full run's steps."""
    digits = lt.load_data("digits", binarise="threshold", seed=0)
    model = lt.models.helmholtz_machine(data=digits, layers=(96, 32), seed=0)
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1))
    rows = left.subplots(len(STAGES) + 1, 1)
    done, curve = 0, []
    for ax, stage in zip(rows, STAGES, strict=False):
        steps = max(1, int(stage * budget)) if stage else 0
        if steps > done:
            lt.fit(
                model,
                digits,
                lt.wake_sleep,
                steps=steps - done,
                lr=2e-3,
                patience=None,
                warm_start=done > 0,
                progress=False,
            )
            done = steps
        with torch.random.fork_rng():
            show(ax, dreams(model), f"{done:,} steps")
        bounds = [
            lt.log_evidence(model, digits.test, m, s).mean for m, s in (("elbo", 100), ("importance", 100))
        ]
        curve.append((done, *bounds))
        print(f"{done:6,} steps: ELBO {bounds[0]:7.2f}, L_100 {bounds[1]:7.2f} nats per held-out digit")
    show(rows[-1], digits.test.batch()["x"][:SHOWN], "digits")
    draw(right.subplots(), curve)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "wake_sleep_dreams.png", dpi=160)
    return [out / "wake_sleep_dreams.png"]


def dreams(model: lt.Model) -> torch.Tensor:
    """The probabilities of the pixels in a few dreams, `[N, 1, 8, 8]`."""
    drawn = model.p.complete({}, lt.Noise(0), batch=SHOWN).values
    return model.p["x"].distribution(*model.p.parents("x", drawn)).mean.detach()[0]


def show(ax: Axes, images: torch.Tensor, label: str) -> None:
    """A row of images."""
    ax.imshow(torch.cat(list(images.reshape(-1, 8, 8)), dim=1).numpy(), cmap="Greys", vmin=0, vmax=1)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_ylabel(label, rotation=0, ha="right", va="center")
    ax.spines[:].set_visible(False)


def draw(ax: Axes, curve: list[tuple[int, float, float]]) -> None:
    """Bounds against steps."""
    steps, elbos, tighter = zip(*curve, strict=True)
    ax.plot(steps, tighter, "o-", color="#d55e00", label="$L_{100}$")
    ax.plot(steps, elbos, "o-", color="#0072b2", label="ELBO")
    ax.set_xscale("symlog", linthresh=100)
    ax.set_xlabel("steps")
    ax.set_title("Held-out digits, nats each", loc="left", fontsize=11)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
