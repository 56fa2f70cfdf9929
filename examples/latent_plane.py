"""The latent plane of a convolutional VAE.

    p(x, z) = N(z; 0, I) N(x; f(z), s^2 I)          z in R^2, f a convolutional decoder, s learnt
    q(z | x) = N(z; mu(x), diag sigma^2(x))         mu and sigma from a convolutional encoder

With two latent dimensions all of latent space can be looked at. Take a grid u of the unit square, evenly
spaced, and send each point through the prior's quantile function, z = Phi^-1(u): every cell of the
picture is then equally probable under p(z). Decoding f(z) there shows what the model can generate and how
one shape turns into another; the posterior means of real digits show where they were put, by a model that
never saw a label.

Kingma & Welling (2014), "Auto-encoding variational Bayes", appendix A and figure 4.
"""

from __future__ import annotations

from pathlib import Path

import cyclopts

import latentia as lt

HERE = Path("runs/examples/latent_plane")


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit, and draw the plane and where the digits lie in it. budget: a fraction of the full run's steps."""
    data = lt.load_data("digits")
    model = lt.models.vae(data=data, latent=2, conv=True, channels=(16, 32), seed=0)
    print(model)
    lt.fit(model, data, lt.elbo, steps=max(1, int(2000 * budget)), lr=2e-3, schedule="cosine", seed=0)
    print(lt.log_evidence(model, data.test, "elbo", samples=20))
    plane = lt.plots.LatentPlaneDisplay.from_model(model, grid=20)
    codes = lt.plots.LatentScatterDisplay.from_model(model, data.train)
    graph = lt.plots.GraphDisplay.from_model(model)
    return [
        plane.save(out / "latent_plane.png"),
        codes.save(out / "latent_scatter.png"),
        graph.save(out / "graph.png"),
    ]


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
