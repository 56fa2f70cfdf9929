"""Diagnostics: which latent units are used, what each costs, and whether the posterior has collapsed.

N rows; u is one latent unit, an entry of a latent variable's event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .factors.kl import closed_kl_entries
from .noise import Noise
from .objectives.elbo import analytic_kl, elbo

if TYPE_CHECKING:
    from .data import Rows
    from .model import Model

ACTIVE = 0.01  # the variance above which Burda et al. call a unit active
COLLAPSED = 0.1  # nats: a total KL below this says nothing about x
CHUNK = 1000
MORE_USE = (
    "a warm-up of beta (linear_warmup, --warmup), free bits (--free-bits), a smaller beta, or networks of "
    "more capacity"
)

PerUnit = Tensor | dict[str, Tensor]


def activity(model: Model, rows: Any) -> PerUnit:
    """Var_x E_q(u|x)[u] of each latent unit, float64 `[*event]`: how much its posterior mean moves with
    the data.

    A dict for several latent variables; categorical ones, whose codes have no variance, are left out.
    Raises ValueError for fewer than two rows, and for a model without a density q.

    Burda, Grosse & Salakhutdinov (2016), section 5.2.
    """
    if not model.latent:
        model.require_density()
        raise ValueError(f"{model.p.equation()} has no latent variables, and so no units")
    rows = model.rows(rows)
    if len(rows) < 2:
        raise ValueError("a variance over rows needs at least two of them")
    means = model.encode(rows)
    named = means if isinstance(means, Mapping) else {model.latent[0]: means}
    found = {
        name: mean.double().var(0, correction=0)
        for name, mean in named.items()
        if name in model.p and model.p[name].coding is None
    }
    return _one_or_all(found)


def active_units(model: Model, rows: Any, threshold: float = ACTIVE) -> PerUnit:
    """Whether each latent unit is active, Var_x E_q(u|x)[u] > threshold: bool `[*event]`, or a dict as in
    `activity`.

    Burda, Grosse & Salakhutdinov (2016), section 5.2.
    """
    found = activity(model, rows)
    if isinstance(found, Mapping):
        return {name: variance > threshold for name, variance in found.items()}
    return found > threshold


def kl_per_dimension(model: Model, rows: Any, seed: int = 0) -> PerUnit | None:
    """Mean over the rows of KL(q(u | x) || p(u | .)) in nats, float64 `[*event]` for each latent
    variable: a dict for several.

    It is the closed form, and so exists where both distributions factorise over the event; other
    variables are left out, and None says that none is left (a full or low-rank q has one KL for the whole
    vector). Where p(u | .) has latent parents they are drawn once per row, by `seed`.
    """
    model.require_density()
    if model.q is None:
        return None
    noise = Noise(seed, model.device, model.dtype)
    rows = model.rows(rows)
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for values in _batches(model, rows):
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
    return _one_or_all({name: part.cpu() / len(rows) for name, part in sums.items()}) if sums else None


def total_kl(model: Model, rows: Any, seed: int = 0) -> float:
    """Mean over the rows of the ELBO's KL term, in nats: E_q[log q(z | x) - log p(z)], in closed form
    where there is one.
    """
    model.require_density()
    rows, noise, total = model.rows(rows), Noise(seed, model.device, model.dtype), 0.0
    with torch.no_grad():
        for values in _batches(model, rows):
            terms = elbo(model.p, model.q, values, noise).terms
            total += float(terms["kl"].double().sum()) if "kl" in terms else 0.0
    return total / len(rows)


def collapse_warning(model: Model, rows: Any) -> str | None:
    """A sentence with its remedy when the posterior has collapsed on these rows, wholly or in most units;
    else None.

    Collapsed: the total KL is below 0.1 nat, or no unit is active. Mostly collapsed: fewer than half of
    the units are active.

    Bowman et al. (2016), "Generating sentences from a continuous space"; Lucas et al. (2019), "Don't
    blame the ELBO!".
    """
    rows = model.rows(rows)
    if not model.latent or any(
        model.q is not None and not model.q[name].has_density for name in model.latent
    ):
        return None
    kl = total_kl(model, rows)
    used, units = count_active(active_units(model, rows)) if len(rows) > 1 else (1, 1)
    if kl < COLLAPSED or (units and used == 0):
        return (
            f"The posterior has collapsed: q(z | x) is the prior whatever x is (KL {kl:.2g} nats, "
            f"{used} of {units} units active), so z says nothing about x. Fit again with {MORE_USE}."
        )
    if used < units / 2:
        return (
            f"Most of the posterior has collapsed: {used} of {units} latent units are active, and the "
            f"others follow the prior. A smaller latent size would do as well; to use more units, fit with "
            f"{MORE_USE}."
        )
    return None


def count_active(active: PerUnit) -> tuple[int, int]:
    """How many units are active, and of how many."""
    tensors = list(active.values()) if isinstance(active, Mapping) else [active]
    return sum(int(t.sum()) for t in tensors), sum(math.prod(t.shape) for t in tensors)


def _batches(model: Model, rows: Rows) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(rows), CHUNK):
        yield model.batch(rows, slice(start, start + CHUNK))


def _one_or_all(values: dict[str, Tensor]) -> PerUnit:
    return next(iter(values.values())) if len(values) == 1 else values
