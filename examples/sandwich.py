"""The sandwich: log p(x) between annealed importance sampling and its reverse.

    E[AIS] <= log p(x) <= E[reverse AIS]

Annealing walks from an f_0 that one can draw from to p(x, z), by way of distributions f_0^(1 - b) p(x, z)^b
with b from 0 to 1 in T steps, and multiplies up what each step gains. The product has mean p(x), so that its
logarithm is too small on average. Walked backward, from an exact draw of p(z | x) to f_0, it has mean 1 /
p(x), and minus the logarithm is too large. Both errors vanish as T grows. On average neither is wrong by more
than what lies between them, and to say so nobody need know log p(x).

Exact draws of p(z | x) come with data that are simulated from the model, each x with the z that made it, and
with no others: only there is an upper bound. What is learnt there, that so many steps suffice, is then used
on real data.

Left, probabilistic PCA, so that log p(x) is known. Right, a VAE, where it is not; walks that begin at
q(z | x) need far fewer steps. At each T importance sampling, L_K, evaluates p(x, z) about as often as AIS
does, its tuning left out.

Neal (2001), "Annealed importance sampling"; Grosse, Ghahramani & Adams (2015), "Sandwiching the marginal
likelihood using bidirectional Monte Carlo"; Wu, Burda, Salakhutdinov & Grosse (2017).
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from sklearn.datasets import load_digits
from torch import Tensor

import latentia as lt
from latentia.evidence.bdmc import simulated

HERE = Path("runs/examples/sandwich")
DISTRIBUTIONS = (4, 8, 16, 32, 64, 128)
ROWS, CHAINS, LEAPFROGS = 32, 8, 10
BLUE, GREEN, ORANGE, BLACK = "#0072b2", "#009e73", "#d55e00", "#222222"


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Bound the evidence of PPCA and of a VAE. budget: a fraction of the full run's steps."""
    data = lt.load_data(load_digits().data / 16)
    linear = lt.models.ppca(data=data, latent=10)
    lt.fit(linear, data, progress=False)
    deep = lt.models.vae(data=data, latent=10, hidden=(100,), seed=0)
    lt.fit(deep, data, lt.elbo, steps=max(1, int(1500 * budget)), lr=2e-3, schedule="cosine")
    counts = sorted({max(2, int(count * budget)) for count in DISTRIBUTIONS})
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    known = lt.log_evidence(linear, rows_of(linear), "exact")
    print(known)
    left.axhline(known.mean, color=BLACK, lw=1.2, label="log p(x)")
    funnel(left, linear, "prior", BLUE, counts)
    weighing(left, linear, "naive", counts)
    funnel(right, deep, "prior", BLUE, counts)
    funnel(right, deep, "q", GREEN, counts)
    weighing(right, deep, "importance", counts)
    for ax, name in ((left, "PPCA"), (right, "VAE")):
        ax.set_title(f"{name}, {ROWS} rows simulated from it", loc="left", fontsize=11)
        ax.set_xscale("log", base=2)
        ax.set_xticks(counts, counts)
        ax.yaxis.set_major_locator(MultipleLocator(5))
        ax.set_xlabel("intermediate distributions T")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    left.set_ylabel("nats per row")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "sandwich.png", dpi=160)
    return [out / "sandwich.png"]


def rows_of(model: lt.Model) -> Tensor:
    """The rows that lt.bdmc simulates with seed 0."""
    return simulated(model, ROWS, lt.Noise(0, model.device, model.dtype))[0]["x"]


def funnel(ax: Axes, model: lt.Model, start: str, colour: str, counts: list[int]) -> None:
    """The bounds from both sides against the number of distributions."""
    lower, upper = [], []
    for count in counts:
        found = lt.bdmc(model, ROWS, chains=CHAINS, start=start, distributions=count, leapfrogs=LEAPFROGS)
        print(f"T = {count}, from {start}: {found}")
        lower.append(found.lower.mean)
        upper.append(found.upper.mean)
    ax.fill_between(counts, lower, upper, color=colour, alpha=0.12, linewidth=0)
    ax.plot(counts, upper, color=colour, marker="v", label=f"reverse AIS, to {start}")
    ax.plot(counts, lower, color=colour, marker="^", label=f"AIS, from {start}")


def weighing(ax: Axes, model: lt.Model, method: str, counts: list[int]) -> None:
    """L_K with as many evaluations of p(x, z); those for gradients are not counted twice."""
    bounds = []
    for count in counts:
        bounds.append(lt.log_evidence(model, rows_of(model), method, CHAINS * (LEAPFROGS + 2) * count))
        print(bounds[-1])
    label = "$L_K$, " + ("K draws from the prior" if method == "naive" else "K draws from q")
    ax.plot(counts, [bound.mean for bound in bounds], color=ORANGE, marker="o", ms=4, label=label)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
