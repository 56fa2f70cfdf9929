"""Where EM begins: the first posterior weights, linear maps, and the fewest rows that hold the same data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UsageError
from ..exact import is_discrete
from ..factors.linear_normal import LinearNormal
from ..factors.principal import summarise
from ..joint import MASK, is_latent
from ..model import Model
from .engine import mixed_seed

if TYPE_CHECKING:
    from ..data import Rows
    from .em import EM

STARTS = ("kmeans", "random", "model")
SAMPLED = 50_000  # rows that k-means sees at most


def first_weights(start: str) -> Callable[[EM, int], Tensor | None]:
    """A function of (em, number of the start) that makes it ready and gives its first posterior weights."""

    def begin(em: EM, number: int) -> Tensor | None:
        if start == "model":
            return None
        seed = mixed_seed(em.seed, "start", number)
        generator = torch.Generator().manual_seed(seed)
        features, sizes = _features(em), [len(states) for states in em.states.values()]
        labels, count = None, math.prod(sizes)
        if count > len(features):
            raise UsageError(
                f"{count:,} components are more than the {len(features):,} rows: use at most as many"
            )
        if sizes and start == "kmeans":
            labels = _clusters(features, count, seed)
        elif sizes:
            chosen = torch.randperm(len(features), generator=generator)[:count]
            labels = _nearest(features, features[chosen])
        _linear_maps(em, start, labels, generator)
        if labels is None:
            return None
        one_hot = torch.nn.functional.one_hot(labels, count).mT.to(em.model.dtype)
        return one_hot.reshape(*sizes, -1).to(em.model.device)

    return begin


def compressed(model: Model, rows: Rows) -> dict[str, Tensor] | None:
    """Fewer points in which a linear-Gaussian model without discrete latents sees the same data, or None.

    Such a model knows its data by count, mean and covariance S = L L^T alone: the evidence is quadratic in x.
    So 2 D points, the mean +- sqrt(D) times each column of L, weighed N / 2 D each, give the same estimate
    and the same evidence, whatever N. None where the model needs the rows, or they are as few.
    """
    names = [name for name in model.p if name in rows.tensors]
    alone = {*rows.tensors} - {"weight"} == {*names} and len(names) == 1 and not model.p.inputs
    if not alone or any(is_discrete(model.p[name]) for name in model.latent):
        return None
    factor = model.p[names[0]]
    entries = math.prod(factor.event)
    if not isinstance(factor, LinearNormal) or len(rows) <= 2 * entries:
        return None
    values = model.batch(rows, slice(None))
    summary = summarise(values[names[0]], values.get("weight"))
    eigenvalues, vectors = torch.linalg.eigh(summary.covariance)
    away = (vectors * (entries * eigenvalues.clamp(min=0)).sqrt()).mT  # [D, D]
    points = torch.cat([summary.mean + away, summary.mean - away]).reshape(-1, *factor.event)
    weight = torch.full((len(points),), float(summary.count) / len(points), device=points.device)
    return {names[0]: points.to(model.dtype), "weight": weight.to(model.dtype)}


def _features(em: EM) -> Tensor:
    """The observed variables of all rows side by side, `[N, F]`, holes at their column's mean."""
    parts = []
    for values in em.chunks(em.rows):
        columns = []
        for name in em.model.p:
            factor, mask = em.model.p[name], values.get(name + MASK)
            if name not in values or is_latent(name, values) or not factor.has_density:
                continue
            seen = None if mask is None else mask.flatten(1)
            value = values[name]
            if factor.coding is not None:
                value = factor.coding.encode(value)
                seen = None if mask is None else factor.coding.spread(mask)
            value = value.flatten(1).float()
            columns.append(value if seen is None else torch.where(seen, value, math.nan))
        parts.append(torch.cat(columns, 1).cpu())
    whole = torch.cat(parts)
    holes = whole.isnan()
    return torch.where(holes, whole.nanmean(0).nan_to_num(), whole) if bool(holes.any()) else whole


def _clusters(features: Tensor, count: int, seed: int) -> Tensor:
    """The cluster of each row by k-means++ and Lloyd's algorithm, on a sample of the rows."""
    from sklearn.cluster import KMeans

    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(features), generator=generator)[: max(SAMPLED, count)]
    shift = features.mean(0)
    kmeans = KMeans(count, n_init=1, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters: EM names the empty components
        kmeans.fit((features[chosen] - shift).numpy())
    return _nearest(features - shift, torch.from_numpy(kmeans.cluster_centers_))


def _nearest(features: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of each row, `[N]`."""
    return torch.cat([torch.cdist(part, centres.to(part)).argmin(1) for part in torch.split(features, 8192)])


def _linear_maps(em: EM, start: str, labels: Tensor | None, generator: torch.Generator) -> None:
    """Start linear-Gaussian factors from the data: principal axes, or random maps of the data's scale."""
    for name in em.model.p:
        factor = em.model.p[name]
        if not isinstance(factor, LinearNormal) or name in em.exact:
            continue
        whole = torch.cat([values[name] for values in em.chunks(em.rows)])
        if start == "random" or factor.latent >= math.prod(factor.event):
            rows = whole.flatten(1).double()
            factor.random_start(rows.mean(0), rows.var(0, correction=0), generator)
        if start == "kmeans" and factor.latent < math.prod(factor.event):
            states = None
            if factor.states is not None and labels is not None:
                states = torch.nn.functional.one_hot(labels, factor.states).mT.to(whole)
            factor.start(whole, states)
