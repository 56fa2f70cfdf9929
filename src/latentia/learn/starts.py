"""Where EM begins: the first posterior weights, linear maps, and the fewest rows that hold the same data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UsageError
from ..exact import is_discrete
from ..factor import Factor
from ..factors.linear_normal import LinearNormal
from ..factors.principal import summarise
from ..joint import MASK, is_latent
from ..model import Model
from ..noise import mixed_seed

if TYPE_CHECKING:
    from ..data import Rows
    from .em import EM

STARTS = ("kmeans", "random", "model")
SAMPLED = 50_000  # rows that k-means sees at most


def check_start(em: EM, start: str) -> None:
    """Raise UsageError where a start, or so many of them, make no sense for the model and its rows."""
    sizes = _clusters_of(em)
    if start == "model" and em.starts > 1:
        raise UsageError("start='model' begins at the parameters as they are: leave out starts=")
    if start != "model" and math.prod(sizes) > len(next(iter(em.held.values()))):
        raise UsageError(
            f"{math.prod(sizes):,} components are more than the {em.size:,} rows that are learnt from: use "
            f"at most as many"
        )
    if em.starts > 1 and em.states and not sizes:
        raise UsageError(
            f"the states of {' and '.join(map(repr, em.states))} are no codes, and only codes have starts of "
            f"their own: leave out starts=, and build the model with other seeds"
        )


def first_weights(start: str) -> Callable[[EM, int], Tensor | None]:
    """A function of (em, number of the start) that makes it ready and gives its first posterior weights."""

    def begin(em: EM, number: int) -> Tensor | None:
        if start == "model":
            return None
        seed = mixed_seed(em.seed, "start", number)
        generator = torch.Generator().manual_seed(seed)
        sizes = _clusters_of(em)
        if not sizes:
            _linear_maps(em, start, None, generator)
            return None
        features, count = _features(em), math.prod(sizes)
        if start == "kmeans":
            labels = _clusters(features, count, seed)
        else:
            labels = _nearest(features, features[torch.randperm(len(features), generator=generator)[:count]])
        _linear_maps(em, start, labels, generator)
        one_hot = torch.nn.functional.one_hot(labels, count).mT.to(em.model.dtype)
        return one_hot.reshape(*sizes, -1).to(em.model.device)

    return begin


def _clusters_of(em: EM) -> list[int]:
    """How many clusters begin each latent code; none where there are latent states other than codes."""
    coded = all(em.model.p[name].coding is not None for name in em.states)
    return [len(states) for states in em.states.values()] if coded else []


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
    if not bool(summary.covariance.isfinite().all()):
        return None
    eigenvalues, vectors = torch.linalg.eigh(summary.covariance)
    away = (vectors * (entries * eigenvalues.clamp(min=0)).sqrt()).mT  # [D, D]
    points = torch.cat([summary.mean + away, summary.mean - away]).reshape(-1, *factor.event)
    weight = torch.full((len(points),), float(summary.count) / len(points), device=points.device)
    return {names[0]: points.to(model.dtype), "weight": weight.to(model.dtype)}


def _features(em: EM) -> Tensor:
    """The observed variables of all rows side by side, `[N, F]`, less their means; 0 in holes."""
    size, start = len(next(iter(em.held.values()))), 0
    features, total, count = torch.empty(size, 0), torch.zeros(()), torch.zeros(())
    for values in em.chunks(em.rows):
        observed = [name for name in em.model.p if name in values and not is_latent(name, values)]
        part = torch.cat([_entries(em.model.p[n], n, values) for n in observed], 1).cpu()
        if start == 0:
            features = part.new_empty(size, part.shape[1])
        features[start : start + len(part)] = part
        start += len(part)
        total, count = total + part.nansum(0).double(), count + part.isfinite().sum(0)
    features -= (total / count.clamp(min=1)).to(features)
    return features.nan_to_num_()


def _entries(factor: Factor, name: str, values: Mapping[str, Tensor]) -> Tensor:
    """The features of one variable `[B, F]`: codes one-hot, NaN in holes."""
    value, mask = values[name], values.get(name + MASK)
    if factor.coding is not None:
        value = factor.coding.encode(value)
        mask = None if mask is None else factor.coding.spread(mask)
    value = value.flatten(1) if value.ndim > 1 else value.unsqueeze(1)
    return value if mask is None else torch.where(mask.reshape(value.shape), value, math.nan)


def _clusters(features: Tensor, count: int, seed: int) -> Tensor:
    """The cluster of each row by k-means++ and Lloyd's algorithm, on a sample of the rows."""
    from sklearn.cluster import KMeans

    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(features), generator=generator)[: max(SAMPLED, count)]
    kmeans = KMeans(count, n_init=1, random_state=seed % 2**32, copy_x=False)  # the chosen are a copy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters: EM names the empty components
        kmeans.fit(features[chosen].numpy())
    return _nearest(features, torch.from_numpy(kmeans.cluster_centers_))


def _nearest(features: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of each row, `[N]`."""
    return torch.cat([torch.cdist(part, centres.to(part)).argmin(1) for part in torch.split(features, 8192)])


def _linear_maps(em: EM, start: str, labels: Tensor | None, generator: torch.Generator) -> None:
    """Start linear-Gaussian factors from the data: principal axes, or random maps of the data's scale."""
    for name in em.model.p:
        factor = em.model.p[name]
        if not isinstance(factor, LinearNormal) or name in em.exact:
            continue
        rows = torch.cat([_entries(factor, name, values) for values in em.chunks(em.rows)])
        if name + MASK in em.held:
            rows = torch.where(rows.isnan(), rows.nanmean(0).nan_to_num(), rows)
        states = None if factor.states is None else _states_of(em, factor.given[0], factor.states, labels)
        known = factor.states is None or states is not None
        if start == "random" or factor.latent >= rows.shape[1] or not known:
            exact = rows.double()
            factor.random_start(exact.mean(0), exact.var(0, correction=0), generator)
        else:
            factor.start(rows, None if states is None else states.to(rows))


def _states_of(em: EM, name: str, count: int, labels: Tensor | None) -> Tensor | None:
    """Which of the codes of `name` each row begins in, `[K, N]`: the observed one, if some are observed."""
    places, held, hot = list(em.states), em.held, torch.nn.functional.one_hot
    if name in held:
        states = hot(held[name], count).mT
        return states * held[name + MASK] if name + MASK in held else states
    if labels is None or name not in places:
        return None
    sizes = tuple(len(states) for states in em.states.values())
    return hot(torch.unravel_index(labels, sizes)[places.index(name)], count).mT
