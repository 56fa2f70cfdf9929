"""Which latent units are used, and what each costs.

N rows; u is one latent unit, an entry of a latent variable's event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..factors.kl import closed_kl_entries
from ..joint import is_latent
from ..noise import Noise
from ..objectives.elbo import analytic_kl, elbo
from ._rows import PerUnit, batches, one_or_all

if TYPE_CHECKING:
    from ..model import Model

ACTIVE = 0.01  # the variance above which Burda et al. call a unit active
DRAWS = 10  # a row, of a KL without closed form: by a single one it may well be negative


def activity(model: Model, rows: Any) -> PerUnit:
    """Var_x E_q(u|x)[u] of each latent unit, float64 `[*event]`: how much its posterior mean moves with
    the data.

    The mean is that of `Model.encode`: of q(u | parents), latent parents at their own means (mean field).
    A dict for several latent variables; categorical ones, whose codes have no variance, are left out.
    Raises ValueError for fewer than two rows, and for a model without a density q.

    Burda, Grosse & Salakhutdinov (2016), section 5.2.
    """
    return one_or_all(unit_variances(model, rows))


def unit_variances(model: Model, rows: Any) -> dict[str, Tensor]:
    """`activity` by name, of however many variables."""
    if not model.latent:
        model.require_density()
        raise ValueError(f"{model.p.equation()} has no latent variables, and so no units")
    rows = model.rows(rows)
    if len(rows) < 2:
        raise ValueError("a variance over rows needs at least two of them")
    means, first = model.encode(rows), model.batch(rows, slice(1))
    named = (
        means if isinstance(means, Mapping) else {next(n for n in model.latent if is_latent(n, first)): means}
    )
    return {
        name: mean.double().var(0, correction=0)
        for name, mean in named.items()
        if name in model.p and model.p[name].coding is None
    }


def active_units(model: Model, rows: Any, threshold: float = ACTIVE) -> PerUnit:
    """Whether each latent unit is active, Var_x E_q(u|x)[u] > threshold: bool `[*event]`, or a dict as in
    `activity`.

    Burda, Grosse & Salakhutdinov (2016), section 5.2.
    """
    found = activity(model, rows)
    if isinstance(found, Mapping):
        return {name: variance > threshold for name, variance in found.items()}
    return found > threshold


def count_active(active: PerUnit) -> tuple[int, int]:
    """How many units are active, and of how many."""
    tensors = list(active.values()) if isinstance(active, Mapping) else [active]
    return sum(int(t.sum()) for t in tensors), sum(math.prod(t.shape) for t in tensors)


def kl_per_dimension(model: Model, rows: Any, seed: int = 0) -> PerUnit | None:
    """Mean over the rows of KL(q(u | .) || p(u | .)) in nats, float64 `[*event]` for each latent
    variable: a dict for several.

    It is the closed form, and so exists where both distributions factorise over the event and p(u | .) has
    no parent that q draws after u; other variables are left out, and None says that none is left (a full or
    low-rank q has one KL for the whole vector). Latent parents are drawn once per row, by `seed`: of
    q(z1 | x) q(z2 | z1) and p(z2) p(z1 | z2), z2 has E_q(z1|x) KL(q(u | z1) || p(u)), which is not the KL
    of q(u | x), and z1 has none.
    """
    return one_or_all(found) if (found := unit_kls(model, rows, seed)) else None


def unit_kls(model: Model, rows: Any, seed: int = 0) -> dict[str, Tensor]:
    """`kl_per_dimension` by name, of however many variables."""
    model.require_density()
    if model.q is None:
        return {}
    noise = Noise(seed, model.device, model.dtype)
    rows = model.rows(rows)
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for values in batches(model, rows):
            done = model.q.complete(values, noise)
            for name, pair in analytic_kl(model.p, model.q, done).items():
                entries = closed_kl_entries(*pair)
                if entries is None:
                    continue
                event = model.p[name].event
                entries = entries.double().reshape(-1, *event)  # [B or S * B, *event]
                size = len(next(iter(values.values())))
                part = entries.mean(0) * size
                sums[name] = part if name not in sums else sums[name] + part
    return {name: part.cpu() / len(rows) for name, part in sums.items()}


def total_kl(model: Model, rows: Any, seed: int = 0) -> float:
    """Mean over the rows of the ELBO's KL term, in nats: E_q[log q(z | x) - log p(z)], in closed form
    where there is one, else by 10 draws a row.
    """
    model.require_density()
    rows, noise, total = model.rows(rows), Noise(seed, model.device, model.dtype), 0.0
    with torch.no_grad():
        for values in batches(model, rows):
            terms = elbo(model.p, model.q, values, noise, samples=DRAWS).terms
            total += float(terms["kl"].double().sum()) if "kl" in terms else 0.0
    return total / len(rows)
