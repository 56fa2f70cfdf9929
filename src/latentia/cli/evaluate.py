"""latentia evaluate RUN: how probable are rows that the model never saw, and what does it use its latent units for?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .options import RowOptions, RunOptions, flag

if TYPE_CHECKING:
    from rich.table import Table

    from ..evidence import Estimate
    from .runs import Chosen, Opened

EXAMPLES = """\
Examples:

  latentia evaluate runs/digits
  latentia evaluate runs/digits --split valid --samples 5000
  latentia evaluate runs/digits other_digits.npz --json > numbers.json"""

SHOWN = 20  # latent dimensions listed one by one


def run(
    folder: Annotated[Path, Parameter(name="RUN", help="A run folder or a model folder.")],
    data: Annotated[str | None, Parameter(help="Other data: all its rows.", show_default="the run's own")] = None,
    /,
    *,
    row_options: RowOptions = RowOptions(),  # noqa: B008 (frozen)
    run_options: RunOptions = RunOptions(),  # noqa: B008
    samples: Annotated[int, flag("K of L_K.", "1000", metavar="K")] = 1000,
    elbo_samples: Annotated[int, flag("Draws of z per row in the ELBO.", "100", metavar="S")] = 100,
    seed: Annotated[int, flag("Of the noise.", "0")] = 0,
    as_json: Annotated[bool, Parameter(name="--json", help="The numbers as JSON.", negative="", show_default=False)] = False,
) -> None:
    """Bound log p(x), with errors, and diagnose the latent units.

    The ELBO and L_K (importance sampling with K draws of q) are both lower bounds on log p(x), in nats per row: larger is
    better, and L_K is the tighter one. Then the KL of each latent dimension and how many units are active.
    """
    from .output import say, show
    from .runs import choose, open_run

    opened = open_run(folder, run_options, data)
    chosen = choose(opened, data, row_options.split, row_options.key, row_options.rows)
    say(f"Estimating on {chosen} ..." if len(chosen.rows) * samples > 2_000_000 else "", quiet=len(chosen.rows) * samples <= 2_000_000)
    numbers = measured(opened, chosen, samples, elbo_samples, seed)
    if as_json:
        show(json.dumps(as_plain(numbers, opened, chosen), indent=2))
        return
    show(quotable(numbers, opened, chosen), "", bounds(numbers["estimates"], opened), "", *explained(numbers["estimates"], opened))
    if numbers["kl"] is not None or numbers["active"] is not None:
        show("", *units(numbers))
    if numbers["warning"]:
        show("", f"Warning: {numbers['warning']}")


def measured(opened: Opened, chosen: Chosen, samples: int, elbo_samples: int, seed: int) -> dict[str, Any]:
    """The estimates and the diagnostics, None where there are none."""
    from ..diagnostics import activity, collapse_warning, kl_per_dimension
    from ..evidence import log_evidence

    model, rows = opened.model, chosen.rows
    estimates = [log_evidence(model, rows, "elbo", elbo_samples, seed=seed)]
    latent = bool(model.latent)
    if latent and estimates[0].direction == "lower":
        estimates.append(log_evidence(model, rows, "importance", samples, seed=seed))
    several = latent and len(rows) > 1
    return {
        "estimates": estimates,
        "kl": by_name(model, kl_per_dimension(model, rows)) if latent else None,
        "active": by_name(model, activity(model, rows)) if several else None,
        "warning": collapse_warning(model, rows) if several else None,
    }


def by_name(model: Any, per_unit: Any) -> dict[str, Any] | None:
    """{latent variable: tensor} of a diagnostic, None where it is."""
    if per_unit is None or isinstance(per_unit, dict):
        return per_unit or None
    return {model.latent[0]: per_unit}


def example(opened: Opened) -> str:
    return "image" if opened.is_image else "row"


def quotable(numbers: dict[str, Any], opened: Opened, chosen: Chosen) -> str:
    """One line that can stand alone."""
    best: Estimate = numbers["estimates"][-1]
    error = "" if math.isnan(best.se) else f" ± {best.se:.2g}"
    per = f"nats per {example(opened)}"
    sign = {"lower": "≥", "exact": "=", "upper": "≤", "estimate": "≈"}
    if best.direction == "none":
        return f"{opened.folder} on {chosen}: log p(x | z(x)) = {best.mean:.2f}{error} {per}; an autoencoder has no evidence"
    bits = f", {best.bits_per_dimension:.3f} bits per dimension" if opened.is_image else ""
    return f"{opened.folder} on {chosen}: log p(x) {sign[best.direction]} {best.mean:.2f}{error} {per} ({best.name}{bits})"


def bounds(estimates: list[Estimate], opened: Opened) -> Table:
    """The bounds side by side, the ELBO with its terms."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(f"nats per {example(opened)}")
    evidence = all(estimate.direction != "none" for estimate in estimates)
    headings = ["mean", "± rows"] + (["± Monte Carlo", "draws"] if evidence else [])
    for heading in headings + (["bits/dim"] if evidence and opened.is_image else []):
        table.add_column(heading, justify="right")
    for estimate in estimates:
        cells = [f"{estimate.mean:.3f}", error(estimate.se)]
        cells += [error(estimate.mc_error), f"{estimate.samples:,}"] if evidence else []
        cells += [f"{estimate.bits_per_dimension:.3f}"] if evidence and opened.is_image else []
        table.add_row(estimate.name if evidence else "log p(x | z(x))", *cells)
        for term, value in terms_of(estimate).items():
            sign = "-" if term.startswith("kl") else "+"
            table.add_row(f"  {sign} {term}", f"{value:.3f}", style="dim")
    return table


