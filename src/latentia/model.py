"""Model: the pair (p, q) with its data schema: sample, encode, decode, reconstruct, log_evidence, save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .joint import MASK, RESERVED, Joint, names_of
from .noise import Noise

if TYPE_CHECKING:
    from .data import Rows, Schema


class Model(nn.Module):
    """A generative model p and an inference model q over the same named variables.

    p        Joint of the observed and the latent variables, p(x, z)
    q        Joint of the latent ones given the observed, q(z | x); None where nothing is latent
    schema   how the user's data become values and back; `fit` attaches it

    Values given to the methods are in the data's own units once there is a schema. Raises ValueError when q
    names a variable or an input that p does not know.
    """

    def __init__(self, p: Joint, q: Joint | None = None, schema: Schema | None = None) -> None:
        super().__init__()
        self.p, self.q = p, q
        self.schema = schema
        self.fitted = False
        if q is None:
            return
        known = {*p.variables, *p.inputs}
        for name in q.variables:
            if name not in known and q[name].has_density:
                raise ValueError(f"q draws {name!r}, which {p.equation()} does not name: is it misspelt?")
        for name in q.inputs:
            if name not in known and name not in RESERVED:
                raise ValueError(f"q is given {name!r}, which {p.equation()} does not name: is it misspelt?")
        for name in {*p.variables} & {*q.variables}:
            if q[name].event != p[name].event:
                raise ValueError(f"{name!r} has event {p[name].event} in p and {q[name].event} in q")
        for one, other in ((p, q), (q, p)):
            codings = {name: other[name].coding for name in one.inputs if name in other}
            one.know({name: coding for name, coding in codings.items() if coding is not None})

    @property
    def latent(self) -> tuple[str, ...]:
        """The variables that q infers."""
        return () if self.q is None else tuple(n for n in self.p.variables if n in self.q)

    @property
    def observed(self) -> tuple[str, ...]:
        """The variables of p with a density that q does not infer: the data."""
        return tuple(n for n in self.p.variables if n not in self.latent and self.p[n].has_density)

    def _any_tensor(self) -> Tensor:
        return next(chain(self.parameters(), self.buffers()), torch.empty(0))

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._any_tensor().device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the parameters."""
        return self._any_tensor().dtype

    def require_density(self) -> None:
        """Raise ValueError when there is no evidence to speak of: q computes a variable, not infers it."""
        for name in () if self.q is None else self.q.variables:
            if not self.q[name].has_density and name in {*self.p.variables, *self.p.inputs}:  # type: ignore[index]
                raise ValueError(
                    f"{name!r} is computed by a deterministic encoder, so this model gives reconstructions "
                    f"and no evidence: use a model with a density for {name!r}, such as vae"
                )

    def rows(self, x: Any) -> Rows:
        """The user's data as rows, checked: by the schema where there is one, otherwise taken as they are.

        A dict may hold "weight" `[N]`, how much each row counts, beside the variables.
        """
        from .data import Rows, load_data

        if not isinstance(x, Mapping | Rows) and self.schema is None and len(self.observed) == 1:
            x = {self.observed[0]: x}
        weight = None
        if isinstance(x, Mapping) and "weight" in x:
            weight = torch.as_tensor(x["weight"]).to(torch.get_default_dtype())
            x = {name: value for name, value in x.items() if name != "weight"}
        if isinstance(x, Rows):
            rows = x
        elif self.schema is not None:
            rows = self.schema.rows(x)
        else:
            rows = load_data(x, split=(1.0, 0.0, 0.0)).train
        if weight is not None:
            if weight.ndim != 1 or bool((weight < 0).any()) or len(weight) <= int(rows.rows.max()):
                raise ValueError("weight must hold one number, zero or larger, per row")
            rows = replace(rows, tensors={**rows.tensors, "weight": weight[rows.rows]})
        self.check(rows.tensors)
        return rows

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError for a name the graphs do not know, an event of another shape, a missing input."""
        given = names_of(values)
        known = {*self.p.variables, *self.p.inputs, *(self.q.inputs if self.q else ())}
        for name in given:
            if name not in known:
                graph = self.p.equation()
                raise ValueError(f"the data hold {name!r}, which {graph} does not name: is it misspelt?")
            event = tuple(values[name].shape[1:])
            if name in self.p and event != self.p[name].event:
                expected = self.p[name].event
                raise ValueError(f"{name!r}: the model expects events of shape {expected}, got {event}")
        for name in self.p.inputs:
            if name not in given and (self.q is None or name not in self.q) and name not in RESERVED:
                raise ValueError(f"{self.p.equation()} needs {name!r}, which the data do not hold")
        self._check_holes(values)

    def _check_holes(self, values: Mapping[str, Any]) -> None:
        for name in given_masks(values):
            readers = [("p", v, f) for v in self.p for f in [self.p[v]] if name in f.given]
            readers += [("q", v, f) for v in self.q or () for f in [self.q[v]] if name in f.given]  # type: ignore[index]
            latent_there = self.q is not None and name in self.q
            for symbol, variable, factor in readers:
                if not factor.missing and not latent_there:
                    raise ValueError(
                        f"{self.holes(values)}, and the net of {symbol}({variable} | "
                        f"{', '.join(factor.given)}) was built without missing=True: it would take "
                        f"the holes for zeros. Build the model with missing=True, or leave out the rows or "
                        f"columns with holes"
                    )

    def holes(self, values: Mapping[str, Any]) -> str:
        """Where the values have holes, in words: the variables, and the columns of a table."""
        return "; ".join(self._hole(name, values[name + MASK]) for name in given_masks(values))

    def _hole(self, name: str, seen: Tensor) -> str:
        field = self.schema.fields.get(name) if self.schema is not None else None
        columns = getattr(field, "columns", None)
        if columns is None or seen.ndim != 2:
            return f"{name!r} has missing entries"
        pairs = zip(columns, seen.all(0).tolist(), strict=True)
        holes = [repr(column.name) for column, whole in pairs if not whole]
        shown = ", ".join(holes[:5]) + (" ..." if len(holes) > 5 else "")
        return f"{name!r} has missing cells in column {shown}"

    def batch(self, rows: Rows, index: Any, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Values of the rows at `index` in model units, on the model's device and of its floating type."""
        values, like = rows.batch(index, generator), self._any_tensor()
        if "row" in self.p.inputs or (self.q is not None and "row" in self.q.inputs):
            values["row"] = rows.rows[index]
        return {n: v.to(like if v.is_floating_point() else like.device) for n, v in values.items()}

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, mean: bool = False, **inputs: Any) -> Tensor | dict[str, Tensor]:
        """n draws of the observed variables from p, `[n, *event]` in the data's units.

        mean: the mean of p(x | z) at each drawn z in place of a draw of x. inputs: `[n, ...]`, p's inputs.
        """
        if n < 1:
            raise ValueError(f"the number of samples must be at least 1, got {n}")
        missing = [name for name in self.p.inputs if name not in inputs]
        if missing:
            raise ValueError(
                f"{self.p.equation()} has no distribution for {', '.join(map(repr, missing))}, so it cannot "
                f"be sampled without: pass {missing[0]}=..., or use decode"
            )
        given = {name: torch.as_tensor(value, device=self.device) for name, value in inputs.items()}
        done = self.p.complete(given, Noise(seed, self.device, self.dtype), batch=n)
        values = {name: value[0] if name in done.log_q else value for name, value in done.values.items()}
        if mean:
            return self._decoded({name: value for name, value in values.items() if name not in self.observed})
        return self._leave({name: values[name] for name in self.observed})

    @torch.no_grad()
    def posterior(self, x: Any) -> Distribution | dict[str, Distribution]:
        """q(z | x) for each row, in model units; latent parents stand at their means."""
        parts = [self._inferred(batch)[1] for batch in self._batches(x, step=2**62)]
        return next(iter(parts[0].values())) if len(parts[0]) == 1 else parts[0]

    @torch.no_grad()
    def encode(self, x: Any) -> Tensor | dict[str, Tensor]:
        """The mean of q(z | x), `[N, *event]`; a dict for several latent variables."""
        parts = [self._inferred(batch)[0] for batch in self._batches(x)]
        return _one_or_all({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    @torch.no_grad()
    def decode(self, z: Any, **inputs: Any) -> Tensor | dict[str, Tensor]:
        """The mean of p(x | z) in the data's units, `[N, *event]`. z: a tensor, a dict for several."""
        if not isinstance(z, Mapping):
            latents = self.latent or tuple(n for n in self.p.inputs if self.q is not None and n in self.q)
            if len(latents) != 1:
                raise ValueError(f"pass a dict with the latent variables {', '.join(latents)}")
            z = {latents[0]: z}
        given = {n: torch.as_tensor(v, device=self.device) for n, v in {**z, **inputs}.items()}
        given = {n: v.to(self.dtype) if v.is_floating_point() else v for n, v in given.items()}
        for name, value in given.items():
            graph = next((g for g in (self.p, self.q) if g is not None and name in g), None)
            if graph is not None and tuple(value.shape[1:]) != graph[name].event:
                expected = ", ".join(map(str, ("N", *graph[name].event)))
                raise ValueError(f"{name!r}: expected shape ({expected}), got {tuple(value.shape)}")
        return self._decoded(given)

    @torch.no_grad()
    def reconstruct(self, x: Any) -> Tensor | dict[str, Tensor]:
        """decode(encode(x)): the mean of p(x | z) at the mean of q(z | x), in the data's units."""
        parts = []
        for batch in self._batches(x):
            latent, _ = self._inferred(batch)
            inputs = {name: batch[name] for name in self.p.inputs if name in batch}
            parts.append(_as_dict(self._decoded({**latent, **inputs}), self.observed))
        return _one_or_all({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def log_evidence(self, x: Any, samples: int = 1000, seed: int = 0) -> Tensor:
        """log p(x) of each row, `[N]` nats in the data's units: L_`samples`, exact if nothing is latent."""
        from .evidence import log_evidence

        return log_evidence(self, x, "importance", samples, seed=seed).values

    def save(self, folder: str | Path) -> Path:
        """Write the model folder: `model.safetensors`, `config.json`, `README.md`."""
        from .archive import save

        return save(self, folder)

    def _batches(self, x: Any, step: int = 1024) -> list[dict[str, Tensor]]:
        rows = self.rows(x)
        return [self.batch(rows, slice(start, start + step)) for start in range(0, len(rows), step)]

    def _inferred(self, values: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Distribution]]:
        """The mean of each latent variable given the values, and its distribution."""
        if self.q is None:
            raise ValueError(f"{self.p.equation()} has no inference model: there is nothing to encode")
        filled, means, distributions = dict(values), {}, {}
        for name in self.q.variables:
            factor, parents = self.q[name], self.q.parents(name, filled)
            if name in filled:
                continue
            if factor.has_density:
                distributions[name] = factor.distribution(*parents)
                filled[name] = factor.mean(distributions[name])
            else:
                filled[name] = factor.value(*parents)  # type: ignore[operator]
            if name in self.p or name in self.p.inputs:
                means[name] = filled[name]
        return means, distributions

    def _decoded(self, given: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        filled = dict(given)
        for name in self.p.variables:
            if name in filled:
                continue
            factor, parents = self.p[name], self.p.parents(name, filled)
            if factor.has_density:
                filled[name] = factor.mean(factor.distribution(*parents))
            else:
                filled[name] = factor.value(*parents)  # type: ignore[operator]
        return self._leave({name: filled[name] for name in self.observed})

    def _leave(self, values: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Values as they leave the model: in the data's units."""
        if self.schema is not None:
            decode, known = self.schema.decode, self.schema.fields
            values = {name: decode(name, v) if name in known else v for name, v in values.items()}
        return _one_or_all(values)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters() if p.requires_grad)
        graphs = [self.p.equation("p")] + ([] if self.q is None else [self.q.equation("q")])
        return "\n".join([f"Model with {count:,} parameters", *(f"  {graph}" for graph in graphs)])


def given_masks(values: Mapping[str, Any]) -> list[str]:
    """The variables whose values come with a mask."""
    return [name.removesuffix(MASK) for name in values if name.endswith(MASK)]


def _one_or_all(values: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
    return next(iter(values.values())) if len(values) == 1 else dict(values)


def _as_dict(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return dict(values) if isinstance(values, Mapping) else {names[0]: values}
