"""Numbers and verdicts of a comparison in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._words import shortened

if TYPE_CHECKING:
    from .result import Compared, Difference

SIGNS = {"lower": "≥ ", "upper": "≤ ", "estimate": "≈ "}


def plus_minus(value: float, error: float) -> str:
    """A number with its error, to two digits of the error and four decimals at most."""
    if not math.isfinite(value):
        return str(value)
    if not math.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    digits = min(4, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def number_words(row: Compared) -> str:
    """The evidence with its error over rows, and a sign that says what kind of number it is."""
    return SIGNS.get(row.direction, "") + plus_minus(row.mean, row.se)


def kind_words(row: Compared) -> str:
    """The kind of number, with the method where it is not exact."""
    if not row.estimates:
        return ""
    if row.direction in ("exact", "none"):
        return row.direction
    return f"{row.direction}, {row.estimates[0].name}"


def verdict(
    ranked: Sequence[Compared], lead: Difference | None, count: int, unproven: Sequence[str] = ()
) -> str:
    """Which model is best, by how much, what that rests on, and whether it may be chance.

    unproven: those behind the second whose numbers are bounds below that of the best, and no proof
    """
    if not ranked:
        return "No model could be ranked."
    best = ranked[0]
    kind = "exact" if best.direction == "exact" else kind_words(best)
    number = f"{number_words(best)} nats per row on {count:,} test rows ({kind})"
    if len(ranked) == 1 or lead is None:
        return f"{best.name} is the only one that could be ranked: {number}."
    second, size = ranked[1].name, plus_minus(lead.mean, lead.se)
    if lead.kind == "exact":
        claim = f"{best.name} is best: {number}, {size} more than {second}"
    elif lead.kind == "at least":
        claim = f"{best.name} is best: {number}, at least {size} more than {second}"
    else:
        bound = "lower bound" if ranked[1].direction == "lower" else "number"
        claim = (
            f"{best.name} comes first: {number}, {size} above the {bound} of {second}, which is no proof: "
            f"{second} may be better than that"
        )
    if math.isnan(lead.se):
        chance = "one test row cannot tell how sure that is"
    elif lead.is_clear:
        chance = "the difference is beyond two standard errors"
    else:
        chance = "the difference is not beyond two standard errors, so other test rows could turn it around"
    seeds = ""
    if not math.isnan(lead.seeds) and lead.is_clear and abs(lead.mean) <= 2 * lead.seeds:
        seeds = f", but other seeds could turn it around (their standard error is {lead.seeds:.2g})"
    others = ""
    if unproven and lead.kind in ("exact", "at least"):
        one = len(unproven) == 1
        only = "is only a lower bound, which proves" if one else "are only lower bounds, which prove"
        others = f". Of {shortened(unproven, 5)} there {only} no order"
    return f"{claim}; {chance}{seeds}{others}."
