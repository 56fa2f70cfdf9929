"""Whether single latent units stand for single true factors, where those are known: MIG and DCI.

N rows, P draws, U latent units, K factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._words import did_you_mean
from ..noise import Noise
from ._posteriors import Latents, RowPosteriors, draw
from ._rows import LIVE, Unit, at_least_two, batches, latents_of, units_of

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model

Floats = NDArray[np.float64]
METHODS = ("trees", "lasso")
ROWS = 250  # encoded at a time
HELD_OUT = 0.25  # of the rows, for the prediction errors of DCI
FEWEST = 20  # rows for DCI
TREES = 50  # of a boosted ensemble


@dataclass(frozen=True)
class MutualInformationGap:
    """MIG and what it is made of.

    value        the mean over factors of (largest - second largest I(u; v)) / H(v): 0 ... 1
    information  I(u; v_k) of each unit and factor in nats, `[U, K]`
    entropy      H(v_k) of each factor in nats, `[K]`
    """

    value: float
    information: Floats
    entropy: Floats
    units: tuple[Unit, ...]
    factors: tuple[str, ...]

    @property
    def gaps(self) -> Floats:
        """(I_1 - I_2) / H(v) of each factor, `[K]`."""
        ordered = np.sort(self.information, 0)
        found: Floats = (ordered[-1] - ordered[-2]) / self.entropy
        return found

    def __repr__(self) -> str:
        best = self.information.argmax(0)
        lines = [
            f"  {name}: gap {gap:.3f}, most in {self.units[i]} ({self.information[i, k]:.3f} of "
            f"{self.entropy[k]:.3f} nats)"
            for k, (name, gap, i) in enumerate(zip(self.factors, self.gaps, best, strict=True))
        ]
        return "\n".join([f"mutual information gap {self.value:.4f}", *lines])


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness.

    disentanglement   how far each unit predicts a single factor: 0 ... 1
    completeness      how far each factor is predicted by a single unit: 0 ... 1
    informativeness   how well all units together predict the factors, held out: 1 is without error, 0 is what
                      the most frequent class, or the mean, achieves; may be below 0
    importance        of each unit for each factor, columns summing to 1, `[U, K]`
    by_factor         the informativeness of each, `[K]`
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Floats
    by_factor: Floats
    units: tuple[Unit, ...]
    factors: tuple[str, ...]

    def __repr__(self) -> str:
        parts = ", ".join(f"{n} {v:.2f}" for n, v in zip(self.factors, self.by_factor, strict=True))
        alone = (
            "; with one factor, disentanglement is 1 whatever the units are" if len(self.factors) == 1 else ""
        )
        return (
            f"disentanglement {self.disentanglement:.4f}, completeness {self.completeness:.4f}, "
            f"informativeness {self.informativeness:.4f} ({parts}){alone}"
        )


@torch.no_grad()
def mutual_information_gap(
    model: Model, x: Any, factors: Any, *, samples: int = 2, seed: int = 0
) -> MutualInformationGap:
    """MIG: how much more the best unit knows of a factor than the second best, in shares of its entropy.

        MIG = (1/K) sum_k (1 / H(v_k)) (I(u_j*; v_k) - max_{j != j*} I(u_j; v_k)),
        I(u; v) = E[log q(u | v) - log q(u)],   q(u | v) the mixture of q(u | x_n) over the rows with v_n = v

    factors  `[N]` or `[N, K]`, the true factors of the rows, of few values each; a dict gives them names
    samples  draws of z for each row

    I(u; v) is that of these rows, by Monte Carlo, with q's own noise: no bins. Raises ValueError for factors
    of another length, with missing or (almost) as many values as rows, or one value only; fewer than two
    units; and a q whose units have no marginal in closed form.

    Chen, Li, Grosse & Duvenaud (2018), "Isolating sources of disentanglement in VAEs", eq. 6.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    rows = model.rows(x)
    at_least_two(rows, "mutual information")
    names = latents_of(model, model.batch(rows, slice(0, 1)))
    units = units_of(model, names)
    if len(units) < 2:
        raise ValueError("the gap is between the best unit and the second best, and there is one unit only")
    columns = named_factors(factors, len(rows))
    codes = torch.stack([_codes(name, column) for name, column in columns.items()], 1)  # [N, K]
    noise = Noise(seed, model.device, model.dtype)
    parts = [draw(model, values, names, samples, noise) for values in batches(model, rows, ROWS)]
    latents = {name: torch.cat([part[name] for part in parts], 1).flatten(0, 1) for name in names}
    information = _unit_information(model, rows, names, latents, codes)
    shares = [torch.bincount(column).double() / len(rows) for column in codes.unbind(1)]
    entropy = torch.stack([-torch.xlogy(share, share).sum() for share in shares])
    ordered = information.sort(0, descending=True).values
    gaps = (ordered[0] - ordered[1]) / entropy
    return MutualInformationGap(
        float(gaps.mean()), information.numpy(), entropy.numpy(), units, tuple(columns)
    )


