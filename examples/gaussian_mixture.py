"""A mixture of Gaussians, fitted by EM and by gradient ascent with three kinds of q.

    p(x, k) = Categorical(k; pi) N(x; mu_k, Sigma_k),     q(k | x) = p(k | x), or a q of its own

EM: in the E-step q is the posterior, by Bayes' rule; the M-step sets pi, mu_k and Sigma_k to weighted counts,
means and covariances.

The same p may climb the ELBO by stochastic gradients, with a q to be learnt. The gap log p(x) - ELBO =
KL(q || p(k | x)) has two sources. The family of q may not hold the posterior: here it does, so a q for each
row by itself (per-datum) closes the gap. And one function for all rows (amortised) may not reach each row's
best q: the log odds of Gaussians are quadratic in x, and a linear map stays behind. It even costs likelihood,
because p bends towards posteriors that q can express.

Dempster, Laird & Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm"; Cremer, Li &
Duvenaud (2018), "Inference suboptimality in variational autoencoders".
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import latentia as lt
from latentia.posteriors import fit_posteriors

HERE = Path("runs/examples/gaussian_mixture")
MIXES = [[[1.5, 0.0], [0.9, 0.4]], [[0.4, 0.0], [0.0, 1.4]], [[0.5, 0.0], [-0.8, 0.4]]]
MEANS = [[-1.6, -1.4], [0.4, 1.6], [1.6, -1.2]]


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit by EM and by ascent, compare the gaps. budget: a fraction of the full runs' steps."""
    train, test = drawn(600, seed=0), drawn(400, seed=1)
    figure = Figure(figsize=(11.5, 6.0), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.4, 1))
    axes = upper.subplots(1, 4, sharex=True, sharey=True)
    upper.suptitle("EM; log p(x) in nats per training row", x=0.03, ha="left", fontsize=11)
    model = lt.models.gaussian_mixture(2, 3, seed=0)
    ellipses(axes[0], model, train, "Start")
    for ax, more, name in zip(
        axes[1:], (1, 4, 500), ("Iteration 1", "Iteration 5", "Converged"), strict=True
    ):
        lt.fit(model, train, steps=more, start="model", warm_start=True, progress=False)
        ellipses(ax, model, train, name)
    found = {"EM: the exact q": evidence_and_bound(model, test)}
    for name, hidden in (("network", (32,)), ("linear map", ())):
        p = lt.models.gaussian_mixture(2, 3, seed=0).p
        torch.manual_seed(0)
        ascended = lt.Model(p, lt.Joint(k=lt.Categorical(lt.MLP(2, 3, hidden), given="x")))
        steps = max(1, int(1500 * budget))
        lt.fit(ascended, train, lt.elbo, enumerate=("k",), steps=steps, lr=0.05, schedule="cosine")
        found[f"Ascent: q by a {name}"] = evidence_and_bound(ascended, test)
    per_row = fit_posteriors(ascended, test, steps=max(1, int(1500 * budget)))
    found["Its p, a q for each row"] = evidence_and_bound(per_row, test)
    dumbbells(lower.subplots(), found)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "gaussian_mixture.png", dpi=160)
    return [out / "gaussian_mixture.png"]


def drawn(n: int, seed: int) -> Tensor:
    """Rows from three Gaussians, [n, 2]."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.randint(3, (n,), generator=generator)
    noise = torch.randn(n, 2, 1, generator=generator)
    return torch.tensor(MEANS)[k] + (torch.tensor(MIXES)[k] @ noise).squeeze(-1)


@torch.no_grad()
def evidence_and_bound(model: lt.Model, x: Tensor) -> tuple[float, float]:
    """Means of log p(x) and the ELBO over the rows, k summed over in both."""
    values = {"x": x, "row": torch.arange(len(x))}
    bound = lt.elbo(model.p, model.q, values, lt.Noise(0), enumerate=("k",)).value
    return float(lt.Exact(model.p).log_evidence({"x": x}).mean()), float(bound.mean())


@torch.no_grad()
def ellipses(ax: Axes, model: lt.Model, x: Tensor, title: str) -> None:
    """The components at one and two standard deviations; the rows' colours are mixed by p(k | x)."""
    lt.plots.MixtureDisplay.from_model(model, x).plot(ax)
    ax.get_legend().remove()
    ax.collections[0].set(sizes=[8], alpha=0.45)  # the points
    evidence = f"log p(x) = {model.q.log_evidence({'x': x}).mean():.3f}"
    ax.set_title(f"{title}: {evidence}".replace("-", "\N{MINUS SIGN}"), loc="left", fontsize=10)
    ax.label_outer()


def dumbbells(ax: Axes, found: dict[str, tuple[float, float]]) -> None:
    """log p(x) and the ELBO of each fit, and the gap between."""
    for place, (name, (evidence, bound)) in enumerate(found.items()):
        print(f"{name}: log p(x) = {evidence:.4f}, gap = {evidence - bound:.4f}")
        ax.plot([bound, evidence], [place, place], color="#bbbbbb", lw=3, zorder=0)
        ax.plot(bound, place, "|", color="#0072b2", ms=16, mew=2.5, label="ELBO" if not place else None)
        ax.plot(evidence, place, "o", color="#222222", ms=6, label="log p(x)" if not place else None)
        gap = f"gap {evidence - bound:.4f}"
        ax.annotate(gap, (evidence, place), (9, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(found)), found)
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.margins(x=0.15)
    ax.set_xlabel("nats per test row")
    ax.legend(frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
