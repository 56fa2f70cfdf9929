"""Where the gap of a VAE comes from: the family of q, or one encoder for all.

    log p(x) - ELBO  =  [log p(x) - ELBO of q*]  +  [ELBO of q* - ELBO of the encoder's q(z | x)]
                        approximation gap           amortisation gap

q* is the best of the family for one x by itself, optimised with p held. What it lacks is what the family
cannot express; what the encoder lacks beyond it is the price of one function that answers for all x.

Two VAEs differ in their encoders only, a linear map and a network. In both nearly all of the gap is
amortisation, and more of it on test digits, which the encoder was not fitted to, while the family costs no
more there. A full covariance in place of the diagonal leaves little of the approximation gap: it is the price
of independence. A weak encoder costs twice, since p bends towards posteriors that q can reach: its log p(x)
is lower too.

log p(x) is bounded from below by annealed importance sampling that starts at q. What it falls short of would
add to the approximation gap; what the search for q* has missed, to the amortisation gap.

Cremer, Li & Duvenaud (2018), "Inference suboptimality in variational autoencoders".
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import latentia as lt
from latentia.diagnostics import Gaps, inference_gaps

HERE = Path("runs/examples/vae_gap")
ENCODERS = {"linear map": (), "network": (200,)}
LATENT, DIGITS = 10, 60
APPROXIMATION, AMORTISATION = "#d55e00", "#0072b2"


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit two VAEs and take their gaps apart. budget: a fraction of the full run's steps and digits."""
    data = lt.load_data("digits")
    found: dict[str, Gaps] = {}
    full: dict[str, Gaps] = {}
    for name, hidden in ENCODERS.items():
        torch.manual_seed(0)
        decoder = lt.MLP(LATENT, data.event_shape, (200,))
        p = lt.Joint(z=lt.StandardNormal(LATENT), x=lt.Normal(decoder, given="z", scale="learnt"))
        q = lt.Joint(z=lt.Normal(lt.MLP(data.event_shape, 2 * LATENT, hidden), given="x"))
        model = lt.Model(p, q, data.schema)
        lt.fit(model, data, lt.elbo, steps=max(1, int(2000 * budget)), lr=2e-3, schedule="cosine", seed=0)
        for which, rows in (("training", data.train), ("test", data.test)):
            rows, label = rows[: max(4, int(DIGITS * budget))], f"{name}, {which} digits"
            steps = max(2, int(400 * budget))
            evidence = lt.log_evidence(
                model, rows, "ais", 8, start="q", distributions=max(2, int(100 * budget))
            )
            found[label] = inference_gaps(model, rows, evidence=evidence, steps=steps)
            print(label, found[label], sep="\n")
        full[label] = inference_gaps(model, rows, evidence=evidence, family=lt.Full(), steps=steps)
        print(label, full[label], sep="\n")
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    stacked(left, found)
    by_family(right, found, full)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "vae_gap.png", dpi=160)
    return [out / "vae_gap.png"]


def stacked(ax: Axes, found: dict[str, Gaps]) -> None:
    """The two parts of each gap end to end, nats per digit."""
    for place, gaps in enumerate(found.values()):
        one, two = gaps.approximation.mean, gaps.amortisation.mean
        ax.barh(place, one, color=APPROXIMATION, height=0.6, label="approximation" if not place else None)
        ax.barh(place, two, left=one, color=AMORTISATION, height=0.6, label=None if place else "amortisation")
        evidence = f"log p(x) ≥ {gaps.evidence.mean:.1f}".replace("-", "\N{MINUS SIGN}")
        ax.annotate(evidence, (one + two, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(range(len(found)), found)
    ax.invert_yaxis()
    ax.margins(x=0.28)
    ax.set_xlabel("nats per digit")
    ax.set_title("Gap of each encoder:", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, borderaxespad=0)
    ax.spines[["top", "right"]].set_visible(False)


def by_family(ax: Axes, diagonal: dict[str, Gaps], full: dict[str, Gaps]) -> None:
    """The approximation gap of test digits, with its Monte Carlo error."""
    for place, label in enumerate(full):
        for shift, of_family, face in ((-0.1, diagonal, APPROXIMATION), (0.1, full, "white")):
            gap = of_family[label].approximation
            style = {"color": APPROXIMATION, "mfc": face, "ms": 7}
            ax.errorbar(gap.mean, place + shift, xerr=2 * gap.mc_error, fmt="o", **style)
    ax.axvline(0, color="#999999", lw=1)
    ax.set_yticks(range(len(full)), [label.split(",")[0] for label in full])
    ax.set_ylim(len(full) - 0.5, -0.5)
    ax.set_xlabel("nats per digit; ± 2 Monte Carlo errors")
    ax.set_title("Approximation gap of test digits", loc="left", fontsize=11)
    ax.legend(
        ax.containers[:2],
        ("q* with a diagonal covariance", "with a full one"),
        frameon=False,
        loc="center right",
    )
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
