"""A likelihood of one's own in thirty lines: the continuous Bernoulli.

    p(x | z) = prod_d C(pi_d) pi_d^x_d (1 - pi_d)^(1 - x_d),   x_d in [0, 1],   pi = sigmoid(f(z))
    C(pi) = 2 artanh(1 - 2 pi) / (1 - 2 pi),   C(1/2) = 2

Grey pixels are often given to a Bernoulli likelihood. The cross-entropy it computes is then the logarithm
of nothing that integrates to 1, and no bound on log p(x). Dividing by the integral, which is what C does,
makes it a density on [0, 1]: one factor, with the same network, whose evidence may be compared with that
of a Normal. (It wins on the digits by far. A part of that is fair, since it puts no mass outside [0, 1];
a part is that half of the pixels are exactly 0, where any density may grow tall. Data on a few levels are
best judged by probabilities, not densities.)

A family is a subclass of Factor that writes `distribution`. `transform`, x = g(noise, parents), is
optional; with it draws are functions of given noise, so that steps compile and replay. `check` tells
`fit` which data it refuses. And `check_factor` holds the class against every law of the library: that the
density integrates to 1, that draws follow it, that shapes, masks, gradients and noise are in order.

Loaiza-Ganem & Cunningham (2019), "The continuous Bernoulli: fixing a pervasive error in variational
autoencoders".
"""

from __future__ import annotations

from pathlib import Path

import cyclopts
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import ContinuousBernoulli as Family
from torch.distributions import Distribution, Independent

import latentia as lt
from latentia.noise import BoundNoise
from latentia.testing import check_factor

HERE = Path("runs/examples/new_likelihood")


class ContinuousBernoulli(lt.Factor):
    """p(x | parents), x in [0, 1]: a Bernoulli's cross-entropy, normalised."""

    def distribution(self, *parents: Tensor) -> Distribution:
        (logits,) = self.parts(*parents)
        return Independent(Family(logits=logits, validate_args=False), len(self.event), validate_args=False)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return distribution.base_dist.icdf(noise(self.event, "uniform"))

    def check(self, name: str, value: Tensor) -> None:
        if value.min() < 0 or value.max() > 1:
            raise ValueError(f"{name!r} must lie in [0, 1] for a ContinuousBernoulli")


def continuous_bernoulli(net: torch.nn.Module, given: str) -> ContinuousBernoulli:
    """What a model function takes as its likelihood: from a decoder to p(x | z)."""
    return ContinuousBernoulli(net, given)


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Hold it against the laws, fit it and a Normal, compare. budget: a fraction of the full runs' steps."""
    factor = ContinuousBernoulli(lt.MLP(3, 2), given="z")
    for law, word in check_factor(factor, parents=[(3,)]).items():
        print(f"{law}: {word}")
    data = lt.load_data("digits")
    figure = Figure(figsize=(8.2, 4.9), layout="constrained")
    for ax, likelihood in zip(figure.subplots(1, 2), ("normal", continuous_bernoulli), strict=True):
        model = lt.models.vae(data=data, latent=10, hidden=(200,), likelihood=likelihood, seed=0)
        lt.fit(model, data, lt.elbo, steps=max(1, int(2000 * budget)), lr=2e-3, schedule="cosine", seed=0)
        bound = lt.log_evidence(model, data.test, samples=max(2, int(500 * budget)))
        lt.plots.SamplesDisplay.from_model(model, n=64).plot(ax)
        name = "Normal, one learnt scale" if likelihood == "normal" else "Continuous Bernoulli"
        print(f"{name}: {bound}")
        ax.set_title(name, loc="left", fontsize=11)
        value = f"{bound.name} = {bound.mean:.1f} ± {bound.se:.1f} nats per digit"
        ax.set_xlabel(value.replace("-", "\N{MINUS SIGN}"), fontsize=9)
    figure.suptitle("Samples (decoder means), and bounds on log p(x) of test digits: larger is better")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "new_likelihood.png", dpi=160)
    return [out / "new_likelihood.png"]


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
