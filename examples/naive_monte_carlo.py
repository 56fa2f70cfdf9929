"""Why naive Monte Carlo fails: evidence from draws of the prior, and twenty latent dimensions.

    log p(x) = log E_p(z)[p(x | z)]  is about  log (1/K) sum_k p(x | z_k),   z_k ~ p(z)

The average is unbiased, and still of no use: nearly all of its mean comes from the few z that could have made
x, and the share of the prior that they fill shrinks by a factor with each further dimension. To be off by no
more than before, K must grow exponentially: here ten times as many draws buy two dimensions. log p(x) is
known, since the model is probabilistic PCA. It rises with the latent dimension, while the estimate at a given
K turns and falls: whoever chose the dimension by it would choose one too low.

The failure shows without knowing log p(x). With weights w_k = p(x | z_k) the effective sample size, (sum w)^2
/ sum w^2, falls to 1: a single draw decides. The Pareto k-hat, which measures how heavy the tail of the
weights is, passes 0.7. The Monte Carlo error is silent: it knows only the draws that were made.

The mean of the logs, E_p(z)[log p(x | z)], is another number: the ELBO at q = prior. It is a bound that more
draws do not tighten, and a loose one.

Owen (2013), "Monte Carlo theory, methods and examples", chapter 9; Vehtari, Simpson, Gelman, Yao & Gabry
(2024), "Pareto smoothed importance sampling".
"""

from __future__ import annotations

import math
from pathlib import Path

import cyclopts
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import latentia as lt

HERE = Path("runs/examples/naive_monte_carlo")
SIZES = (1, 2, 4, 6, 8, 10, 12, 15, 20)
DRAWS = {100: "#56b4e9", 1_000: "#0072b2", 10_000: "#00304d"}
ORANGE, BLACK = "#d55e00", "#222222"


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """PPCA of digits, its evidence known and estimated. budget: a fraction of the full run's draws."""
    data = lt.load_data("digits")
    exact, mean_of_logs, naive = [], [], {draws: [] for draws in DRAWS}
    for size in SIZES:
        model = lt.models.ppca(data=data, latent=size)
        lt.fit(model, data, progress=False)
        exact.append(lt.log_evidence(model, data.test, "exact"))
        prior = lt.Model(model.p, lt.Joint(z=lt.StandardNormal(size)), model.schema)
        mean_of_logs.append(lt.log_evidence(prior, data.test, "elbo", max(10, int(1000 * budget))))
        for draws, found in naive.items():
            found.append(lt.log_evidence(model, data.test, "naive", max(10, int(draws * budget))))
        last = [exact[-1], mean_of_logs[-1], *(found[-1] for found in naive.values())]
        print(f"{size} latent dimensions", *last, sep="\n  ")
    figure = Figure(figsize=(10.5, 7.0), layout="constrained")
    values, gaps, effective, k_hat = figure.subplots(2, 2, sharex=True).flat
    values.plot(SIZES, [one.mean for one in exact], color=BLACK, marker="o", ms=4, label="exact")
    gaps.plot(SIZES, below(exact, mean_of_logs), color=ORANGE, marker="s", ms=4, label="mean of logs")
    for draws, found in naive.items():
        line(values, [one.mean for one in found], found, draws)
        line(gaps, below(exact, found), found, draws)
        line(effective, [float(one.effective.median()) for one in found], found, draws)
        line(k_hat, [float(one.k_hat.median()) for one in found], found, draws)
    values.set_title("log p(x), nats per test digit", loc="left", fontsize=11)
    gaps.set_title("How far below log p(x), nats", loc="left", fontsize=11)
    gaps.set(yscale="log", ylim=(1e-3, 1e3))
    effective.set_title("Effective sample size, of the median row", loc="left", fontsize=11)
    effective.set(yscale="log", xlabel="latent dimensions")
    k_hat.set_title("Pareto k-hat, of the median row", loc="left", fontsize=11)
    k_hat.set(xlabel="latent dimensions", xticks=range(0, 21, 5))
    k_hat.axhline(0.7, color="#999999", lw=1, ls="--")
    k_hat.annotate("0.7", (20, 0.7), (0, -12), textcoords="offset points", ha="right", color="#777777")
    values.scatter([], [], c="white", edgecolors=DRAWS[1_000], s=26, label="naive, with its own warning")
    values.legend(frameon=False)
    gaps.legend(handles=gaps.lines[:1], frameon=False, loc="lower right")
    for ax in (values, gaps, effective, k_hat):
        ax.spines[["top", "right"]].set_visible(False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "naive_monte_carlo.png", dpi=160)
    return [out / "naive_monte_carlo.png"]


def below(exact: list[lt.Estimate], found: list[lt.Estimate]) -> list[float]:
    """The distance of each from the evidence; NaN where chance has put it above."""
    gaps = [known.mean - one.mean for known, one in zip(exact, found, strict=True)]
    return [gap if gap > 0 else math.nan for gap in gaps]


def line(ax: Axes, numbers: list[float], found: list[lt.Estimate], draws: int) -> None:
    """Numbers by latent dimension, hollow where the estimate warns."""
    colour = DRAWS[draws]
    ax.plot(SIZES, numbers, color=colour, label=f"naive, K = {draws:,}")
    face = ["white" if one.caution else colour for one in found]
    ax.scatter(SIZES, numbers, c=face, edgecolors=colour, s=26, zorder=3)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
