"""The tasks of models with exact posteriors: mixtures by EM, factor analysis, probabilistic PCA.

N rows, D entries, K components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .tasks import Task, images

Array = NDArray[np.floating]
FLOOR = 1e-6  # added to the variances of the start, and to scikit-learn's covariances; our floor's square
PEER = "scikit-learn"


@dataclass(frozen=True, kw_only=True)
class Mixture(Task):
    """EM of a mixture of Gaussians with full covariances; a step is an iteration.

    rows   "mnist": its 50 principal components; "drawn": 1,000,000 of 10 entries from such a mixture
    """

    kind = "mixture"
    components: int
    rows: str
    dtype: str
    peer: str | None = PEER
    difference: bool = True


@dataclass(frozen=True, kw_only=True)
class Linear(Task):
    """Probabilistic PCA of dequantised MNIST pixels in [0, 1], 60,000 x 784; a step is a whole fit."""

    kind = "linear"
    latent: int = 20
    dtype: str = "float64"
    peer: str | None = PEER


@dataclass(frozen=True, kw_only=True)
class Factors(Linear):
    """Factor analysis; a step is an iteration of EM, or of scikit-learn's algorithm."""

    kind = "factors"


@dataclass(frozen=True, kw_only=True)
class FactorsFit(Linear):
    """Factor analysis; a step is a whole fit, to the log-likelihood of some iterations of scikit-learn."""

    kind = "factors fit"
    iterations: int


def _mixtures() -> list[Mixture]:
    sizes = (
        ("full50", "K=50, 60,000 x 50 (PCA of MNIST)", 50, "mnist", 3, 1.6),
        ("full10", "K=10, 1,000,000 x 10", 10, "drawn", 3, 2.0),
    )
    return [
        Mixture(
            name=f"{name}-f{bits}",
            title=f"EM iteration of a mixture with full covariances, {what}, float{bits}",
            steps=steps,
            components=components,
            rows=rows,
            dtype=f"float{bits}",
            targets={"ours": target},
        )
        for name, what, components, rows, steps, target in sizes
        for bits in (64, 32)
    ]


EXACT = (
    *_mixtures(),
    Factors(
        name="factors",
        title="factor analysis, 20 factors, 60,000 x 784, float64: an iteration",
        steps=2,
        difference=True,
        targets={"ours": 10.0},
    ),
    FactorsFit(
        name="factors-fit",
        title="factor analysis: from the rows to the log-likelihood of 10 iterations of scikit-learn",
        steps=1,
        iterations=10,
    ),
    *(
        Linear(
            name=f"ppca-f{bits}",
            title=f"PPCA, 20 latents, 60,000 x 784, float{bits}: from the rows to the parameters",
            steps=1,
            dtype=f"float{bits}",
            peer="PCA covariance_eigh",
            targets={"ours": 1.0, "ours, the factor": 1.0},
        )
        for bits in (64, 32)
    ),
)


class Start(NamedTuple):
    """Rows `[N, D]` and the component `[N]` in which each of them begins."""

    x: Array
    labels: NDArray[np.int64]

    def moments(self, components: int) -> tuple[Array, Array, Array]:
        """Weights `[K]`, means `[K, D]` and covariances `[K, D, D]` of the rows of each component."""
        parts = [self.x[self.labels == k].astype(np.float64) for k in range(components)]
        weights = np.array([len(part) for part in parts]) / len(self.x)
        means = np.stack([part.mean(0) for part in parts])
        identity = np.eye(self.x.shape[1])
        covariances = np.stack([np.cov(part.T, bias=True) + FLOOR * identity for part in parts])
        kind = self.x.dtype
        return weights.astype(kind), means.astype(kind), covariances.astype(kind)


def mixture_start(task: Mixture) -> Start:
    """The task's rows, and k-means' clusters of them."""
    from sklearn.cluster import KMeans

    x = principal_components(50) if task.rows == "mnist" else drawn(1_000_000, 10, task.components)
    kmeans = KMeans(task.components, n_init=1, max_iter=10, random_state=0).fit(x[:: len(x) // 50_000])
    return Start(x.astype(task.dtype), kmeans.predict(x).astype(np.int64))


def pixels(dtype: str) -> Array:
    """60,000 images in [0, 1], `[60000, 784]`: grey values with uniform noise of one level."""
    grey, _ = images()
    noise = np.random.default_rng(0).random(grey.shape, dtype=np.float32)
    return ((grey + noise) / 256).astype(dtype)


def principal_components(count: int) -> Array:
    """The images' first principal components, `[60000, count]`."""
    x = pixels("float64")
    centred = x - x.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    result: Array = centred @ vectors[:, ::-1][:, :count]
    return result


def drawn(rows: int, entries: int, components: int) -> Array:
    """Rows of a mixture of Gaussians that overlap, `[rows, entries]`."""
    rng = np.random.default_rng(0)
    means = 2 * rng.normal(size=(components, entries))
    maps = np.eye(entries) + 0.5 * rng.normal(size=(components, entries, entries))
    x = np.empty((rows, entries))
    for k, place in enumerate(np.array_split(rng.permutation(rows), components)):
        x[place] = means[k] + rng.normal(size=(len(place), entries)) @ maps[k].T
    return x
