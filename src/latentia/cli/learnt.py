"""The table of what was learnt, which ends a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from rich.table import Table as RichTable
from torch import Tensor

from .._words import shortened
from ..data import Data, Image, Rows, Table
from ..diagnostics import active_units, count_active
from ..evidence import log_evidence
from ..factors import Columns, LinearNormal, Normal
from ..learn import Run
from ..model import Model
from ..noise import Noise
from .codes import root_probabilities
from .output import facts

Pairs = list[tuple[str, str]]


def learnt(run: Run, data: Data, config: Mapping[str, Any], notes: Sequence[str]) -> RichTable:
    """The numbers of a finished run, in the data's units and beside them in the model's."""
    model = run.model
    rows, which = (data.valid, "validation") if len(data.valid) else (data.train, "training")
    exact = model.q is not None and model.q.exact
    pairs = _evidence(model, data) if exact else _bound(run, rows, data)
    if any(model.p[name].is_bayesian for name in model.p) and run.best_value is not None:
        bound = run.best_value + _shift(model, data.train)
        inside = _inside(model, data.train, bound)
        pairs.insert(0, ("bound, training", f"{bound:.3f} nats per row, below log p of all of them{inside}"))
    pairs += _iterations(run, config["em"]) if run.method == "em" else _steps(run)
    for name, probabilities in root_probabilities(model).items():
        pairs.append((f"weights of {name}", shortened([f"{p:.3f}" for p in probabilities.tolist()], 12)))
    pairs += [(f"learnt scale of {name}", text) for name, text in _scales(model, rows)]
    if model.latent and len(rows) > 1:
        try:
            used, units = count_active(active_units(model, rows))
        except ValueError as error:  # a row that is impossible under the model has no posterior
            used, units, notes = 0, 0, [*notes, f"active units, on {which} rows: {error}"]
        if units:
            pairs.append(("active units", f"{used} of {units}, on {len(rows):,} {which} rows"))
    pairs += [("note", note) for note in notes]
    pairs.append(("run folder", str(run.folder)))
    return facts("What was learnt", pairs)


def _evidence(model: Model, data: Data) -> Pairs:
    """The exact log-evidence of the training and the validation rows."""
    pairs = []
    for which, rows in (("training", data.train), ("validation", data.valid)):
        if len(rows):
            found = log_evidence(model, rows)
            error = f" ± {found.se:.2g}" if len(rows) > 1 and math.isfinite(found.se) else ""
            inside = _inside(model, rows, found.mean)
            pairs.append((f"log p(x), {which}", f"{found.mean:.3f}{error} nats per row{inside}"))
    return [*pairs, ("units", data.schema.units)]


def _bound(run: Run, rows: Rows, data: Data) -> Pairs:
    """The best validation bound."""
    if run.best_value is None:
        return []
    value = run.best_value + _shift(run.model, rows)
    inside = _inside(run.model, rows, value)
    return [(f"best validation {run.objective}", f"{value:.3f} nats per row, in {data.schema.units}{inside}")]


def _inside(model: Model, rows: Rows, value: float) -> str:
    """A number in the data's units as it is in the model's, where that differs."""
    shift = _shift(model, rows)
    return f" ({value - shift:.3f} after preprocessing)" if shift else ""


def _shift(model: Model, rows: Rows) -> float:
    """The mean log-Jacobian of preprocessing."""
    schema = model.schema
    return 0.0 if schema is None else float(schema.log_jacobian(model.batch(rows, slice(None))).mean())


def _iterations(run: Run, options: Mapping[str, Any]) -> Pairs:
    """How EM went."""
    reason = f"converged to {options['tol']:g}" if run.stopped == "converged" else "not converged"
    starts = f" in {options['starts']} starts, the last" if options["starts"] > 1 else ","
    return [("iterations", f"{run.steps:,}{starts} {reason}, after {run.seconds:.1f} s")]


def _steps(run: Run) -> Pairs:
    """How gradient ascent went."""
    pairs = [] if run.best_value is None else [("at step", f"{run.best_step:,} of {run.steps:,}")]
    reasons = {"patience": "no better bound for a while", "steps": "all steps done"}
    reason = reasons.get(run.stopped, run.stopped)
    pairs.append(("stopped", f"{reason}, after {run.seconds:.1f} s ({run.executor})"))
    if run.skipped:
        pairs.append(("skipped steps", f"{run.skipped:,}, whose gradients were not finite"))
    return pairs


@torch.no_grad()
def _scales(model: Model, rows: Rows) -> Iterator[tuple[str, str]]:
    """The learnt standard deviation of each observed variable that has one, in the data's units where
    they differ.
    """
    for name in model.observed:
        factor, field = model.p[name], None if model.schema is None else model.schema.fields.get(name)
        columns = field.columns if isinstance(field, Table) else None
        if isinstance(factor, Columns) and len(factor.scale):
            numbers = [j for j, kind in enumerate(factor.columns) if kind == "number"]
            each = [
                f"{scale:.3g}" if columns is None else f"{columns[j].name} {scale * columns[j].scale:.3g}"
                for j, scale in zip(numbers, factor.scale.tolist(), strict=True)
            ]
            yield name, shortened(each, 6)
        elif isinstance(factor, LinearNormal):
            yield name, _noise(factor.scale, field)
        elif isinstance(factor, Normal) and factor.raw_scale is not None:
            values = model.batch(rows, slice(0, 1))
            if model.q is not None:
                values = model.q.complete(values, Noise(0, model.device, model.dtype)).values
            parents = model.p.parents(name, model.p.computed(values))
            scale = float(factor.distribution(*parents).stddev.flatten()[0])
            yield name, _noise(torch.tensor([scale]), field)


def _noise(scale: Tensor, field: object) -> str:
    """Standard deviations after preprocessing `[D or 1]`, `[K, D or 1]`; in the data's units where one says
    all.
    """
    flat = scale.flatten().tolist()
    if len(flat) > 1:
        return f"{min(flat):.4g} to {max(flat):.4g} after preprocessing"
    if isinstance(field, Image) and field.levels != 1:
        return f"{flat[0] * field.levels:.3g} of {field.levels:g} levels, {flat[0]:.4g} after preprocessing"
    return f"{flat[0]:.4g} after preprocessing"