def _unit_information(
    model: Model, rows: Rows, names: tuple[str, ...], latents: Latents, codes: Tensor
) -> Tensor:
    """I(u; v_k), `[U, K]`, from draws `[P, *event]` that run through the rows S times."""
    count, n = len(latents[names[0]]), len(rows)
    own = codes.repeat(count // n, 1)  # the draws' factors, [P, K]
    units = len(units_of(model, names))
    every = torch.full((count, units), -math.inf, dtype=torch.float64)
    alike = torch.full((codes.shape[1], count, units), -math.inf, dtype=torch.float64)
    for start, values in zip(range(0, n, ROWS), batches(model, rows, ROWS), strict=True):
        q = RowPosteriors(model, values, names)
        some, step = codes[start : start + ROWS], max(1, LIVE // (q.size * q.width))
        for first in range(0, count, step):
            at = slice(first, first + step)
            entries = q.entries({name: latents[name][at].unsqueeze(1) for name in names})
            if entries is None:
                raise ValueError(
                    f"{model.q.equation('q') if model.q is not None else 'q'}: the units' marginals have no "
                    f"closed form, so what each says of a factor is not known"
                )
            entries = entries.double().cpu()
            every[at] = torch.logaddexp(every[at], entries.logsumexp(1))
            for k in range(codes.shape[1]):
                other = own[at, k].unsqueeze(1) != some[:, k]
                among = entries.masked_fill(other.unsqueeze(-1), -math.inf).logsumexp(1)
                alike[k, at] = torch.logaddexp(alike[k, at], among)
    sizes = torch.stack([torch.bincount(c)[c].repeat(count // n) for c in codes.unbind(1)]).double()
    gain = alike - sizes.log().unsqueeze(-1) - (every - math.log(n))
    return gain.mean(1).mT


def dci(
    model: Model,
    x: Any,
    factors: Any,
    *,
    method: Literal["trees", "lasso"] = "trees",
    seed: int = 0,
) -> DCI:
    """Disentanglement, completeness and informativeness of the posterior means as predictors of the factors.

        D = sum_u rho_u (1 - H_K(P_u)),   P_uk = R_uk / sum_k R_uk,   rho_u = sum_k R_uk / sum_uk R_uk
        C = mean_k (1 - H_U(R_.k / sum_u R_uk)),   entropies H in base K and U

    factors  `[N]` or `[N, K]`, the true factors: whole numbers are classes, others are numbers; a dict gives
             them names
    method   R from "trees": the importances of gradient boosted trees; "lasso": absolute coefficients of L1
             regularised linear regression on standardised codes, its strength cross-validated; of classes,
             the regression of each one's indicator

    Informativeness is measured on a quarter of the rows, which the predictors have not seen. Categorical
    latents, whose codes are no numbers, are left out. Raises ValueError for factors of another length, of one
    value or with missing ones, fewer than two units or 20 rows, and an unknown method.

    Eastwood & Williams (2018), "A framework for the quantitative evaluation of disentangled representations",
    section 2.
    """
    if method not in METHODS:
        known = ", ".join(map(repr, METHODS))
        raise ValueError(f"method {method!r} is unknown: use {known}{did_you_mean(str(method), METHODS)}")
    rows = model.rows(x)
    if len(rows) < FEWEST:
        raise ValueError(f"DCI needs at least {FEWEST} rows, got {len(rows)}")
    names = latents_of(model, model.batch(rows, slice(0, 1)))
    kept = tuple(name for name in names if model.p[name].coding is None)
    units = units_of(model, kept)
    if len(units) < 2:
        raise ValueError(
            f"DCI compares units, and needs at least two that are numbers; there are {len(units)}"
        )
    means = model.encode(rows)
    by_name = means if isinstance(means, Mapping) else {names[0]: means}
    parts = [by_name[name].double().cpu().reshape(len(rows), -1) for name in kept]
    codes: Floats = torch.cat(parts, 1).numpy()
    columns = named_factors(factors, len(rows))
    order = np.random.default_rng(seed).permutation(len(rows))
    cut = max(1, round(HELD_OUT * len(rows)))
    found = [
        _predict(codes, column, order[cut:], order[:cut], name, method, seed)
        for name, column in columns.items()
    ]
    importance = np.stack([one for one, _ in found], 1)
    by_factor = np.array([score for _, score in found])
    disentangled, complete = scores_of(importance)
    return DCI(disentangled, complete, float(by_factor.mean()), importance, by_factor, units, tuple(columns))


def scores_of(importance: Floats) -> tuple[float, float]:
    """Disentanglement and completeness of a matrix of importances `[U, K]`.

    With a single factor every unit is perfectly disentangled, as the definition has it.
    """
    whole = importance.sum()
    if whole <= 0:
        return 0.0, 0.0
    weights = importance.sum(1) / whole
    disentangled = float((weights * (1 - _entropies(importance))).sum())
    return disentangled, float((1 - _entropies(importance.T)).mean())


def _entropies(matrix: Floats) -> Floats:
    """The entropy of each row's shares, in units of the uniform distribution's; 1 for a row of zeros."""
    count = matrix.shape[1]
    if count == 1:
        return np.zeros(len(matrix))
    total = matrix.sum(1, keepdims=True)
    shares = np.where(total > 0, matrix / np.where(total > 0, total, 1), 1 / count)
    logs = np.log(np.where(shares > 0, shares, 1))
    found: Floats = -(shares * logs).sum(1) / math.log(count)
    return found


def _predict(
    codes: Floats,
    column: NDArray[Any],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    name: str,
    method: str,
    seed: int,
) -> tuple[Floats, float]:
    """The units' importances for a factor, summing to 1, `[U]`; and how well it is predicted, held out."""
    if len(np.unique(column[train])) < 2:
        raise ValueError(f"{name!r} has one value among the rows that DCI trains on: take more rows")
    predict = _by_trees if method == "trees" else _by_lasso
    importance, score = predict(codes, column, train, test, seed)
    total = importance.sum()
    return (importance / total if total > 0 else importance), score


def _by_trees(
    codes: Floats, column: NDArray[Any], train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> tuple[Floats, float]:
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    if column.dtype.kind == "f":
        trees = GradientBoostingRegressor(n_estimators=TREES, random_state=seed)
        trees.fit(codes[train], column[train])
        error = np.square(column[test] - trees.predict(codes[test])).sum()
        plain = np.square(column[test] - column[train].mean()).sum()
    else:
        trees = GradientBoostingClassifier(n_estimators=TREES, random_state=seed)
        trees.fit(codes[train], column[train])
        levels, counts = np.unique(column[train], return_counts=True)
        error = (column[test] != trees.predict(codes[test])).sum()
        plain = (column[test] != levels[counts.argmax()]).sum()
    return np.asarray(trees.feature_importances_, dtype=np.float64), _score(error, plain)


def _by_lasso(
    codes: Floats, column: NDArray[Any], train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> tuple[Floats, float]:
    """Of classes, each one's indicator is regressed on the codes."""
    from sklearn.linear_model import LassoCV

    scale = codes[train].std(0)
    inputs = (codes - codes[train].mean(0)) / np.where(scale > 0, scale, 1)
    targets = [column.astype(np.float64)]
    if column.dtype.kind != "f":
        targets = [(column == level).astype(np.float64) for level in np.unique(column[train])]
    importance, error, plain = np.zeros(codes.shape[1]), 0.0, 0.0
    for target in targets:
        lasso = LassoCV(cv=5, random_state=seed, max_iter=10_000).fit(inputs[train], target[train])
        importance = importance + np.abs(lasso.coef_)
        error += float(np.square(target[test] - lasso.predict(inputs[test])).sum())
        plain += float(np.square(target[test] - target[train].mean()).sum())
    return importance, _score(error, plain)


def _score(error: float, plain: float) -> float:
    """1 - error / plain; of rows that need no prediction, 1 without error and 0 with any."""
    return 1.0 - float(error) / float(plain) if plain > 0 else float(error == 0)


def named_factors(factors: Any, count: int) -> dict[str, NDArray[Any]]:
    """The factors by name, `[N]` each. Raises ValueError for another length, one value, and holes."""
    if isinstance(factors, Mapping):
        columns = {str(name): np.asarray(value) for name, value in factors.items()}
    else:
        array = np.asarray(factors)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2:
            raise ValueError(f"factors must be [N] or [N, K], got {list(array.shape)}")
        columns = {f"factor {k}": array[:, k] for k in range(array.shape[1])}
    if not columns:
        raise ValueError("there are no factors")
    for name, column in columns.items():
        if column.shape != (count,):
            raise ValueError(f"{name!r} has shape {list(column.shape)}, and there are {count:,} rows")
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise ValueError(f"{name!r} has missing values: leave those rows out of x and of the factors")
        if len(np.unique(column)) < 2:
            raise ValueError(f"{name!r} has one value only, so there is nothing to know of it")
    return columns


def _codes(name: str, column: NDArray[Any]) -> Tensor:
    """A factor's values as codes 0 ... C - 1, `[N]`."""
    levels, codes = np.unique(column, return_inverse=True)
    if len(levels) > len(column) / 2:
        raise ValueError(
            f"{name!r} has {len(levels):,} values in {len(column):,} rows: MIG needs factors of few values; "
            f"put numbers into bins first"
        )
    return torch.from_numpy(codes.astype(np.int64))
