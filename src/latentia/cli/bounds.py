"""The numbers on log p(x) of the same rows: a table in order, what they are, and when not to trust them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from rich.table import Table
from rich.text import Text

from ..data import Schema
from ..evidence import Estimate
from ..evidence.pareto import TRUSTED, threshold
from ..exact import is_discrete
from .measured import Evaluation, Told
from .output import grid

MANNER = {"lower": "lower bound", "upper": "upper bound", "estimate": "estimate"}


def bounds(found: Evaluation) -> Table:
    """Exact evidence by split; or all numbers on the same rows, the loosest lower bound first."""
    nats = f"nats per\n{found.example}"
    columns: dict[str, Callable[[Told], str]] = {
        nats: lambda told: f"{told.estimate.mean:.3f}",
        "±\nrows": lambda told: error(told.estimate.se),
    }
    if found.by_split:
        columns["\nrows"] = lambda told: f"{len(told.chosen.rows):,}"
    else:
        columns["± Monte\nCarlo"] = lambda told: error(told.estimate.mc_error) * is_drawn(told.estimate)
        columns["\nkind"] = lambda told: told.estimate.direction
        columns["\ndraws"] = lambda told: f"{told.estimate.samples:,}" * is_drawn(told.estimate)
        columns["effec-\ntive"] = lambda told: _amount(effective(told.estimate))
        columns["k-hat\nhigh"] = lambda told: _share(heavy_tails(told.estimate))
        columns["\nbias"] = lambda told: error(bias(told.estimate))
    if found.opened.is_image:
        columns["bits/\ndim"] = lambda told: _bits(told.estimate)
    filled = {heading: [cell(told) for told in found.told] for heading, cell in columns.items()}
    shown = {heading: cells for heading, cells in filled.items() if any(cells)}
    table = grid("", *shown, padding=2)
    for i, told in enumerate(found.told):
        name = (told.chosen.split or "") if found.by_split else told.name
        table.add_row(name, *(cells[i] for cells in shown.values()))
    return table


def explained(found: Evaluation) -> Iterator[Text]:
    """What each number is, and in which units."""
    told = found.told
    directions = {one.estimate.direction for one in told}
    for one in told:
        if one.estimate.terms and is_drawn(one.estimate):
            yield Text(f"{one.name} = {sum_of(terms_of(one.estimate))}")
    if directions == {"none"}:
        yield Text(f"{told[0].estimate.caution}.")
    for one in told:
        if is_drawn(one.estimate):
            yield Text(_what(found, one))
    if "exact" in directions:
        yield from _exactly(found)
    yield from _columns(found)
    schema = found.opened.model.schema
    if schema is None or found.best.estimate.units == "model":
        yield Text("Densities in the model's own units.")
    elif _is_discrete(schema):
        yield Text(f"Probabilities of {schema.units}: not to be compared with densities.")
    else:
        yield Text(f"Densities in {schema.units}, the log-Jacobian of preprocessing included.")


def cautions(found: Evaluation) -> Iterator[str]:
    """Why a number is not to be trusted, a sentence each."""
    for one in found.told:
        if one.estimate.caution and one.estimate.direction != "none":
            text = one.estimate.caution.replace("method='ais'", "--methods ais")
            yield f"{one.name}: {text}."


def ways_of(found: Evaluation, told: Told) -> str:
    """How a number was come by, with its samples, in a few words."""
    draws = f"{told.estimate.samples:,} draws"
    return {
        "elbo": f"ELBO, {draws}",
        "importance": f"importance sampling, {told.name}",
        "naive": f"naive Monte Carlo, {draws}",
        "ais": f"AIS, {found.plan.annealing.chains:,} chains of {found.plan.annealing.distributions:,}",
    }.get(told.method, told.name)


def terms_of(estimate: Estimate) -> dict[str, float]:
    """The terms of a bound with what preprocessing adds, so that they sum to it."""
    terms = {} if estimate.direction == "none" else dict(estimate.terms)
    if "kl" in terms:
        rest = estimate.mean - (terms["reconstruction"] - terms["kl"])
        if abs(rest) > 1e-4 * max(1.0, abs(estimate.mean)):
            terms["log-Jacobian"] = rest
    return terms


def sum_of(terms: dict[str, float]) -> str:
    """The terms as a sum, the parts of the KL in brackets behind it."""
    parts = [f"{name} {value:.3f}" for name, value in terms.items() if name.startswith("kl(")]
    whole = [(name, -value if name == "kl" else value) for name, value in terms.items() if name[:3] != "kl("]
    text = ""
    for name, value in whole:
        sign = " - " if value < 0 else " + "
        sign = sign if text else sign.strip(" +")
        text += f"{sign}{abs(value):.3f} {name}"
    return f"{text} ({', '.join(parts)})" if parts else text


def is_drawn(estimate: Estimate) -> bool:
    """Whether its number of samples says something."""
    return estimate.direction not in ("exact", "none")


def effective(estimate: Estimate) -> float:
    """The median effective sample size; NaN where there is none."""
    return math.nan if estimate.effective is None else float(estimate.effective.double().median())


def heavy_tails(estimate: Estimate) -> float:
    """The share of rows with a k-hat above its threshold; NaN where there is none."""
    if estimate.k_hat is None or bool(torch.isnan(estimate.k_hat).all()):
        return math.nan
    return float((estimate.k_hat > threshold(estimate.samples)).double().mean())


def bias(estimate: Estimate) -> float:
    """The mean bias by the delta method, nats per example; NaN where there is none."""
    return math.nan if estimate.bias is None else float(estimate.bias.double().mean())


def error(value: float) -> str:
    """An error with two digits; nothing where it is unknown."""
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.2g}".rstrip(".")


def _what(found: Evaluation, told: Told) -> str:
    draws = f"{told.estimate.samples:,}"
    return {
        "elbo": f"ELBO: by {draws} draws of q(z | x); below log p(x) by KL(q || posterior).",
        "importance": f"{told.name}: importance sampling, the log mean of p(x, z) / q(z | x) over {draws} "
        "draws of q.",
        "naive": f"naive: the log mean of p(x | z) over {draws} draws of the prior.",
        "ais": f"AIS: annealed importance sampling, {found.plan.annealed}.",
    }[told.method]


def _exactly(found: Evaluation) -> Iterator[Text]:
    model = found.opened.model
    summed = [name for name in model.latent if is_discrete(model.p[name])]
    rest = [name for name in model.latent if name not in summed]
    ways = [f"{_all(names)} {way} out" for names, way in ((summed, "summed"), (rest, "integrated")) if names]
    how = " and ".join(ways) or "Nothing is latent"
    if any(model.p[name].is_bayesian for name in model.p):
        how += " given what was learnt of the parameters"
        yield Text("log p(x) is that of a new row: for the model's own evidence see the bound of its fit.")
    others = [one.name for one in found.told if one.estimate.direction == "exact" and one.method != "exact"]
    if others and model.latent:
        how += f", and q is the exact posterior, so that {' and '.join(others)} tell the same"
    yield Text(f"{how}: log p(x) is exact.")


def _all(names: list[str]) -> str:
    """Names with their verb: `k is`, `h2 and h1 are`."""
    *most, last = names
    return f"{', '.join(most)} and {last} are" if most else f"{last} is"


def _columns(found: Evaluation) -> Iterator[Text]:
    """What the columns of the table are."""
    drawn = [one.estimate for one in found.told if is_drawn(one.estimate)]
    parts = []
    if any(not math.isnan(one.estimate.se) for one in found.told):
        parts.append("± rows: standard error over rows, what other rows would change")
    if any(not math.isnan(one.mc_error) for one in drawn):
        parts.append("± Monte Carlo: standard error over draws, what another seed would change")
    if any(one.direction == "lower" for one in drawn):
        parts.append("lower: on average at most log p(x)")
    if parts:
        yield Text(f"{'; '.join(parts)}.")
    parts = []
    if any(not math.isnan(effective(one)) for one in drawn):
        parts.append("effective: the median effective sample size")
    tails = {threshold(one.samples) for one in drawn if not math.isnan(heavy_tails(one))}
    if tails:
        limit = f"{min(tails):.2f}" if len(tails) == 1 else f"1 - 1 / log10(draws), at most {TRUSTED}"
        parts.append(f"k-hat high: the share of rows whose Pareto k-hat is above {limit}")
    if any(not math.isnan(bias(one)) for one in drawn):
        parts.append("bias: E[value] - log p(x) by the delta method")
    if parts:
        yield Text(f"{'; '.join(parts)}.")


def _amount(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"


def _bits(estimate: Estimate) -> str:
    return "" if estimate.direction == "none" else f"{estimate.bits_per_dimension:.3f}"


def _is_discrete(schema: Schema) -> bool:
    """Whether the data have probabilities, and no densities: binary entries, categories and counts."""
    kinds = {column.kind for column in getattr(schema.fields[schema.main], "columns", ())}
    return schema.likelihood == "bernoulli" or (bool(kinds) and "number" not in kinds)
