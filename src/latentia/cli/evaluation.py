"""An evaluation as lines and tables for people, and as plain numbers for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.table import Table

from ..diagnostics import ACTIVE, count_active
from ..evidence import Estimate
from ..exact import is_discrete
from .evaluate import Criteria, Evaluation
from .runs import Chosen

SHOWN = 20  # latent dimensions listed one by one
SIGNS = {"lower": "≥", "exact": "=", "upper": "≤", "estimate": "≈"}


def report(found: Evaluation) -> list[Table | str]:
    """A line to quote, the numbers side by side, what they are, the latent units, a warning if need be."""
    parts: list[Table | str] = [quotable(found), "", bounds(found), "", *explained(found)]
    if found.criteria is not None:
        parts += ["", *priced(found.criteria)]
    if found.shares:
        parts += ["", *components(found)]
    if found.kl or found.activity:
        parts += ["", *units(found)]
    if found.warning is not None:
        parts += ["", f"Warning: {found.warning}"]
    return parts


def quotable(found: Evaluation) -> str:
    """One line that can stand alone."""
    chosen, best = found.estimates[-1]
    example = _example(found)
    error = "" if math.isnan(best.se) else f" ± {best.se:.2g}"
    head = f"{found.opened.folder} on {chosen}"
    if best.direction == "none":
        return f"{head}: {best.name} = {best.mean:.2f}{error} nats per {example}, no evidence"
    name = "exact" if best.direction == "exact" else best.name
    bits = f", {best.bits_per_dimension:.3f} bits per dimension" if found.opened.is_image else ""
    sign = SIGNS[best.direction]
    return f"{head}: log p(x) {sign} {best.mean:.2f}{error} nats per {example} ({name}{bits})"


def bounds(found: Evaluation) -> Table:
    """The estimates side by side: exact ones by split, others by their names, the ELBO with its terms."""
    direction = found.estimates[-1][1].direction
    drawn, bits = direction not in ("exact", "none"), direction != "none" and found.opened.is_image
    table = _table(f"nats per {_example(found)}")
    headings = ["mean", "± rows", *(["± Monte Carlo", "draws"] if drawn else ["rows"]), *["bits/dim"] * bits]
    for heading in headings:
        table.add_column(heading, justify="right")
    for chosen, one in found.estimates:
        cells = [f"{one.mean:.3f}", _error(one.se)]
        cells += [_error(one.mc_error), f"{one.samples:,}"] if drawn else [f"{len(chosen.rows):,}"]
        cells += [f"{one.bits_per_dimension:.3f}"] if bits else []
        table.add_row(chosen.split or one.name if direction == "exact" else one.name, *cells)
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
    (_, first), (_, last), model = found.estimates[0], found.estimates[-1], found.opened.model
    if first.direction == "none":
        yield f"{first.caution}."
    elif first.direction == "exact":
        ways = [f"{n} is {'summed' if is_discrete(model.p[n]) else 'integrated'} out" for n in model.latent]
        how = " and ".join(ways) or "Nothing is latent"
        if any(model.p[name].is_bayesian for name in model.p):
            how += " given what was learnt of the parameters"
            yield "log p(x) is that of a new row: for the model's own evidence see the bound of its fit."
        yield f"{how}: log p(x) is exact. ± rows: standard error over rows, what other rows would change."
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
    schema = model.schema
    if schema is None or last.units == "model":
        yield "Densities in the model's own units."
    elif schema.likelihood == "bernoulli":
        yield f"Probabilities of {schema.units}: not to be compared with densities."
    else:
        yield f"Densities in {schema.units}, the log-Jacobian of preprocessing included."


def priced(criteria: Criteria) -> Iterator[str]:
    """The information criteria."""
    yield (
        f"BIC {criteria.bic:,.1f}, AIC {criteria.aic:,.1f}: {criteria.parameters:,} free parameters, "
        f"{criteria.rows:,} training rows."
    )
    yield (
        "BIC = -2 N mean log p(x) + k log N, AIC = -2 N mean log p(x) + 2 k. Lower is better, among models "
        "of the same rows."
    )


def components(found: Evaluation) -> Iterator[Table | str]:
    """How much of the rows each component holds, beside its weight, the largest first."""
    for name, (weights, shares) in found.shares.items():
        table = _table(name)
        for heading in ("weight", "share of rows"):
            table.add_column(heading, justify="right")
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
        yield f"weight: p({name}); share of rows: the mean of p({name} | x) over the {found.chosen}."


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
        "estimates": [_plain_estimate(found, chosen, one) for chosen, one in found.estimates],
        **({} if found.criteria is None else {"criteria": asdict(found.criteria)}),
        **({} if not found.shares else {"components": _plain_shares(found)}),
        "kl_per_dimension": {name: kl.tolist() for name, kl in found.kl.items()} or None,
        "activity": {name: variance.tolist() for name, variance in found.activity.items()} or None,
        "active_units": {n: int((v > ACTIVE).sum()) for n, v in found.activity.items()} or None,
        "warning": found.warning,
    }


def _plain_estimate(found: Evaluation, chosen: Chosen, one: Estimate) -> dict[str, Any]:
    """One estimate; what draws alone have is left out where there are none."""
    drawn = {"mc_error": _number(one.mc_error), "samples": one.samples, "terms": terms_of(one)}
    return {
        "name": one.name,
        "split": chosen.split,
        "rows": len(chosen.rows),
        "mean": _number(one.mean),
        "se": _number(one.se),
        "direction": one.direction,
        "method": one.method,
        **(drawn if one.direction != "exact" else {}),
        "bits_per_dimension": _number(one.bits_per_dimension) if found.opened.is_image else None,
    }


def _plain_shares(found: Evaluation) -> dict[str, dict[str, list[float]]]:
    return {
        name: {"weights": weights.tolist(), "shares": shares.tolist()}
        for name, (weights, shares) in found.shares.items()
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
