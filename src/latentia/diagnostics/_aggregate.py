"""The aggregated posterior q(z) = (1/N) sum_n q(z | x_n) of N rows, as a density at P points.

S draws for each row, K states, U units: the entries of all latent variables side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..exact import is_discrete
from ..noise import Noise
from ._posteriors import Latents, RowPosteriors, draw
from ._rows import LIVE, batches

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model

ROWS = 250  # encoded at a time
BLOCKS = 20  # of draws, each with a mixture of its own
LARGEST_EVENT = 12  # entries of a discrete variable that may be enumerated


@dataclass(frozen=True)
class Sampled:
    """Draws z_ns ~ q(z | x_n) with their log densities, float64.

    latents  `[S, N, *event]`
    own      log q(z_ns | x_n), `[S, N]`
    log_q    log q(z_ns) of the aggregated posterior, `[S, N]`
    entries  log q(u) of each unit, `[S, N, U]`; None where the marginals have no closed form
    blocks   which of the mixtures each row was weighed by, `[N]`; None where all rows are the mixture
    """

    latents: Latents
    own: Tensor
    log_q: Tensor
    entries: Tensor | None
    blocks: Tensor | None = None

    def mean(self, terms: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of `[S, N]` or `[S, N, U]` and its Monte Carlo standard error, `[]` or `[U]`."""
        samples, rows = terms.shape[:2]
        by_row = terms.mean(0)
        if self.blocks is not None:
            count = int(self.blocks.max()) + 1
            means = torch.stack([by_row[self.blocks == b].mean(0) for b in range(count)])
            return by_row.mean(0), means.std(0) / math.sqrt(count)
        if samples > 1:
            return by_row.mean(0), (terms.var(0) / samples).sum(0).sqrt() / rows
        return by_row.mean(0), by_row.std(0) / math.sqrt(rows)


