"""A Gaussian fitted to a posterior with two humps, by KL(q || p) and by KL(p || q).

    p(z) = N(0, 1),   p(x | z) = N(z^2, 0.2^2)

What is seen is z squared with noise, so the posterior of z has a hump at each root. One Gaussian cannot be
both:

    VAE           max E_q(z | x)[log p(x, z) - log q(z | x)],    that is min KL(q(z | x) || p(z | x))
    sleep phase   max E_p(x, z)[log q(z | x)],                   that is min KL(p(z | x) || q(z | x))

The first never puts mass where the posterior has none, so q settles on one hump. The second, which
wake-sleep trains q with, wants mass wherever the posterior has some, so q takes the posterior's mean and
variance and is at its highest where the posterior is next to nothing. Maximum likelihood is the second
direction too, KL(data || model): a Gaussian fitted to draws from this posterior is the same wide one.

Both encoders see the same x, drawn from p; p is given and is not trained. The posterior is summed on a
grid.

Hinton, Dayan, Frey & Neal (1995), "The wake-sleep algorithm for unsupervised neural networks"; Bishop
(2006), "Pattern recognition and machine learning", section 10.1.2.
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import latentia as lt

HERE = Path("runs/examples/kl_directions")
SEEN = (0.25, 1.0, 2.0)
COLOURS = {
    "VAE: KL(q || p)": "#0072b2",
    "sleep phase: KL(p || q)": "#d55e00",
    "maximum likelihood": "#222222",
}


class Square(nn.Module):
    """z^2, the mean of x."""

    out_shape = (1,)

    def forward(self, z: Tensor) -> Tensor:
        return z.square()


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Train both encoders on the same x. budget: a fraction of the full run's steps."""
    p = lt.Joint(z=lt.StandardNormal(1), x=lt.Normal(Square(), given="z", scale=0.2))
    x = p.complete({}, lt.Noise(0), batch=20_000).values["x"].flatten(0, 1)
    steps, encoders = max(1, int(4000 * budget)), {}
    for name, objective in zip(COLOURS, (lt.elbo, lt.wake_sleep), strict=False):
        torch.manual_seed(0)
        model = lt.Model(p, lt.Joint(z=lt.Normal(lt.MLP(1, 2, (64, 64)), given="x")))
        lt.fit(model, x, objective, steps=steps, schedule="cosine", progress=False)
        encoders[name] = model
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    grid = torch.linspace(-2.6, 2.6, 521).unsqueeze(-1)
    for ax, seen in zip(figure.subplots(1, len(SEEN), sharey=True), SEEN, strict=True):
        posterior = on_grid(p, grid, seen)
        ax.fill_between(grid.flatten(), posterior, color="#bbbbbb", label="posterior p(z | x)")
        for name, model in encoders.items():
            q = model.posterior(torch.tensor([[seen]]))
            ax.plot(grid, q.log_prob(grid).exp().detach(), color=COLOURS[name], label=name)
            describe(name, seen, float(q.mean), float(q.stddev))
        likeliest = gaussian_of(grid, posterior, steps)
        ax.plot(grid, likeliest.log_prob(grid).exp(), color="#222222", ls=":", label="maximum likelihood")
        describe("maximum likelihood", seen, float(likeliest.mean), float(likeliest.stddev))
        ax.set_title(f"x = {seen}", loc="left", fontsize=11)
        ax.set_xlabel("z")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("density")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "kl_directions.png", dpi=160)
    return [out / "kl_directions.png"]


@torch.no_grad()
def on_grid(p: lt.Joint, grid: Tensor, seen: float) -> Tensor:
    """p(z | x) at the nodes `[N]`: p(x, z) over its sum."""
    joint = p.log_prob({"z": grid, "x": torch.full_like(grid, seen)}).exp()
    width = float(grid[1] - grid[0])
    return joint / (joint.sum() * width)


def gaussian_of(grid: Tensor, posterior: Tensor, steps: int) -> torch.distributions.Distribution:
    """One Gaussian, fitted by maximum likelihood to 2,000 draws from the posterior."""
    draws = grid[torch.multinomial(posterior, 2000, True, generator=torch.Generator().manual_seed(0))]
    factor = lt.Normal(lt.nets.Constant(2))
    lt.fit(lt.Model(lt.Joint(z=factor)), draws, lr=0.02, steps=min(steps, 800), progress=False)
    mean, deviation = factor.distribution().mean.detach(), factor.distribution().stddev.detach()
    return torch.distributions.Normal(mean, deviation)


def describe(name: str, seen: float, mean: float, deviation: float) -> None:
    print(f"x = {seen}: {name}: mean {mean:+.2f}, standard deviation {deviation:.2f}")


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
