"""Probabilistic PCA, three ways to one maximum.

    p(x, z) = N(z; 0, I) N(x; W z + b, sigma^2 I),     p(x) = N(x; b, W W^T + sigma^2 I)

Everything is Gaussian, so the posterior is too, and the maximum of the likelihood is known in closed form:
sigma^2 is the mean of the D - M smallest eigenvalues of the data's covariance, and W spans the eigenvectors
of the others, W W^T + sigma^2 I having the same M largest eigenvalues. EM from a random W gets there by
alternating regressions of z on x and of x on z. So does gradient ascent of the ELBO with the exact q, whose
gap is 0 at every draw of z: it is ascent of log p(x) itself.

The pictures show how far each is from the maximum, and the spectrum: what PPCA keeps of the covariance's
eigenvalues, and what it averages into sigma^2.

Tipping & Bishop (1999), "Probabilistic principal component analysis", equations 7 and 8.
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import latentia as lt

HERE = Path("runs/examples/ppca")
LATENT = 10


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit the digits in three ways, and compare. budget: a fraction of the full runs' steps."""
    digits = lt.load_data("digits", split=(1.0, 0.0, 0.0))
    x = digits.train.batch()["x"].double().flatten(1)  # [1797, 64], grey values from 0 to 1
    closed, em, ascent = (lt.models.ppca(x.shape[1], LATENT, seed=0).double() for _ in range(3))
    lt.fit(closed, x, progress=False)  # EM starts at the principal axes, and finds that it has arrived
    steps = max(1, int(600 * budget))
    climb = {"batch": len(x), "lr": 0.02, "schedule": "cosine", "report_every": 1, "progress": False}
    curves = {
        "EM from a random start": lt.fit(em, x, start="random", steps=steps, tol=1e-12, progress=False),
        "Gradient ascent": lt.fit(ascent, x, lt.elbo, steps=steps, **climb),
    }
    for name, model in zip(("Closed form", *curves), (closed, em, ascent), strict=True):
        noise = float(model.p["x"].scale.detach().square())
        print(f"{name}: log p(x) = {lt.log_evidence(model, x).mean:.4f}, sigma^2 = {noise:.6f}")
    figure = Figure(figsize=(10.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_curves(left, curves, lt.log_evidence(closed, x).mean)
    lt.plots.SpectrumDisplay.from_model(closed, x).plot(right)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "ppca.png", dpi=160)
    return [out / "ppca.png"]


def draw_curves(ax: Axes, curves: dict[str, lt.Run], maximum: float) -> None:
    """Nats below the maximum, step by step."""
    for (name, run), colour in zip(curves.items(), ("#0072b2", "#d55e00"), strict=True):
        steps, bounds = zip(*((record["step"], record["bound"]) for record in run.history), strict=True)
        ax.loglog(steps, [max(maximum - bound, 1e-9) for bound in bounds], color=colour, lw=1.5, label=name)
    ax.set_ylim(bottom=1e-6)
    ax.set_xlabel("iteration, or step")
    ax.set_ylabel("nats per digit below the maximum")
    ax.set_title("The way to the maximum", loc="left", fontsize=11)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
