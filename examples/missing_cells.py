"""Missing cells: EM on rows with holes, and holes filled in exactly.

    log p(x_observed) = log of the integral of p(x) over x_missing,     x_missing ~ p(x_missing | x_observed)

In a mixture of PPCAs every entry depends on the others through the hidden k and z alone. Given those, entries
are independent, so those that are missing leave every sum: the E-step infers (k, z) from what a row has, and
the M-step regresses each entry on z over the rows that have it. The evidence of what was seen never
decreases, and nothing is filled in for the fit. (It is right where cells go missing by chance, or for reasons
that the seen ones explain.)

Once fitted, the model has the distribution of the missing cells given the others in closed form: its mean
fills the holes with the least squared error, draws from it look like data. To fill in column means and fit
those is worse: it teaches the model that pixels are typical and independent of each other.

Ghahramani & Jordan (1994), "Supervised learning from incomplete data via an EM approach"; Tipping & Bishop
(1999), "Mixtures of probabilistic principal component analysers".
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import latentia as lt

HERE = Path("runs/examples/missing_cells")
SHARES, SHOWN = (0.1, 0.3, 0.5, 0.7), 0.5


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit digits with more and more holes. budget: a fraction of the full runs' iterations."""
    digits = lt.load_data("digits")
    train, test = (rows.batch()["x"].double().flatten(1) for rows in (digits.train, digits.test))
    steps = max(1, int(40 * budget))
    evidence: dict[str, list[float]] = {"EM on what was seen": [], "EM on rows filled with means": []}
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    for share in SHARES:
        holed, test_holed = with_holes(train, share, seed=0), with_holes(test, share, seed=1)
        means = holed.nanmean(0)
        model, of_filled = mixture(), mixture()
        lt.fit(model, holed, steps=steps, progress=False)
        lt.fit(of_filled, torch.where(holed.isnan(), means, holed), steps=steps, progress=False)
        for fitted, found in zip((model, of_filled), evidence.values(), strict=True):
            found.append(lt.log_evidence(fitted, test).mean)
        hidden, filled = test_holed.isnan(), lt.impute(model, test_holed)
        errors = [
            float((guess - test)[hidden].square().mean().sqrt())
            for guess in (means.expand_as(test), lt.impute(of_filled, test_holed), filled)
        ]
        print(
            f"{share:.0%} missing: error by column means {errors[0]:.3f}, by the model of filled rows "
            f"{errors[1]:.3f}, by the model of what was seen {errors[2]:.3f}"
        )
        if share == SHOWN:
            lines = {"seen": test_holed, "column means": torch.where(hidden, means, test_holed)}
            lines |= {"filled in": filled, "drawn": lt.impute(model, test_holed, draws=1)[0], "true": test}
            show(left, lines)
    whole = mixture()
    lt.fit(whole, train, steps=steps, progress=False)
    draw_evidence(right.subplots(), evidence, lt.log_evidence(whole, test).mean)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "missing_cells.png", dpi=160)
    return [out / "missing_cells.png"]


def mixture() -> lt.Model:
    """Ten PPCAs of three dimensions."""
    return lt.models.mixture_of_factor_analysers(
        64, components=10, latent=3, covariance=lt.Spherical(), floor=0.05
    ).double()


def with_holes(x: Tensor, share: float, seed: int) -> Tensor:
    """The rows with a share of their cells missing, drawn by chance."""
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(x.shape, generator=generator) < share, torch.nan, x)


def show(figure: Figure, rows: dict[str, Tensor]) -> None:
    """Ten digits, line by line; holes are orange."""
    colours = colormaps["gray_r"].with_extremes(bad="#e69f00")
    axes = figure.subplots(len(rows), 10)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image.reshape(8, 8).numpy(), cmap=colours, vmin=0, vmax=1)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
    figure.suptitle(f"Test digits, {SHOWN:.0%} of their pixels missing", fontsize=11)


def draw_evidence(ax: Axes, evidence: dict[str, list[float]], whole: float) -> None:
    """Held-out evidence of whole digits against the share that was missing in training."""
    for (name, found), colour, marker in zip(evidence.items(), ("#0072b2", "#d55e00"), "os", strict=True):
        ax.plot((0.0, *SHARES), (whole, *found), color=colour, marker=marker, lw=1.3, ms=5, label=name)
    ax.set_xlabel("share of cells missing in training")
    ax.set_ylabel("log p(x), nats per whole test digit")
    ax.set_title("What was learnt from rows with holes", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="lower left")
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
