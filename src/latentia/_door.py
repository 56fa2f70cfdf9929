"""Where a user's data come into a model: made into rows, completed, and checked against the graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .codings import Coding, ColumnCoding, OneHot
from .factors import Bernoulli, Categorical, LinearNormal, Normal
from .joint import MASK, RESERVED, Joint, names_of
from .nets import Table

if TYPE_CHECKING:
    from .data import Rows, Schema
    from .model import Model


def rows_of(model: Model, x: Any, numbering: bool = False) -> Rows:
    """The user's data as rows, checked: by the schema where there is one, otherwise taken as they are.

    A dict may hold "weight" `[N]`, how much each row counts, and "row" `[N]`, its number in the data that the
    model is fitted to, beside the variables. numbering: these data are those, numbered as they stand.
    """
    from .data import Rows, load_data

    if not isinstance(x, Mapping | Rows) and model.schema is None and len(model.observed) == 1:
        x = {model.observed[0]: x}
    given: dict[str, Any] = {}
    if isinstance(x, Mapping):
        given = {name: torch.as_tensor(x[name]) for name in RESERVED if name in x}
        x = {name: value for name, value in x.items() if name not in RESERVED}
    if isinstance(x, Rows):
        rows, numbering = x, True
    elif model.schema is not None:
        rows = model.schema.rows(x)
    else:
        data = load_data(x, split=(1.0, 0.0, 0.0))
        rows = data.train if numbering else data.schema.rows(x)  # rows without any cell are asked about too
    reserved = {name: _per_row(name, value, rows) for name, value in given.items()}
    rows = replace(rows, tensors={**_row_masks(model, rows.tensors), **reserved})
    if takes_row(model):
        if "row" not in rows.tensors and not numbering:
            raise ValueError(
                "this model has a posterior for each row it was fitted to: pass rows of those data, or a "
                "dict that holds 'row', their numbers, beside the values"
            )
        _check_numbers(model, rows.tensors.get("row", rows.rows))
    check(model, rows.tensors, rows.schema)
    return rows


def _graphs(model: Model) -> list[tuple[str, Joint]]:
    return [("p", model.p)] + ([("q", model.q)] if isinstance(model.q, Joint) else [])


def takes_row(model: Model) -> bool:
    """Whether a factor is given the row's number."""
    return "row" in model.p.inputs or (model.q is not None and "row" in model.q.inputs)


def _per_row(name: str, value: Tensor, rows: Rows) -> Tensor:
    count = int(rows.rows.max()) + 1 if len(rows) else 0
    if value.ndim != 1 or len(value) < count or bool((value < 0).any()):
        raise ValueError(f"{name!r} must hold one number, zero or larger, for each of the {count:,} rows")
    return value[rows.rows].to(torch.int64 if name == "row" else torch.get_default_dtype())


def _check_numbers(model: Model, numbers: Tensor) -> None:
    for _, graph in _graphs(model):
        for variable in graph:
            factor = graph[variable]
            if "row" in factor.given and isinstance(factor.net, Table):
                size = len(factor.net.weight)
                if len(numbers) and int(numbers.max()) >= size:
                    raise ValueError(
                        f"the table of {variable!r} has {size:,} rows, and the data go up to row "
                        f"{int(numbers.max()):,}, counted from 0"
                    )


