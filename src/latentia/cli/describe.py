"""What `latentia fit` says: the pair before the run, and what was learnt after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.table import Table as RichTable

from .._words import shortened
from ..data import Data, Image, Rows, Table
from ..diagnostics import active_units, count_active
from ..factor import Factor
from ..factors import Bernoulli, Columns, Diagonal, Normal
from ..learn import Run
from ..model import Model
from ..noise import Noise
from .output import facts


def announced(model: Model, name: str, data: Data, asked: bool) -> str:
    """The equations, the families, and the likelihood with its reason."""
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines = [f"Model: {name}, {count:,} parameters", f"  {model.p.equation('p')}"]
    for variable in () if model.q is None else model.q.variables:
        lines.append(f"  {_symbol('q', variable, model.q[variable])} is {_family(model.q[variable])}")  # type: ignore[index]
    for variable in model.observed:
        factor = model.p[variable]
        reason = "as asked" if asked else _why(data, factor)
        lines.append(f"  {_symbol('p', variable, factor)} is {_family(factor)}{reason and ': ' + reason}")
    return "\n".join(lines)


def _symbol(letter: str, variable: str, factor: Factor) -> str:
    return f"{letter}({variable}{' | ' + ', '.join(factor.given) if factor.given else ''})"


def _family(factor: Factor) -> str:
    name = type(factor).__name__
    if isinstance(factor, Columns):
        families = {"number": "Normal", "binary": "Bernoulli", "count": "Poisson"}
        kinds = {str(kind): families.get(str(kind), "Categorical") for kind in factor.columns}
        return "by column " + ", ".join(dict.fromkeys(kinds.values()))
    if isinstance(factor, Normal) and factor.raw_scale is not None:
        return f"{name} with one learnt scale"
    if isinstance(factor, Normal) and factor.from_network and not isinstance(factor.covariance, Diagonal):
        return f"{name} with {type(factor.covariance).__name__.lower()} covariance"
    return f"{name} of shape {list(factor.event)}"


def _why(data: Data, factor: Factor) -> str:
    """Why the likelihood suits the data; nothing for a family of the user's own."""
    field = data.schema.fields[data.schema.main]
    if isinstance(factor, Bernoulli):
        return f"the {'pixels' if isinstance(field, Image) else 'values'} are 0 or 1"
    if isinstance(factor, Columns):
        return "the columns are of several kinds"
    if isinstance(factor, Normal):
        return "the pixels are grey" if isinstance(field, Image) else "the values are numbers"
    return ""


def learnt(run: Run, data: Data, notes: Sequence[str]) -> RichTable:
    """The table of what was learnt."""
    model = run.model
    rows, which = (data.valid, "validation") if len(data.valid) else (data.train, "training")
    pairs = []
    if run.best_value is not None:
        shift = float(data.schema.log_jacobian(model.batch(rows, slice(None))).mean())
        inside = f" ({run.best_value:.3f} after preprocessing)" if shift else ""
        bound = f"{run.best_value + shift:.3f} nats per row, in {data.schema.units}{inside}"
        pairs.append((f"best validation {run.objective}", bound))
        pairs.append(("at step", f"{run.best_step:,} of {run.steps:,}"))
    reasons = {"patience": "no better bound for a while", "steps": "all steps done"}
    reason = reasons.get(run.stopped, run.stopped)
    pairs.append(("stopped", f"{reason}, after {run.seconds:.1f} s ({run.executor})"))
    if run.skipped:
        pairs.append(("skipped steps", f"{run.skipped:,}, whose gradients were not finite"))
    pairs += [(f"learnt scale of {name}", text) for name, text in _scales(model, rows)]
    if model.latent and len(rows) > 1:
        used, units = count_active(active_units(model, rows))
        pairs.append(("active units", f"{used} of {units}, on {len(rows):,} {which} rows"))
    pairs += [("note", note) for note in notes]
    pairs.append(("run folder", str(run.folder)))
    return facts("What was learnt", pairs)


@torch.no_grad()
def _scales(model: Model, rows: Rows) -> Iterator[tuple[str, str]]:
    """The learnt standard deviation of each observed variable that has one, in the data's units where
    they differ.
    """
    for name in model.observed:
        factor, field = model.p[name], None if model.schema is None else model.schema.fields.get(name)
        if isinstance(factor, Columns) and len(factor.scale):
            numbers = [j for j, kind in enumerate(factor.columns) if kind == "number"]
            columns = field.columns if isinstance(field, Table) else None
            each = [
                f"{scale:.3g}" if columns is None else f"{columns[j].name} {scale * columns[j].scale:.3g}"
                for j, scale in zip(numbers, factor.scale.tolist(), strict=True)
            ]
            yield name, shortened(each, 6)
        elif isinstance(factor, Normal) and factor.raw_scale is not None:
            values = model.batch(rows, slice(0, 1))
            if model.q is not None:
                values = model.q.complete(values, Noise(0, model.device, model.dtype)).values
            parents = model.p.parents(name, model.p.computed(values))
            scale = float(factor.distribution(*parents).stddev.flatten()[0])
            if isinstance(field, Image) and field.levels != 1:
                yield (
                    name,
                    f"{scale * field.levels:.3g} of {field.levels:g} levels, {scale:.4g} after preprocessing",
                )
            else:
                yield name, f"{scale:.4g} after preprocessing"


def next_commands(out: Path, model: Model, own: str) -> str:
    """What to try next; `own` names the function that built a model with parts of the user's own."""
    ending = "png" if any(len(model.p[name].event) == 3 for name in model.observed) else "csv"
    commands = [f"latentia evaluate {out}{own}"]
    if model.latent:
        commands.append(f"latentia sample {out} -n 64 --out samples.{ending}{own}")
    else:
        commands.append(f"latentia embed {out} --out codes.csv{own}")
    commands.append(f"latentia reconstruct {out} --out reconstructions.{ending}{own}")
    commands.append(f"latentia plot {out}{own}")
    return "\n".join(["", "Next:", *(f"  {command}" for command in commands)])
