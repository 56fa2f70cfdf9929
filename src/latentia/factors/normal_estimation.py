"""Closed-form estimates of a Normal: sums over examples in float64, and the parameters that maximise them.

K states of a discrete parent (1 for a root factor), D entries of an event, N examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .priors import NormalInverseWishart

FEW_STATES = 12  # up to it a product for each state is faster than one product for all
MANY_ENTRIES = 32  # from it on that holds for more states too, if the share of the
HELD = 0.25  # weights which are no less than
SMALLEST_SHARE = 1e-18  # of their state's largest is this at most: the sums do not tell the others
ROWS = 1024  # examples, and
BLOCK = 2**18  # numbers, that stay in a processor's cache


class Weighted(NamedTuple):
    """Examples with their weights in each state.

    mean        `[N, D]`, or `[K, N, D]` where it differs by state
    covariance  `[..., N or 1, D, D]` of what was not observed, or None
    seen        1 for each entry observed, 0 for the others, of the mean's shape, or None
    weight      `[K, N]`
    """

    mean: Tensor
    covariance: Tensor | None
    seen: Tensor | None
    weight: Tensor


def by_state(
    states: int,
    codes: Tensor,
    mean: Tensor,
    covariance: Tensor | None,
    seen: Tensor | None,
    weight: Tensor,
) -> Weighted:
    """Examples `[*lead, B]`, and codes that broadcast with them, as Weighted, in float64.

    The enumerated states `[K, 1]` stay beside values `[B, D]`; other codes select their state's weights.
    """
    weight = weight.double()
    if seen is not None and seen.ndim == 1:
        weight, seen = weight * seen, None
    mean, seen = mean.double(), None if seen is None else seen.double().expand(mean.shape)
    support = torch.arange(states, device=codes.device).unsqueeze(-1)
    if torch.equal(codes, support) and weight.ndim == 2 and states == len(weight):
        return Weighted(mean, covariance, seen, weight)
    if codes.ndim == 0 and mean.ndim == 2:
        weight = weight.reshape(-1, weight.shape[-1]).sum(0)
    shape = torch.broadcast_shapes(weight.shape, codes.shape)  # type: ignore[no-untyped-call]
    entries = mean.shape[-1]
    mean = mean.expand(*shape, entries).reshape(-1, entries)
    seen = None if seen is None else seen.expand(*shape, entries).reshape(-1, entries)
    if covariance is not None:
        covariance = covariance.expand(*shape, entries, entries).reshape(-1, entries, entries)
    weight, codes = weight.expand(shape).reshape(1, -1), codes.expand(shape).reshape(1, -1)
    if states > 1:
        weight = weight.new_zeros(states, weight.shape[1]).scatter_(0, codes, weight)
    return Weighted(mean, covariance, seen, weight)


def variance_sums(given: Weighted, about: Tensor) -> dict[str, Tensor]:
    """sum w, sum w (x - mu) and sum w (x - mu)^2 by state and entry, `[K, D]`, of the entries observed.

    about: mu, the means at hand `[K, D]`. The sums are first taken about the examples' own mean, so that mu
    may be far from them.
    """
    centre = _centre(given.mean)
    difference, weight = given.mean - centre, given.weight
    square = difference.square()
    if given.covariance is not None:
        square = square + given.covariance.diagonal(dim1=-2, dim2=-1).double()
    if given.seen is None:
        count = weight.sum(1, keepdim=True).expand(about.shape)
    else:
        count = _total(weight, given.seen)
        difference, square = difference * given.seen, square * given.seen
    first, second, shift = _total(weight, difference), _total(weight, square), centre - about
    second = second + 2 * shift * first + count * shift.square()
    return {"count": count, "first": first + count * shift, "second": second}


def scatter_sums(given: Weighted, about: Tensor, tied: bool) -> dict[str, Tensor]:
    """sum w `[K, 1]`, sum w (x - mu) `[K, D]` and sum w (x - mu)(x - mu)^T `[K, D, D]`, or `[D, D]` if tied.

    The arguments are those of `variance_sums`.
    """
    centre, weight = _centre(given.mean), given.weight
    difference, shift = given.mean - centre, centre - about
    if tied and difference.ndim == 2:
        count, first = weight.sum(1, keepdim=True), weight @ difference
        second = (difference * weight.sum(0).unsqueeze(-1)).mT @ difference
    else:
        extended = torch.nn.functional.pad(difference, (1, 0), value=1.0)  # the sums are in one product
        whole = _products(extended, weight)
        count, first, second = whole[:, :1, 0], whole[:, 1:, 0], whole[:, 1:, 1:]
        second = second.sum(0) if tied else second
    if given.covariance is not None:
        inside = given.covariance if given.covariance.ndim == 4 else given.covariance.unsqueeze(0)
        equation = "kn,knij->ij" if tied else "kn,knij->kij"
        second = second + torch.einsum(equation, weight.to(inside), inside).double()
    moved = shifted_scatter(count, first, -shift)
    second = second + (moved.sum(0) if tied else moved)
    return {"count": count, "first": first + count * shift, "second": second}


def shifted_scatter(count: Tensor, first: Tensor, move: Tensor) -> Tensor:
    """What sum w (x - a)(x - a)^T gains when a moves by `move` `[K, D]`: `[K, D, D]`."""
    half = (0.5 * count * move - first).unsqueeze(-1) * move.unsqueeze(-2)
    return half + half.mT


def _centre(mean: Tensor) -> Tensor:
    return mean.reshape(-1, mean.shape[-1]).mean(0)


def _total(weight: Tensor, entries: Tensor) -> Tensor:
    """sum_n weight_kn entries_n, `[K, D]`, for entries `[N, D]` or `[K, N, D]`."""
    return weight @ entries if entries.ndim == 2 else (weight.unsqueeze(1) @ entries).squeeze(1)


def _products(given: Tensor, weight: Tensor) -> Tensor:
    """sum_n weight_kn v_n v_n^T, `[K, E, E]`, for vectors v `[N, E]` or `[K, N, E]`.

    Vectors that belong to few states are multiplied state by state; otherwise the products of entries i and
    j <= i, which do not depend on the state, are formed once.
    """
    if given.ndim == 3:
        return (given * weight.unsqueeze(-1)).mT @ given
    states, entries = len(weight), given.shape[1]
    if states <= FEW_STATES:
        return torch.stack([(given * w.unsqueeze(1)).mT @ given for w in weight])
    if entries >= MANY_ENTRIES:
        held = weight > SMALLEST_SHARE * weight.amax(1, keepdim=True)
        if held.sum() <= HELD * held.numel():
            return torch.stack([_product(given, w, rows) for w, rows in zip(weight, held, strict=True)])
    result = given.new_zeros(states, entries, entries)
    size = max(1, min(ROWS, len(given)))
    step = max(1, min(entries, BLOCK // (size * entries)))
    buffer = given.new_empty(step * entries * size)
    for start in range(0, len(given), ROWS):
        columns, w = given[start : start + ROWS].mT.contiguous(), weight[:, start : start + ROWS]
        for i in range(0, entries, step):
            j = min(i + step, entries)
            products = buffer[: (j - i) * j * columns.shape[1]].view(j - i, j, -1)
            torch.mul(columns[i:j].unsqueeze(1), columns[:j], out=products)
            result[:, i:j, :j] += (w @ products.flatten(0, 1).mT).reshape(states, j - i, j)
    return result.tril() + result.tril(-1).mT


def _product(given: Tensor, weight: Tensor, held: Tensor) -> Tensor:
    rows = held.nonzero().squeeze(1)
    part = given[rows]
    return (part * weight[rows].unsqueeze(1)).mT @ part


@dataclass(frozen=True)
class Pull:
    """What a NormalInverseWishart adds to the sums; without a prior, nothing."""

    mean: Tensor  # m, [D]
    strength: float = 0.0  # kappa
    scatter: float = 0.0  # scale^2
    degrees: float | None = None  # nu

    @staticmethod
    def of(prior: object | None, entries: int, device: torch.device) -> Pull:
        """Raises TypeError for another prior, ValueError for a mean of another number of entries."""
        if prior is None:
            return Pull(torch.zeros(entries, dtype=torch.float64, device=device))
        if not isinstance(prior, NormalInverseWishart):
            raise TypeError(f"the prior of a Normal is a NormalInverseWishart, got {prior}")
        mean = torch.as_tensor(prior.mean, dtype=torch.float64, device=device)
        if mean.ndim and mean.shape != (entries,):
            raise ValueError(f"{prior} has a mean of {mean.numel()} entries, and an event has {entries}")
        return Pull(
            mean.expand(entries), float(prior.strength), float(prior.scale) ** 2, float(prior.degrees)
        )

    def mass(self, size: int, means: int) -> float:
        """nu + size + 1, and 1 for each of the means whose density has this covariance of `size` entries."""
        if self.degrees is None:
            return 0.0
        return self.degrees + size + 1 + (means if self.strength else 0)

    def log_density(self, log_det: Tensor, trace: Tensor, distance: Tensor, mass: float) -> Tensor:
        """-1/2 [mass log det Sigma + scale^2 tr Sigma^-1 + kappa (mu - m)^T Sigma^-1 (mu - m)], summed."""
        return -0.5 * (mass * log_det.sum() + self.scatter * trace.sum() + self.strength * distance.sum())


def constrained_tril(covariance: Tensor, floor: float) -> Tensor:
    """L with L L^T the covariance `[..., D, D]`, eigenvalues below floor^2 raised to it.

    That is the maximum of -log det Sigma - tr(Sigma^-1 S) over Sigma with no eigenvalue below floor^2: with
    the eigenvectors of S, the sum over eigenvalues separates. Eigenvalues below the rounding of the largest
    are raised to that.
    """
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    tril: Tensor = torch.linalg.cholesky_ex(covariance).L
    low = torch.linalg.cholesky_ex(covariance - floor**2 * identity).info > 0
    if low.any():
        values, vectors = torch.linalg.eigh(covariance[low])
        smallest = (torch.finfo(values.dtype).eps * values[:, -1:]).clamp(min=floor**2)
        root = vectors.mT * torch.maximum(values, smallest).sqrt().unsqueeze(-1)
        upper = torch.linalg.qr(root).R
        tril[low] = (upper * upper.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-1)).mT
    return tril


def floor_troubles(name: str, at_floor: Tensor, floor: float) -> list[str]:
    """A sentence that names the states `[K]` with a standard deviation at the floor, unless K = 1."""
    states = at_floor.nonzero().flatten().tolist()
    if not states:
        return []
    shown = ", ".join(map(str, states[:5])) + (" ..." if len(states) > 5 else "")
    where = f" in component {shown}" if len(at_floor) > 1 else ""
    return [
        f"{name!r}: a standard deviation is at its floor of {floor:g}{where}, without which the likelihood "
        f"would grow without end around a few rows, or where the data do not vary: leave out constant "
        f"columns, use fewer components or other starts (starts=, seed=), or raise floor="
    ]


def tril_entries(tril: Tensor) -> Tensor:
    """The diagonal of L `[..., D, D]`, then the entries below it in the order of `tril_indices`."""
    size = tril.shape[-1]
    rows, columns = torch.tril_indices(size, size, offset=-1, device=tril.device)
    return torch.cat([tril.diagonal(dim1=-2, dim2=-1), tril[..., rows, columns]], dim=-1)


def tril_from(diagonal: Tensor, below: Tensor) -> Tensor:
    """The inverse of `tril_entries`, `[..., D, D]`."""
    size = diagonal.shape[-1]
    rows, columns = torch.tril_indices(size, size, offset=-1, device=below.device)
    lower = below.new_zeros(*below.shape[:-1], size, size)
    lower[..., rows, columns] = below
    return lower + torch.diag_embed(diagonal)