def _row_masks(model: Model, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks of variables that q can fill in, one entry per row: a variable is there or latent as a whole."""
    result = dict(tensors)
    for name in given_masks(tensors):
        seen = tensors[name + MASK]
        if model.q is None or name not in model.q or seen.ndim == 1:
            continue
        entries = seen.flatten(1)
        whole, partly = entries.all(1), entries.any(1)
        if bool((partly & ~whole).any()):
            row = int((partly & ~whole).nonzero()[0])
            raise ValueError(f"{name!r} is inferred by q as a whole, and row {row} holds a part of it")
        result[name + MASK] = whole
    return result


def check(model: Model, values: Mapping[str, Any], schema: Schema) -> None:
    """Raise ValueError for a name the graphs do not know, an event of another shape, a missing input."""
    given = names_of(values)
    known = {*model.p.variables, *model.p.inputs, *(model.q.inputs if model.q else ())}
    for name in given:
        if name not in known:
            graph = model.p.equation()
            raise ValueError(f"the data hold {name!r}, which {graph} does not name: is it misspelt?")
        event = tuple(values[name].shape[1:])
        if name in model.p and event != model.p[name].event:
            expected = model.p[name].event
            hint = ""
            if isinstance(model.p[name], Categorical):
                hint = f": pass integer codes [N], and types={{{name!r}: 'category'}} where some are missing"
            elif (expected, event) == ((), (1,)):
                hint = (
                    ": a column of numbers is an event of one entry (of a LogLinear, support= is [X, 1] then)"
                )
            raise ValueError(f"{name!r}: the model expects events of shape {expected}, got {event}{hint}")
    for name in model.p.inputs:
        if name not in given and (model.q is None or name not in model.q) and name not in RESERVED:
            raise ValueError(f"{model.p.equation()} needs {name!r}, which the data do not hold")
    _check_holes(model, values, schema)


def _check_holes(model: Model, values: Mapping[str, Any], schema: Schema) -> None:
    for name in given_masks(values):
        if model.q is not None and name in model.q:
            continue
        for symbol, graph in _graphs(model):
            for variable in graph:
                factor = graph[variable]
                if name in factor.given and not factor.missing:
                    raise ValueError(
                        f"{holes(schema, values)}, and the net of {symbol}({variable} | "
                        f"{', '.join(factor.given)}) was built without missing=True: it would take the holes "
                        f"for zeros. Build the model with missing=True, or leave out the rows or columns "
                        f"with holes"
                    )


def holes(schema: Schema, values: Mapping[str, Any]) -> str:
    """Where the values have holes, in words: the variables, and the columns of a table."""
    return "; ".join(_hole(schema, name, values[name + MASK]) for name in given_masks(values))


def _hole(schema: Schema, name: str, seen: Tensor) -> str:
    columns = getattr(schema.fields.get(name), "columns", None)
    if columns is None or seen.ndim != 2:
        return f"{name!r} has missing entries"
    pairs = zip(columns, seen.all(0).tolist(), strict=True)
    found = [repr(column.name) for column, whole in pairs if not whole]
    shown = ", ".join(found[:5]) + (" ..." if len(found) > 5 else "")
    return f"{name!r} has missing cells in column {shown}"


def refuse_codes(model: Model, schema: Schema) -> None:
    """Raise ValueError where the codes of a table's categories would be taken for numbers."""
    for name, field in schema.fields.items():
        codes = [c.name for c in getattr(field, "columns", ()) if c.kind == "category"]
        if codes and name in model.p and isinstance(model.p[name], Normal | Bernoulli | LinearNormal):
            family = type(model.p[name]).__name__
            raise ValueError(
                f"{name!r}: column {', '.join(map(repr, codes[:5]))} holds categories, and {family} would "
                f"take their codes for numbers: leave the likelihood to the data (Columns), or read the "
                f"table with types={{{codes[0]!r}: 'ignored'}}"
            )


def given_masks(values: Mapping[str, Any]) -> list[str]:
    """The variables whose values come with a mask."""
    return [name.removesuffix(MASK) for name in values if name.endswith(MASK)]


def in_model_units(model: Model, name: str, value: Any) -> Tensor:
    """A variable's values `[N, *event]` from the data's units, on the model's device. Raises ValueError."""
    if model.schema is not None and name in model.schema.fields:
        value = model.schema.rows({name: value}).batch()[name]
    tensor = torch.as_tensor(value, device=model.device)
    tensor = tensor.to(model.dtype) if tensor.is_floating_point() else tensor
    graph = next((g for g in (model.p, model.q) if g is not None and name in g), None)
    if graph is not None:
        if tuple(tensor.shape[1:]) != graph[name].event or tensor.ndim == 0:
            expected = ", ".join(map(str, ("N", *graph[name].event)))
            raise ValueError(f"{name!r}: expected shape ({expected}), got {tuple(tensor.shape)}")
        graph[name].check(name, tensor)
    return tensor


def codings_of(schema: Schema, graph: Joint) -> dict[str, Coding]:
    """How nets see those inputs of a graph that the schema knows to be codes or counts."""
    found: dict[str, Coding] = {}
    for name in graph.inputs:
        field = schema.fields.get(name)
        classes, columns = getattr(field, "classes", None), getattr(field, "columns", ())
        if classes is not None:
            found[name] = OneHot(int(classes))
        elif any(column.kind in ("category", "count") for column in columns):
            kinds = (len(c.levels or ()) if c.kind == "category" else c.kind for c in columns)
            found[name] = ColumnCoding(tuple(kinds))
    return found
