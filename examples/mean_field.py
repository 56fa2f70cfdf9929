"""What mean field costs: PPCA turned in its latent plane, with a q for each row.

    max over m_n, S_n of E_q[log p(x_n, z) - log q(z)],     q(z) = N(z; m_n, S_n), S_n diagonal or full

A rotation of z changes neither p(z) nor p(x), so all PPCAs W R are the same model of x. But their posteriors
turn, N(z; m, P^-1) with precision P = I + R^T W^T W R / sigma^2, and a product q(z_1) q(z_2) cannot turn
along. The best of mean field has the posterior's mean and the precisions P_11 and P_22 alone, so it is too
narrow, and its gap is

    KL(q || p(z | x)) = 1/2 (log P_11 + log P_22 - log det P),

zero where the columns of W are orthogonal, as they are in the closed form. With a full covariance per row the
family holds the posterior, and the gap is zero at every angle. Each held-out row is given parameters of its
own, and they are optimised with p held still.

Bishop (2006), "Pattern recognition and machine learning", section 10.1.2.
"""

from __future__ import annotations

import math
from pathlib import Path

import cyclopts
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import latentia as lt
from latentia.posteriors import fit_posteriors

HERE = Path("runs/examples/mean_field")
ANGLES = (0, 15, 30, 45, 60, 75, 90)
FAMILIES = {"diagonal": (lt.Diagonal(), "#d55e00", "s"), "full": (lt.Full(), "#0072b2", "o")}


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Turn PPCA of iris, and fit q to held-out flowers. budget: a fraction of the full runs' steps."""
    iris = lt.load_data("iris")
    x, test = (rows.batch()["x"].double() for rows in (iris.train, iris.test))  # standardised
    model = lt.models.ppca(x.shape[1], 2).double()
    lt.fit(model, x, progress=False)  # in closed form: see ppca.py
    weight = model.p["x"].weight.detach().clone()
    figure = Figure(figsize=(10.5, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    found: dict[str, list[float]] = {name: [] for name in FAMILIES}
    for angle in ANGLES:
        turn(model, weight, angle)
        evidence = lt.log_evidence(model, test).mean
        for name, (covariance, colour, _) in FAMILIES.items():
            fitted = fit_posteriors(model, test, covariance, steps=max(1, int(600 * budget)))
            found[name].append(evidence - bound(fitted, test))
            print(
                f"{angle:2d} degrees, {name}: gap = {found[name][-1]:.3f}, theory {theory(model, name):.3f}"
            )
            if angle == 45:
                ellipses(
                    left, fitted.posterior({"x": test, "row": torch.arange(len(test))}), colour, f"q, {name}"
                )
    turn(model, weight, 45)
    ellipses(left, model.posterior(test), "#222222", "posterior", dashed=True)
    draw_gaps(right, model, weight, found)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "mean_field.png", dpi=160)
    return [out / "mean_field.png"]


@torch.no_grad()
def turn(model: lt.Model, weight: Tensor, degrees: float) -> None:
    """W R in the place of W."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    model.p["x"].weight.copy_(weight @ torch.tensor([[cosine, -sine], [sine, cosine]]).to(weight))


@torch.no_grad()
def bound(model: lt.Model, x: Tensor) -> float:
    """The mean ELBO of the rows. Without the closed-form KL it has no Monte Carlo error at the posterior."""
    values = {"x": x, "row": torch.arange(len(x))}
    value = lt.elbo(model.p, model.q, values, lt.Noise(0), samples=400, analytic=False).value
    return float(value.mean())


@torch.no_grad()
def theory(model: lt.Model, family: str) -> float:
    """The gap of the best q of the family, in nats; the same for all rows."""
    weight, noise = model.p["x"].weight, model.p["x"].scale.square()
    precision = torch.eye(2) + weight.T @ weight / noise
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    return float(gap) if family == "diagonal" else 0.0


@torch.no_grad()
def ellipses(
    ax: Axes, q: torch.distributions.Distribution, colour: str, label: str, dashed: bool = False
) -> None:
    """The 90 percent ellipses of some rows' Gaussians."""
    angle = torch.linspace(0, 2 * math.pi, 100).double()
    circle = math.sqrt(-2 * math.log(0.1)) * torch.stack([angle.cos(), angle.sin()])
    scale = getattr(q, "scale_tril", None)
    scale = torch.diag_embed(q.stddev) if scale is None else scale.expand(*q.mean.shape, 2)
    for row in range(0, 15, 3):
        x, y = q.mean[row].unsqueeze(1) + scale[row] @ circle
        ax.plot(x, y, color=colour, lw=1.3, ls="--" if dashed else "-", label=None if row else label)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel("$z_1$")
    ax.set_ylabel("$z_2$")
    ax.set_title("Five flowers at 45 degrees: 90 % of q(z | x)", loc="left", fontsize=11)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def draw_gaps(ax: Axes, model: lt.Model, weight: Tensor, found: dict[str, list[float]]) -> None:
    """The gaps that were found at each angle, upon the curves of theory."""
    degrees = torch.linspace(0, 90, 91).tolist()
    for name, (_, colour, marker) in FAMILIES.items():
        curve = []
        for angle in degrees:
            turn(model, weight, angle)
            curve.append(theory(model, name))
        ax.plot(degrees, curve, color=colour, lw=1.2)
        ax.plot(ANGLES, found[name], marker, color=colour, ms=6, label=f"{name} covariance", clip_on=False)
    ax.set_xticks(ANGLES)
    ax.set_xlabel("turned by, degrees")
    ax.set_ylabel("nats per flower")
    ax.set_title("The gap, found (points) and in theory (lines)", loc="left", fontsize=11)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
