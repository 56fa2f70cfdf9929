"""An objective of one's own in thirty lines: the Rényi bound.

    L(x) = 1 / (1 - alpha) log (1/K) sum_k w_k^(1 - alpha),   w_k = p(x, z_k) / q(z_k | x),   z_k ~ q(z | x)

At alpha = 0 it is the importance-weighted bound L_K, and towards alpha = 1 the ELBO; between them it
falls as alpha grows. For 0 <= alpha <= 1 its expectation is at most log p(x): the Rényi bound itself is,
and by Jensen's inequality the estimate by K draws is smaller still, since the logarithm is concave and 1
- alpha positive.

An objective is a function (p, q, values, noise, **keywords) -> Bound. `q.complete` fills in what is
absent from the values by S draws; p.log_prob and the log_q of the draws give the weights. The Bound holds
the honest value, the surrogate that ascent climbs (here the same), terms to report, and how the value
stands to log p(x). `fit` forwards and checks keywords. `check_objective` holds the function against the
library's laws, among them that it is on the side of log p(x) that it claims.

Li & Turner (2016), "Rényi divergence variational inference", section 4.
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
import torch
from matplotlib.figure import Figure

import latentia as lt
from latentia.testing import check_objective

HERE = Path("runs/examples/new_objective")
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def renyi(
    p: lt.Joint,
    q: lt.Joint,
    values: dict[str, torch.Tensor],
    noise: lt.Noise,
    *,
    samples: int = 8,
    alpha: float = 0.5,
) -> lt.Bound:
    """The Rényi bound of order alpha in [0, 1] by K = `samples` draws."""
    done = q.complete(values, noise, samples)
    log_w = p.log_prob(done.values) - sum(done.log_q.values())  # [K, B]
    if alpha == 1.0:
        value = log_w.mean(0)
    else:
        value = torch.logsumexp((1 - alpha) * log_w + done.log_weight, dim=0) / (1 - alpha)
    return lt.Bound(value, value, {}, "lower")


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Hold it against the laws, climb it, and draw the bounds. budget: a fraction of the full runs' steps."""
    for law, word in check_objective(renyi, samples=8).items():
        print(f"{law}: {word}")
    data = lt.load_data("digits")
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    ax = figure.subplots()
    for climbed, colour, marker in ((1.0, "#0072b2", "o"), (0.5, "#009e73", "s"), (0.0, "#d55e00", "^")):
        model = lt.models.vae(data=data, latent=10, hidden=(200,), seed=0)
        steps = max(1, int(1500 * budget))
        lt.fit(model, data, renyi, alpha=climbed, samples=8, steps=steps, lr=2e-3, schedule="cosine")
        bound = lt.log_evidence(model, data.test, samples=max(2, int(500 * budget)))
        print(f"climbed alpha = {climbed}: {bound}")
        bounds = [held_out(model, data, alpha) for alpha in ALPHAS]
        ax.plot(ALPHAS, bounds, color=colour, marker=marker, lw=1.3, ms=5, label=f"{climbed:g}")
    ax.set_xlabel("order α of the bound (0: $L_{50}$, 1: ELBO)")
    ax.set_ylabel("bound on log p(x), nats per test digit")
    ax.set_title("Rényi bounds of models that were fitted by one of them", loc="left", fontsize=11)
    ax.legend(title="α climbed", frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "renyi_bounds.png", dpi=160)
    return [out / "renyi_bounds.png"]


@torch.no_grad()
def held_out(model: lt.Model, data: lt.data.Data, alpha: float) -> float:
    """The bound's mean over the test rows by 50 draws, nats per digit in the data's units."""
    values = model.batch(data.test, slice(None))
    bound = renyi(model.p, model.q, values, lt.Noise(0), samples=50, alpha=alpha)
    return float((bound.value + data.schema.log_jacobian(values)).mean())


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