@torch.no_grad()
def log_sums(
    model: Model, rows: Rows, names: tuple[str, ...], points: Latents
) -> tuple[Tensor, Tensor | None]:
    """log sum_n q(z | x_n) `[P]`, and log sum_n q(u | x_n) of each unit `[P, U]`, at points `[P, *event]`."""
    count = len(points[names[0]])
    joint = torch.full((count,), -math.inf, dtype=torch.float64, device=model.device)
    entries: Tensor | None = None
    for values in batches(model, rows, ROWS):
        q = RowPosteriors(model, values, names)
        step = max(1, LIVE // (q.size * q.width))
        found = []
        for start in range(0, count, step):
            at = slice(start, start + step)
            some = {name: points[name][at].unsqueeze(1) for name in names}
            joint[at] = torch.logaddexp(joint[at], q.log_prob(some).double().logsumexp(1))
            part = q.entries(some)
            found.append(None if part is None else part.double().logsumexp(1))
        known = [part for part in found if part is not None]
        if known:
            whole = torch.cat(known)
            entries = whole if entries is None else torch.logaddexp(entries, whole)
    return joint, entries


@torch.no_grad()
def sampled(model: Model, rows: Rows, names: tuple[str, ...], samples: int, noise: Noise) -> Sampled:
    """Draws of each row, and q(z) as the mixture over all rows, their own among them."""
    latents, own, _ = _drawn(model, rows, names, samples, noise)
    points = {name: latents[name].flatten(0, 1) for name in names}
    joint, entries = log_sums(model, rows, names, points)
    log_n = math.log(len(rows))
    shape = own.shape
    return Sampled(
        latents,
        own,
        joint.reshape(shape) - log_n,
        None if entries is None else entries.reshape(*shape, -1) - log_n,
    )


@torch.no_grad()
def sampled_by_minibatch(
    model: Model, rows: Rows, names: tuple[str, ...], samples: int, mixture: int, noise: Noise
) -> Sampled:
    """The same with `mixture` random rows for all N: q(z) is estimated by the row's own posterior, which
    weighs 1/N, and that of M other rows, which weigh (N - 1) / (N M) each.

    The estimate of q(z) has no bias, so that its logarithm is too small. Chen et al. (2018), section C.2.
    """
    n = len(rows)
    order = torch.randperm(n, generator=noise.generator, device=noise.generator.device).cpu()
    blocks = torch.empty(n, dtype=torch.int64)
    count = min(BLOCKS, n)
    blocks[order] = torch.arange(n) * count // n
    parts = []
    for block in range(count):
        here, others = (blocks == block).nonzero()[:, 0], (blocks != block).nonzero()[:, 0]
        chosen = torch.randperm(len(others), generator=noise.generator, device=noise.generator.device).cpu()
        some = others[chosen[:mixture]]
        latents, own, own_entries = _drawn(model, rows[here], names, samples, noise)
        points = {name: latents[name].flatten(0, 1) for name in names}
        joint, entries = log_sums(model, rows[some], names, points)
        rest = math.log((n - 1) / (n * len(some)))
        log_q = torch.logaddexp(own - math.log(n), joint.reshape(own.shape) + rest)
        if entries is not None and own_entries is not None:
            entries = entries.reshape(own_entries.shape) + rest
            entries = torch.logaddexp(own_entries - math.log(n), entries)
        parts.append((here, Sampled(latents, own, log_q, entries)))
    place = torch.argsort(torch.cat([here for here, _ in parts]))
    found = [part for _, part in parts]
    known = [part.entries for part in found if part.entries is not None]
    return Sampled(
        {name: torch.cat([part.latents[name] for part in found], 1)[:, place] for name in names},
        torch.cat([part.own for part in found], 1)[:, place],
        torch.cat([part.log_q for part in found], 1)[:, place],
        torch.cat(known, 1)[:, place] if known else None,
        blocks,
    )


def _drawn(
    model: Model, rows: Rows, names: tuple[str, ...], samples: int, noise: Noise
) -> tuple[Latents, Tensor, Tensor | None]:
    """Draws `[S, N, *event]`, log q of each given its own row `[S, N]`, and of its units `[S, N, U]`."""
    parts, own, entries = [], [], []
    for values in batches(model, rows, ROWS):
        latents = draw(model, values, names, samples, noise)
        q = RowPosteriors(model, values, names)
        parts.append(latents)
        own.append(q.log_prob(latents).double())
        entries.append(q.entries(latents))
    known = [part.double() for part in entries if part is not None]
    whole = {name: torch.cat([part[name] for part in parts], 1) for name in names}
    return whole, torch.cat(own, 1), torch.cat(known, 1) if known else None


def states_of(model: Model, names: tuple[str, ...], most: int) -> Latents | None:
    """Every joint state of latents that are all discrete, `[K, *event]`; None where they are more than
    `most`, or where one is continuous.
    """
    factors = [model.p[name] for name in names]
    if not all(is_discrete(f) and math.prod(f.event) <= LARGEST_EVENT for f in factors):
        return None
    supports = [factor.support() for factor in factors]
    sizes = [len(support) for support in supports]
    if math.prod(sizes) > most:
        return None
    places = torch.unravel_index(torch.arange(math.prod(sizes), device=supports[0].device), sizes)
    return {n: support[at] for n, support, at in zip(names, supports, places, strict=True)}


@torch.no_grad()
def mean_over_states(
    model: Model, rows: Rows, names: tuple[str, ...], states: Latents, log_p: Tensor
) -> float:
    """The mean over rows of KL(q(z | x) || p(z)), exactly; log_p: log p of the states, `[K]`."""
    found, points = 0.0, {name: value.unsqueeze(1) for name, value in states.items()}
    for values in batches(model, rows, ROWS):
        log_q = RowPosteriors(model, values, names).log_prob(points).double()  # [K, B]
        found += float(weighed(log_q, log_q - log_p.unsqueeze(1)).sum())
    return found / len(rows)


def weighed(log_q: Tensor, terms: Tensor) -> Tensor:
    """q(z) f(z), zero where q(z) is."""
    return torch.where(log_q == -math.inf, torch.zeros_like(terms), log_q.exp() * terms)
