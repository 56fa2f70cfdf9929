"""An evaluation as lines and tables for people, and as plain numbers for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from ..diagnostics import ACTIVE, count_active
from ..evidence import Estimate
from .evaluate import Evaluation

SHOWN = 20  # latent dimensions listed one by one
SIGNS = {"lower": "≥", "exact": "=", "upper": "≤", "estimate": "≈"}


def report(found: Evaluation) -> list[Table | str]:
    """A line to quote, the bounds side by side, what they are, the latent units, a warning if need be."""
    parts: list[Table | str] = [quotable(found), "", bounds(found), "", *explained(found)]
    if found.kl or found.activity:
        parts += ["", *units(found)]
    if found.warning is not None:
        parts += ["", f"Warning: {found.warning}"]
    return parts


def quotable(found: Evaluation) -> str:
    """One line that can stand alone."""
    best, example = found.estimates[-1], _example(found)
    error = "" if math.isnan(best.se) else f" ± {best.se:.2g}"
    head = f"{found.opened.folder} on {found.chosen}"
    if best.direction == "none":
        return f"{head}: {best.name} = {best.mean:.2f}{error} nats per {example}, no evidence"
    bits = f", {best.bits_per_dimension:.3f} bits per dimension" if found.opened.is_image else ""
    sign = SIGNS[best.direction]
    return f"{head}: log p(x) {sign} {best.mean:.2f}{error} nats per {example} ({best.name}{bits})"


def bounds(found: Evaluation) -> Table:
    """The bounds side by side, the ELBO with its terms."""
    evidence = found.estimates[0].direction != "none"
    bits = evidence and found.opened.is_image
    table = _table(f"nats per {_example(found)}")
    for heading in [
        "mean",
        "± rows",
        *(["± Monte Carlo", "draws"] if evidence else []),
        *["bits/dim"] * bits,
    ]:
        table.add_column(heading, justify="right")
    for one in found.estimates:
        cells = [f"{one.mean:.3f}", _error(one.se)]
        cells += [_error(one.mc_error), f"{one.samples:,}"] if evidence else []
        cells += [f"{one.bits_per_dimension:.3f}"] if bits else []
        table.add_row(one.name, *cells)
        for term, value in terms_of(one).items():
            table.add_row(f"  {'-' if term.startswith('kl') else '+'} {term}", f"{value:.3f}", style="dim")
    return table


def terms_of(estimate: Estimate) -> dict[str, float]:
    """The terms of a bound with what preprocessing adds, so that they sum to it."""
    terms = {} if estimate.direction == "none" else dict(estimate.terms)
    if "kl" in terms:
        rest = estimate.mean - (terms["reconstruction"] - terms["kl"])
        if abs(rest) > 1e-4 * max(1.0, abs(estimate.mean)):
            terms["log-Jacobian"] = rest
    return terms


def explained(found: Evaluation) -> Iterator[str]:
    """What each number is, and in which units."""
    first, last, schema = found.estimates[0], found.estimates[-1], found.opened.model.schema
    if first.direction == "none":
        yield f"{first.caution}."
    elif first.direction == "exact":
        yield "Nothing is latent: log p(x) is exact."
    else:
        yield (
            f"Both are lower bounds on log p(x): the ELBO by {first.samples:,} draws of q(z | x), "
            f"{last.name} by importance\nsampling with {last.samples:,}. What lies between is a part of "
            f"KL(q || posterior)."
        )
        yield (
            "± rows: standard error over rows, what other rows would change; "
            "± Monte Carlo: what another seed would."
        )
    if last.caution and last.direction != "none":
        yield f"{last.caution}."
    if schema is None or last.units == "model":
        yield "Densities in the model's own units."
    elif schema.likelihood == "bernoulli":
        yield f"Probabilities of {schema.units}: not to be compared with densities."
    else:
        yield f"Densities in {schema.units}, the log-Jacobian of preprocessing included."


def units(found: Evaluation) -> Iterator[Table | str]:
    """KL and activity of each latent dimension, the largest first, and how many units are active."""
    kls, activities = found.kl, found.activity
    entries: list[tuple[str, float | None, float | None]] = []
    for name in {**kls, **activities}:
        size = (kls if name in kls else activities)[name].numel()
        kl = kls[name].flatten().tolist() if name in kls else [None] * size
        variance = activities[name].flatten().tolist() if name in activities else [None] * size
        entries += [(f"{name}[{i}]", kl[i], variance[i]) for i in range(size)]
    entries.sort(key=lambda entry: -max(entry[1] or 0.0, 0.0 if entry[1] is not None else entry[2] or 0.0))
    table = _table("latent")
    for heading in [*["KL, nats"] * bool(kls), *["Var E[u | x]"] * bool(activities), ""]:
        table.add_column(heading, justify="right" if heading else "left")
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
    if not kls:
        yield "KL per dimension: there is none, since q does not factorise over the latent dimensions."
    if activities:
        used, total = count_active({name: variance > ACTIVE for name, variance in activities.items()})
        rule = f"variance of E[u | x] over rows above {ACTIVE}; Burda et al., 2016"
        yield f"Active units: {used} of {total} ({rule})."


def plain(found: Evaluation) -> dict[str, Any]:
    """The numbers as JSON holds them; null where there is none."""
    schema = found.opened.model.schema
    return {
        "run": str(found.opened.folder),
        "data": found.chosen.source,
        "split": found.chosen.split,
        "rows": len(found.chosen.rows),
        "units": None if schema is None else schema.units,
        "comparable": None if schema is None else schema.comparable,
        "estimates": [
            {
                "name": one.name,
                "mean": _number(one.mean),
                "se": _number(one.se),
                "mc_error": _number(one.mc_error),
                "direction": one.direction,
                "method": one.method,
                "samples": one.samples,
                "terms": terms_of(one),
                "bits_per_dimension": _number(one.bits_per_dimension) if found.opened.is_image else None,
            }
            for one in found.estimates
        ],
        "kl_per_dimension": {name: kl.tolist() for name, kl in found.kl.items()} or None,
        "activity": {name: variance.tolist() for name, variance in found.activity.items()} or None,
        "active_units": {n: int((v > ACTIVE).sum()) for n, v in found.activity.items()} or None,
        "warning": found.warning,
    }


def _example(found: Evaluation) -> str:
    return "image" if found.opened.is_image else "row"


def _error(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(first)
    return table
