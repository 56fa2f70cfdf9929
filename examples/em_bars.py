"""EM in bars: log p(x) = ELBO + KL at every half step.

    log p(x) = E_q[log p(x, z) - log q(z | x)] + KL(q(z | x) || p(z | x)),   for any q

Seen from below, EM climbs one bound in turn: by Jensen's inequality the first term, the ELBO, is at most log
p(x); the E-step raises it over q, as far as it goes, and the M-step over the parameters. Seen from above, it
moves log p(x) itself: the E-step sets q to the posterior, so that the KL is 0 and log p(x) stays; the M-step
raises the ELBO, and since no KL is below 0, log p(x) rises by at least as much. A bar shows both views.

In the lower picture q is held after the second iteration, for three. The M-step then has nothing left to
raise, and the gap between its bound and log p(x) stays open, until an E-step closes it.

The M-step is weighted maximum likelihood of completed data: each row comes once with each component k, and
counts q(k | x) times. Neal & Hinton (1998), "A view of the EM algorithm that justifies incremental, sparse,
and other variants".
"""

from __future__ import annotations

import copy
from pathlib import Path

import cyclopts
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import latentia as lt

HERE = Path("runs/examples/em_bars")
ITERATIONS, COMPONENTS = 7, 3


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit a mixture to iris, with and without q held. budget: a fraction of the full run's iterations."""
    x = torch.as_tensor(lt.load_data("iris").train.batch()["x"]).double()  # [120, 4], standardised
    iterations = max(3, int(ITERATIONS * budget))
    figure = Figure(figsize=(8.4, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    draw(upper, half_steps(x, iterations, held=()), "EM")
    draw(lower, half_steps(x, iterations, held=(3, 4, 5)), "EM with q held for three iterations")
    upper.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "em_bars.png", dpi=160)
    return [out / "em_bars.png"]


def half_steps(x: torch.Tensor, iterations: int, held: tuple[int, ...]) -> list[tuple[str, float, float]]:
    """(step, ELBO, KL) after each E- and M-step, nats per row; no E-step in the iterations `held`."""
    model = lt.models.gaussian_mixture(4, COMPONENTS, covariance=lt.Diagonal(), seed=0).double()
    found, values = [], {"x": x}
    for iteration in range(1, iterations + 1):
        if iteration not in held:
            q = copy.deepcopy(model).q  # E-step: the posterior under the parameters as they are now
        found.append(("held" if iteration in held else "E", *bound_and_kl(model, q, values)))
        weight = q.distributions(values)["k"].probs.detach()  # [N, K]
        completed = {
            "x": x.repeat_interleave(COMPONENTS, 0),
            "k": torch.arange(COMPONENTS).repeat(len(x)),
            "weight": weight.flatten(),
        }
        lt.fit(model, completed, method="em", start="model", steps=1, warm_start=True, progress=False)
        found.append((f"M\n{iteration}", *bound_and_kl(model, q, values)))
    return found


@torch.no_grad()
def bound_and_kl(model: lt.Model, q: lt.Exact, values: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Means over the rows; the KL is computed by itself, from the two posteriors."""
    bound = lt.elbo(model.p, q, values, lt.Noise(0), enumerate=("k",)).value
    held, posterior = (exact.distributions(values)["k"] for exact in (q, model.q))
    kl = (held.probs * (held.logits - posterior.logits)).sum(-1)
    apart = (model.q.log_evidence(values) - bound - kl).abs().max()
    print(f"ELBO {bound.mean():8.4f}   KL {kl.mean():.4f}   largest |log p - ELBO - KL| {apart:.0e}")
    return float(bound.mean()), float(kl.mean())


def draw(ax: Axes, found: list[tuple[str, float, float]], title: str) -> None:
    """Bars from a floor below the lowest bound."""
    steps, bounds, kls = zip(*found, strict=True)
    place, floor = np.arange(len(found)), -7.0
    ax.bar(place, np.array(bounds) - floor, bottom=floor, width=0.75, color="#0072b2", label="ELBO")
    ax.bar(place, kls, bottom=bounds, width=0.75, color="#d55e00", label="KL")
    ax.stairs(np.add(bounds, kls), np.arange(len(found) + 1) - 0.5, baseline=None, color="#222222", lw=1.2)
    ax.plot([], [], color="#222222", lw=1.2, label="log p(x)")
    ax.set_xticks(place, steps)
    ax.set_xlabel("iteration", loc="right")
    ax.set_ylim(floor, -2.4)
    ax.set_ylabel("nats per row")
    ax.set_title(title, loc="left", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
