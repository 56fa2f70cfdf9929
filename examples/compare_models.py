"""Which model of a table? A mixture, PPCA, factor analysis and a VAE, on the same wines.

Four answers to the question what hidden causes a wine has: a kind, within which columns are independent (a
mixture); or a few quantities that move the columns along lines, with noise alike in all (PPCA) or of each
column's own (factor analysis), or along curves (VAE). The judge is log p(x) of test rows that no model has
seen, in the columns' own units.

Two things make a comparison of the numbers. All models meet the same rows, and rows that are hard for one are
hard for the others: the error of a difference, taken row by row, is about half as large as those of the two
means. And each number says what it is. Three are exact. That of the VAE is a lower bound, by annealed
importance sampling that starts at q: it is behind an exact one by at most what is shown, and may be better.

Tipping & Bishop (1999), "Probabilistic principal component analysis"; Rubin & Thayer (1982), "EM algorithms
for ML factor analysis"; Kingma & Welling (2014), "Auto-encoding variational Bayes".
"""

from __future__ import annotations

from pathlib import Path

import cyclopts

import latentia as lt

HERE = Path("runs/examples/compare_models")


def main(budget: float = 1.0, out: Path = HERE) -> list[Path]:
    """Fit four models at three seeds each, and rank them. budget: a fraction of the full run's updates."""
    data = lt.load_data("wine", split=(0.6, 0.1, 0.3))
    models = lt.models
    entries = {
        "mixture of 3": lambda seed: models.gaussian_mixture(
            data=data, components=3, covariance=lt.Diagonal(), seed=seed
        ),
        "PPCA": lambda seed: models.ppca(data=data, latent=4, seed=seed),
        "factor analysis": lambda seed: models.factor_analysis(data=data, latent=4, seed=seed),
        "VAE": lambda seed: (models.vae(data=data, latent=4, hidden=(50,), seed=seed), lt.elbo, {"lr": 2e-3}),
    }
    updates, annealed = max(1, int(1500 * budget)), max(2, int(200 * budget))
    found = lt.compare(data, entries, updates=updates, method="ais", start="q", distributions=annealed)
    print(found)
    for one, other in (("factor analysis", "PPCA"), ("VAE", "PPCA")):
        print(f"{one} less {other}: {found.difference(one, other)} nats per row")
    return [lt.plots.ComparisonDisplay.from_comparison(found).save(out / "compare_models.png")]


if __name__ == "__main__":
    cyclopts.run(main, result_action=lambda pictures: print(*pictures or [], sep="\n"))