def terms_of(estimate: Estimate) -> dict[str, float]:
    """The terms of a bound with what preprocessing adds, so that they sum to it."""
    terms = {} if estimate.direction == "none" else dict(estimate.terms)
    if "kl" in terms:
        rest = estimate.mean - (terms["reconstruction"] - terms["kl"])
        if abs(rest) > 1e-4 * max(1.0, abs(estimate.mean)):
            terms["log-Jacobian of preprocessing"] = rest
    return terms


def error(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"


def explained(estimates: list[Estimate], opened: Opened) -> list[str]:
    """What each number is, and in which units."""
    first = estimates[0]
    schema = opened.model.schema
    units = "the model's own units" if schema is None or first.units == "model" else schema.units
    sentences = []
    if first.direction == "none":
        sentences.append("Reconstructions and no evidence: q computes z and has no density, so nothing here bounds log p(x).")
    elif first.direction == "exact":
        sentences.append("Nothing is latent: log p(x) is exact.")
    else:
        last = estimates[-1]
        sentences.append(
            f"Both are lower bounds on log p(x): the ELBO by {first.samples:,} draws of q(z | x), L_{last.samples} by importance "
            f"sampling with {last.samples:,}. What lies between them is a part of KL(q || posterior)."
        )
        sentences.append("± rows: standard error over rows, what other rows would change; ± Monte Carlo: what another seed would.")
    density = "Probabilities of" if schema is not None and schema.likelihood == "bernoulli" else "Densities in"
    sentences.append(f"{density} {units}{'' if schema is None or schema.likelihood == 'bernoulli' else ', the Jacobian of preprocessing included'}.")
    return sentences


def units(numbers: dict[str, Any]) -> list[Any]:
    """KL and activity of each latent dimension, the largest first, and how many units are active."""
    from rich.table import Table

    from ..diagnostics import ACTIVE

    kls, activities = numbers["kl"] or {}, numbers["active"] or {}
    lines: list[Any] = []
    entries = []
    for name in {**kls, **activities}:
        kl = kls[name].flatten().tolist() if name in kls else None
        active = activities[name].flatten().tolist() if name in activities else None
        for i in range(len(kl or active or [])):
            entries.append((f"{name}[{i}]", None if kl is None else kl[i], None if active is None else active[i]))
    entries.sort(key=lambda entry: -(entry[1] if entry[1] is not None else entry[2] or 0.0))
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("latent")
    for heading in (["KL, nats"] if kls else []) + (["Var E[u | x]"] if activities else []) + [""]:
        table.add_column(heading, justify="right" if heading else "left")
    largest = max((kl for _, kl, _ in entries if kl is not None), default=0.0)
    for name, kl, variance in entries[:SHOWN]:
        bar = "█" * round(24 * kl / largest) if kl is not None and largest > 0 else ""
        idle = variance is not None and variance <= ACTIVE
        cells = ["" if value is None else f"{value:.3f}" for value, there in ((kl, kls), (variance, activities)) if there]
        table.add_row(name, *cells, bar or ("idle" if idle else ""))
    lines.append(table)
    if len(entries) > SHOWN:
        rest = [kl for _, kl, _ in entries[SHOWN:] if kl is not None]
        lines.append(f"and {len(entries) - SHOWN:,} more{f', {sum(rest):.3f} nats together' if rest else ''}")
    if activities:
        used = sum(int((variance > ACTIVE).sum()) for variance in activities.values())
        total = sum(variance.numel() for variance in activities.values())
        lines.append(f"Active units: {used} of {total} (Var over rows of E[u | x] above {ACTIVE}; Burda et al., 2016).")
    if not kls:
        lines.append("KL per dimension: there is none, since q does not factorise over the latent dimensions.")
    return lines


def as_plain(numbers: dict[str, Any], opened: Opened, chosen: Chosen) -> dict[str, Any]:
    """The numbers as JSON holds them; null where there is none."""
    schema = opened.model.schema
    active = numbers["active"]
    return {
        "run": str(opened.folder),
        "data": chosen.source,
        "split": chosen.split,
        "rows": len(chosen.rows),
        "units": None if schema is None else schema.units,
        "comparable": None if schema is None else schema.comparable,
        "estimates": [
            {
                "name": "log p(x | z(x))" if one.direction == "none" else one.name,
                "mean": number(one.mean),
                "se": number(one.se),
                "mc_error": number(one.mc_error),
                "direction": one.direction,
                "method": one.method,
                "samples": one.samples,
                "terms": terms_of(one),
                "bits_per_dimension": number(one.bits_per_dimension) if opened.is_image and one.direction != "none" else None,
            }
            for one in numbers["estimates"]
        ],
        "kl_per_dimension": None if numbers["kl"] is None else {n: kl.tolist() for n, kl in numbers["kl"].items()},
        "activity": None if active is None else {name: variance.tolist() for name, variance in active.items()},
        "active_units": None if active is None else {name: int((v > 0.01).sum()) for name, v in active.items()},
        "warning": numbers["warning"],
    }


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None
