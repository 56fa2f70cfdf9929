"""How many latent dimensions? Samples and bounds at 2, 5, 10 and 20.

    log p(x) >= E_q(z|x)[log p(x | z)] - KL(q(z | x) || p(z)) = ELBO

A larger latent space lets z say more about x, and each nat it says is paid for in the KL. The bound is
the honest judge between sizes: it rises while a further dimension buys more in reconstruction than it
costs, and then stays, because dimensions that do not pay are switched off, q(z_d | x) = p(z_d), at no
cost. Samples tell only half of this: they sharpen with the size, and with many dimensions some land where
no digit is.

The bounds are those of test rows, in nats per digit in the data's own units (densities of pixels 0..16).
L_K is the importance-weighted bound, at least as tight as the ELBO; what lies between them is a part of
the inference gap.

Kingma & Welling (2014), "Auto-encoding variational Bayes", figures 2 and 5.
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
from matplotlib.figure import Figure

import latentia as lt

HERE = Path("runs/examples/latent_sizes")
SIZES = (2, 5, 10, 20)


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit a VAE of each size and draw their samples. budget: a fraction of the full runs' steps."""
    data = lt.load_data("digits")
    figure = Figure(figsize=(12.5, 4.1), layout="constrained")
    for ax, size in zip(figure.subplots(1, len(SIZES)), SIZES, strict=True):
        model = lt.models.vae(data=data, latent=size, hidden=(200,), seed=0)
        lt.fit(model, data, lt.elbo, steps=max(1, int(2000 * budget)), lr=2e-3, schedule="cosine", seed=0)
        elbo = lt.log_evidence(model, data.test, "elbo", samples=20)
        tighter = lt.log_evidence(model, data.test, samples=max(2, int(500 * budget)))
        used = int(lt.diagnostics.active_units(model, data.test).sum())
        print(f"{size:2d} dimensions, {used} active\n  {elbo}\n  {tighter}")
        lt.plots.SamplesDisplay.from_model(model, n=64).plot(ax)
        ax.set_title(f"{size} latent dimensions, {used} active", loc="left", fontsize=11)
        bounds = "\n".join(f"{bound.name} = {bound.mean:.1f} ± {bound.se:.1f}" for bound in (elbo, tighter))
        ax.set_xlabel(f"{bounds} nats per digit".replace("-", "\N{MINUS SIGN}"), fontsize=9)
    figure.suptitle("Samples (decoder means), and bounds on log p(x) of test digits: larger is better")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "latent_sizes.png", dpi=160)
    return [out / "latent_sizes.png"]


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
