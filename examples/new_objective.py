"""An objective of one's own in thirty lines: the multiply importance-weighted bound.

    L_{M,K}(x) = 1/M sum_m log 1/K sum_k w_mk,   w_mk = p(x, z_mk) / q(z_mk | x),   z_mk ~ q(z | x)

It spends M K draws. At M = 1 they all go into one importance-weighted bound L_K, the tightest; at K = 1
each makes an ELBO of its own, and their mean scatters least. A tight bound is what p wants; q's gradient
drowns in noise as K grows, so that something between the two can be the better objective. Each term is at
most log p(x) in expectation, so their mean is too.

An objective is a function (p, q, values, noise, **keywords) -> Bound. `q.complete` fills in what is
absent from the values by S draws; p.log_prob and the log_q of the draws give the weights. The Bound holds
the honest value, the surrogate that ascent climbs (here the same), terms to report, and how the value
stands to log p(x). `fit` forwards and checks keywords. `check_objective` holds the function against the
library's laws, among them that it is on the side of log p(x) that it claims.

Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh (2018), "Tighter variational bounds are not necessarily
better", section 4.
"""

from __future__ import annotations

import math
from pathlib import Path

import cyclopts
import torch
from matplotlib.figure import Figure

import latentia as lt
from latentia.testing import check_objective

HERE = Path("runs/examples/new_objective")
DRAWS = 64
GROUPS = (1, 4, 16, 64)  # M


def miwae(
    p: lt.Joint,
    q: lt.Joint,
    values: dict[str, torch.Tensor],
    noise: lt.Noise,
    *,
    samples: int = DRAWS,
    groups: int = 8,
) -> lt.Bound:
    """The mean of M = `groups` importance-weighted bounds, each by K = `samples` / M draws."""
    if samples % groups:
        raise ValueError(f"samples is shared out among the groups, and {samples} is no multiple of {groups}")
    done = q.complete(values, noise, samples)
    log_w = p.log_prob(done.values) - sum(done.log_q.values())  # [M K, B]
    bounds = torch.logsumexp(log_w.unflatten(0, (groups, -1)), dim=1) - math.log(samples // groups)  # [M, B]
    value = bounds.mean(0)
    return lt.Bound(value, value, {}, "lower")


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Hold it against the laws, climb it, and draw the bounds. budget: a fraction of the full runs' steps."""
    for law, word in check_objective(miwae, samples=16).items():
        print(f"{law}: {word}")
    data = lt.load_data("digits", binarise="threshold")
    steps, evaluated = max(1, int(3000 * budget)), max(2, int(1000 * budget))
    tight, elbos = [], []
    for groups in GROUPS:
        model = lt.models.vae(data=data, latent=10, hidden=(100,), seed=0)
        lt.fit(model, data, miwae, groups=groups, steps=steps, lr=2e-3, schedule="cosine", progress=False)
        tight.append(lt.log_evidence(model, data.test, "importance", evaluated).mean)
        elbos.append(lt.log_evidence(model, data.test, "elbo", evaluated).mean)
        print(f"climbed M = {groups:2d}, K = {DRAWS // groups:2d}: ELBO {elbos[-1]:.2f}, ", end="")
        print(f"L_{evaluated} {tight[-1]:.2f} nats per held-out digit")
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.plot(GROUPS, tight, "o-", color="#d55e00", label=f"$L_{{{evaluated}}}$: how good p is")
    ax.plot(GROUPS, elbos, "s-", color="#0072b2", label="ELBO: how good p and q are together")
    ax.set_xscale("log", base=2)
    ax.set_xticks(GROUPS, [f"M = {groups}\nK = {DRAWS // groups}" for groups in GROUPS])
    ax.set_ylabel("bound on log p(x), nats per held-out digit")
    ax.set_title(f"{DRAWS} draws, shared out among M bounds by K draws each", loc="left", fontsize=11)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "multiply_weighted.png", dpi=160)
    return [out / "multiply_weighted.png"]


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
