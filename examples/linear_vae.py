"""The linear VAE is probabilistic PCA, and collapses where PPCA does.

    p(x | z) = N(x; W z + b, sigma^2 I),     q(z | x) = N(z; V x + c, diag s^2)

The posterior of this p is Gaussian with a mean linear in x and one covariance for all x. A linear encoder
holds it, once the columns of W are orthogonal, which a rotation of z makes them at no cost. So at the
optimum the gap is 0: the ELBO reaches the log-likelihood of PPCA and never passes it, sigma^2 is the mean of
the eigenvalues left out, and W spans the principal axes.

Along an axis of variance lambda the KL is then 1/2 log(lambda / sigma^2). Where sigma^2 is held above lambda
the axis is worth nothing: its dimension of z collapses, q(z_d | x) = p(z_d), in PPCA's own optimum too. The
collapse is no fault of the ELBO; here sigma^2 is held between the fourth and the fifth eigenvalue.

Lucas, Tucker, Grosse & Norouzi (2019), "Don't blame the ELBO! A linear VAE perspective on posterior
collapse".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cyclopts
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import latentia as lt

HERE = Path("runs/examples/linear_vae")
LATENT, KEPT = 10, 4


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit PPCA and linear VAEs to the digits, compare. budget: a fraction of the full runs' steps."""
    digits = lt.load_data("digits", split=(1.0, 0.0, 0.0))
    x = digits.train.batch()["x"].double().flatten(1)  # [1797, 64], grey values from 0 to 1
    size = x.shape[1]
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    ppca = lt.models.ppca(size, LATENT).double()
    lt.fit(ppca, x, progress=False)  # in closed form: see ppca.py
    maximum, noise = lt.log_evidence(ppca, x).mean, float(ppca.p["x"].scale.detach().square())

    linear = lt.models.linear_vae(size, LATENT, seed=0).double()
    adam = partial(torch.optim.Adam, lr=0.05, betas=(0.9, 0.95))
    climb = {"optimizer": adam, "schedule": "cosine", "report_every": 20, "progress": False}
    run = lt.fit(linear, x, lt.elbo, steps=max(1, int(2200 * budget)), batch=len(x), **climb)
    bound = lt.log_evidence(linear, x, "elbo", samples=max(2, int(200 * budget)))
    decoder = linear.p["x"]
    learnt = float(decoder.distribution(torch.zeros(1, LATENT).double()).base_dist.scale.detach()[0, 0]) ** 2
    angles = principal_angles(decoder.net.layers[0].weight.detach(), ppca.p["x"].weight.detach())
    print(f"PPCA: log p(x) = {maximum:.4f}, sigma^2 = {noise:.6f}")
    print(f"Linear VAE: ELBO = {bound.mean:.4f} +- {bound.mc_error:.4f}, sigma^2 = {learnt:.6f}")
    print(f"  the error is Monte Carlo's; its own log p(x) = {lt.log_evidence(linear, x, 'exact').mean:.4f}")
    print(f"  largest angle between the two subspaces: {angles.max():.2f} degrees")

    held = float(eigenvalues[KEPT - 1 : KEPT + 1].prod().sqrt())
    torch.manual_seed(0)
    likelihood = lt.Normal(lt.MLP(LATENT, size), given="z", scale=held**0.5)
    q = lt.Joint(z=lt.Normal(lt.MLP(size, 2 * LATENT), given="x"))
    collapsed = lt.Model(lt.Joint(z=lt.StandardNormal(LATENT), x=likelihood), q).double()
    lt.fit(collapsed, x, lt.elbo, steps=max(1, int(1500 * budget)), batch=256, **climb)

    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_bounds(left, run, maximum)
    for model, variance, colour, label in (
        (linear, learnt, "#0072b2", f"learnt, {learnt:.4f}"),
        (collapsed, held, "#d55e00", f"held at {held:.4f}"),
    ):
        draw_kl(right, lt.diagnostics.kl_per_dimension(model, x), eigenvalues, variance, colour, label)
    right.legend(title=r"$\sigma^2$; circles: theory", frameon=False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "linear_vae.png", dpi=160)
    return [out / "linear_vae.png"]


def principal_angles(one: Tensor, other: Tensor) -> Tensor:
    """The angles between the column spaces of two matrices, in degrees."""
    cosines = torch.linalg.svdvals(torch.linalg.qr(one).Q.T @ torch.linalg.qr(other).Q)
    return torch.rad2deg(torch.acos(cosines.clamp(max=1)))


def draw_bounds(ax: Axes, run: lt.Run, maximum: float) -> None:
    """The ELBO during the fit, by one draw per digit."""
    steps, bounds = zip(*((record["step"], record["bound"]) for record in run.history), strict=True)
    ax.axhline(maximum, color="#222222", lw=1.2, ls="--", label="log p(x) of PPCA")
    ax.plot(steps, bounds, color="#0072b2", lw=1.5, label="ELBO of the linear VAE")
    ax.set_ylim(maximum - 4, maximum + 0.5)
    ax.set_xlabel("step")
    ax.set_ylabel("nats per digit")
    ax.set_title("The bound reaches PPCA's likelihood", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)


def draw_kl(ax: Axes, kl: Tensor, eigenvalues: Tensor, variance: float, colour: str, label: str) -> None:
    """KL of each dimension, largest first, and 1/2 log(lambda / sigma^2)."""
    place = np.arange(1, len(kl) + 1) + (-0.2 if label.startswith("learnt") else 0.2)
    theory = 0.5 * (eigenvalues[: len(kl)] / variance).log().clamp(min=0)
    ax.bar(place, kl.sort(descending=True).values.numpy(), width=0.36, color=colour, alpha=0.75, label=label)
    ax.plot(place, theory, "o", mfc="none", color="#222222", ms=5, clip_on=False)
    ax.set_xticks(range(1, len(kl) + 1))
    ax.set_xlabel("dimension of z, by its KL")
    ax.set_ylabel("nats per digit")
    ax.set_title("KL(q(z | x) || p(z)) of each dimension", loc="left", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
