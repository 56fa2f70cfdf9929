"""An evaluation as lines and tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.text import Text

from .bounds import MANNER, bounds, cautions, explained, ways_of
from .measured import Criteria, Evaluation
from .output import Shown, grid
from .requested import requested
from .units import units

SHOWN = 20  # components listed one by one
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
    return f"{head}: {best.of} {sign} {best.mean:.2f}{error} nats per {example} ({kind}{bits}{doubt})"


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
        yield Text(f"weight: p({name}); share of rows: the mean of p({name} | x) over {found.chosen}.")
