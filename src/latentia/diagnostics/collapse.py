"""Whether the posterior has collapsed to the prior, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exact import is_discrete
from .units import active_units, count_active, total_kl

if TYPE_CHECKING:
    from ..model import Model

COLLAPSED = 0.1  # nats: a total KL below this says nothing about x
MORE_USE = (
    "a warm-up of beta (linear_warmup, --warmup), free bits (--free-bits), a smaller beta, or networks of "
    "more capacity"
)
MORE_USE_OF_CODES = (
    "more samples of rws or vimco (samples=, --samples), whose bounds cost an idle unit less, a smaller "
    "learning rate, or networks of more capacity"
)


def collapse_warning(model: Model, rows: Any) -> str | None:
    """A sentence with its remedy when the posterior has collapsed on these rows, wholly or in most units;
    else None.

    Collapsed: the total KL is below 0.1 nat, or no unit is active. Mostly collapsed: fewer than half of
    the units are active. The remedies are those of the elbo, or of bounds of several samples where all
    latents are discrete.

    Bowman et al. (2016), "Generating sentences from a continuous space"; Lucas et al. (2019), "Don't
    blame the ELBO!".
    """
    rows = model.rows(rows)
    if not model.latent or any(
        model.q is not None and not model.q[name].has_density for name in model.latent
    ):
        return None
    remedies = MORE_USE_OF_CODES if all(is_discrete(model.p[v]) for v in model.latent) else MORE_USE
    kl = total_kl(model, rows)
    used, units = count_active(active_units(model, rows)) if len(rows) > 1 else (0, 0)
    counts = f", {used} of {units} units active" if units else ""
    if kl < COLLAPSED:
        return (
            f"The posterior has collapsed: q(z | x) is the prior whatever x is (KL {kl:.2g} nats{counts}), "
            f"so z says nothing about x. Fit again with {remedies}."
        )
    if units and used == 0:
        return (
            f"The posterior has collapsed: the mean of q(z | x) is the same whatever x is (KL {kl:.2g} nats"
            f"{counts}), so z says next to nothing about x. Fit again with {remedies}."
        )
    if used < units / 2:
        return (
            f"Most of the posterior has collapsed: {used} of {units} latent units are active, and the "
            f"others follow the prior. A smaller latent size would do as well; to use more units, fit with "
            f"{remedies}."
        )
    return None
