"""An evaluation as lines and tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.text import Text

from ..diagnostics import ACTIVE, count_active
from .bounds import MANNER, bounds, cautions, explained, ways_of
from .measured import Criteria, Evaluation
from .output import Shown, grid
from .requested import requested

SHOWN = 20  # latent dimensions listed one by one
SIGNS = {"lower": "≥", "exact": "=", "upper": "≤", "estimate": "≈"}


def report(found: Evaluation) -> list[Shown]:
    """A line to quote, the numbers in order and what they are, the latent units, what else was asked for."""
    parts: list[Shown] = [quotable(found), "", bounds(found), "", *explained(found)]
    warnings = [f"Warning: {text}" for text in cautions(found)]
    if warnings:
        parts += ["", *map(Text, warnings)]
    if found.criteria is not None:
        parts += ["", *priced(found.criteria)]
    if found.shares:
        parts += ["", *components(found)]
    if found.kl or found.activity:
        parts += ["", *units(found)]
    if found.warning is not None:
        parts += ["", Text(f"Warning: {found.warning}")]
    for part in requested(found):
        parts += ["", *part]
    return parts


def quotable(found: Evaluation) -> str:
    """One line that can stand alone."""
    told = found.best
    best, example = told.estimate, found.example
    error = "" if math.isnan(best.se) else f" ± {best.se:.2g}"
    head = f"{found.opened.folder} on {told.chosen}"
    if best.direction == "none":
        return f"{head}: {best.name} = {best.mean:.2f}{error} nats per {example}, no evidence"
    kind = "exact" if best.direction == "exact" else f"{MANNER[best.direction]} by {ways_of(found, told)}"
    bits = f", {best.bits_per_dimension:.3f} bits per dimension" if found.opened.is_image else ""
    doubt = "; see the warning" if best.caution else ""
    sign = SIGNS[best.direction]
    return f"{head}: log p(x) {sign} {best.mean:.2f}{error} nats per {example} ({kind}{bits}{doubt})"


def priced(criteria: Criteria) -> Iterator[Text]:
    """The information criteria."""
    yield Text(
        f"BIC {criteria.bic:,.1f}, AIC {criteria.aic:,.1f}: {criteria.parameters:,} free parameters, "
        f"{criteria.rows:,} training rows."
    )
    yield Text(
        "BIC = -2 N mean log p(x) + k log N, AIC = -2 N mean log p(x) + 2 k. Lower is better, among models "
        "of the same rows."
    )


def components(found: Evaluation) -> Iterator[Shown]:
    """How much of the rows each component holds, beside its weight, the largest first."""
    for name, (weights, shares) in found.shares.items():
        table = grid(name, "weight", "share of rows")
        table.add_column("")
        largest = max(float(shares.max()), 1e-12)
        order = shares.argsort(descending=True, stable=True).tolist()
        for k in order[:SHOWN]:
            bar = "█" * round(24 * float(shares[k]) / largest)
            table.add_row(str(k), f"{float(weights[k]):.3f}", f"{float(shares[k]):.3f}", bar)
        yield table
        if len(order) > SHOWN:
            rest = float(shares[order[SHOWN:]].sum())
            yield f"and {len(order) - SHOWN:,} more, {rest:.3f} of the rows together"
        yield Text(f"weight: p({name}); share of rows: the mean of p({name} | x) over the {found.chosen}.")


def units(found: Evaluation) -> Iterator[Shown]:
    """KL and activity of each latent dimension, the largest first, and how many units are active."""
    kls, activities = found.kl, found.activity
    entries: list[tuple[str, float | None, float | None]] = []
    for name in {**kls, **activities}:
        size = (kls if name in kls else activities)[name].numel()
        kl = kls[name].flatten().tolist() if name in kls else [None] * size
        variance = activities[name].flatten().tolist() if name in activities else [None] * size
        entries += [(f"{name}[{i}]", kl[i], variance[i]) for i in range(size)]
    entries.sort(key=lambda entry: -max(entry[1] or 0.0, 0.0 if entry[1] is not None else entry[2] or 0.0))
    table = grid("latent", *["KL, nats"] * bool(kls), *["Var E[u | x]"] * bool(activities))
    table.add_column("")
    largest = max((kl for _, kl, _ in entries if kl is not None), default=0.0)
    for unit, kl_u, variance_u in entries[:SHOWN]:
        bar = "█" * round(24 * kl_u / largest) if kl_u is not None and largest > 0 else ""
        idle = variance_u is not None and variance_u <= ACTIVE
        cells = [value for value, there in ((kl_u, kls), (variance_u, activities)) if there]
        table.add_row(
            unit, *("" if v is None else f"{v:.3f}" for v in cells), bar or ("idle" if idle else "")
        )
    yield table
    if len(entries) > SHOWN:
        rest = [kl for _, kl, _ in entries[SHOWN:] if kl is not None]
        yield f"and {len(entries) - SHOWN:,} more{f', {sum(rest):.3f} nats together' if rest else ''}"
    if kls:
        yield Text("KL: what q(u | x) says of x beyond p(u), on average over the rows.")
    else:
        yield Text("KL per dimension: there is none, since q does not factorise over the latent dimensions.")
    if activities:
        used, total = count_active({name: variance > ACTIVE for name, variance in activities.items()})
        rule = f"variance of E[u | x] over rows above {ACTIVE}; Burda et al., 2016"
        yield Text(f"Active units: {used} of {total} ({rule}).")
