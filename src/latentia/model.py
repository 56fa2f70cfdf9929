"""Model: the pair (p, q) with its data schema: sample, encode, decode, reconstruct, log_evidence, save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ._door import codings_of, in_model_units, rows_of, takes_row
from .exact import Exact, Inference
from .joint import MASK, RESERVED, Joint
from .noise import Noise

if TYPE_CHECKING:
    from .data import Rows, Schema


class Model(nn.Module):
    """A generative model p and an inference model q over the same named variables.

    p        Joint of the observed and the latent variables, p(x, z)
    q        Joint of the latent ones given the observed, q(z | x); Exact(p), p's own posterior; None where
             nothing is latent
    schema   how the user's data become values and back; `fit` attaches it

    Values given to the methods are in the data's own units once there is a schema. Raises ValueError when q
    names a variable or an input that p does not know.
    """

    def __init__(self, p: Joint, q: Inference | None = None, schema: Schema | None = None) -> None:
        super().__init__()
        self.p, self.q = p, q
        self.fitted = False
        if q is not None:
            _check_pair(p, q)
        self.schema = schema

    @property
    def schema(self) -> Schema | None:
        """How the user's data become values and back; None before there are data."""
        return self._schema

    @schema.setter
    def schema(self, schema: Schema | None) -> None:
        self._schema = schema
        for graph in (self.p, self.q):
            if schema is not None and isinstance(graph, Joint):
                graph.know(codings_of(schema, graph))

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

    @property
    def widest(self) -> int:
        """About how many numbers the widest layer or event holds per example: what bounds memory."""
        events = [math.prod(graph[name].event) for graph in (self.p, self.q) if graph for name in graph]
        if isinstance(self.q, Exact):
            events = [max(events) * self.q.state_count]
        layers = [max(p.shape) for m in self.modules() if isinstance(m, nn.Linear) for p in m.parameters()]
        convolutions = (m for m in self.modules() if isinstance(m, nn.modules.conv._ConvNd))
        layers += [max(events) * max(m.out_channels, m.in_channels) // 4 for m in convolutions]
        return max([*events, *layers])

    def require_density(self) -> None:
        """Raise ValueError when there is no evidence to speak of: q computes a variable, not infers it."""
        for name in () if self.q is None or self.q.exact else self.q.variables:
            if not self.q[name].has_density and name in {*self.p.variables, *self.p.inputs}:  # type: ignore[index]
                raise ValueError(
                    f"{name!r} is computed by a deterministic encoder, so this model gives reconstructions "
                    f"and no evidence: use a model with a density for {name!r}, such as vae"
                )

    def rows(self, x: Any) -> Rows:
        """The user's data as rows, checked: by the schema where there is one, otherwise taken as they are.

        A dict may hold "weight" `[N]`, how much each row counts, and "row" `[N]`, its number in the data that
        the model was fitted to, beside the variables.
        """
        return rows_of(self, x)

    def batch(
        self, rows: Rows, index: Any, generator: torch.Generator | None = None, like: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Values of the rows at `index` in model units, on the model's device and of its floating type.

        like: one of the model's tensors, which spares the search for one.
        """
        values, like = rows.batch(index, generator), self._any_tensor() if like is None else like
        if takes_row(self) and "row" not in values:
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
        given = {name: in_model_units(self, name, value) for name, value in inputs.items()}
        for name, value in given.items():
            if len(value) != n:
                raise ValueError(f"{n} samples need {n} values of {name!r}, got {len(value)}")
        done = self.p.complete(given, Noise(seed, self.device, self.dtype), batch=n)
        values = {name: value[0] if name in done.log_q else value for name, value in done.values.items()}
        if mean:
            known = {name: value for name, value in values.items() if name not in self.observed}
            return self._decoded(known, n)
        return self._leave({name: values[name] for name in self.observed})

    @torch.no_grad()
    def posterior(self, x: Any) -> Distribution | dict[str, Distribution]:
        """q(z | x) for each row, in model units; latent parents stand at their means."""
        parts = [self._inferred(batch)[1] for batch in self._batches(x, step=2**62)]
        return next(iter(parts[0].values())) if len(parts[0]) == 1 else parts[0]

    @torch.no_grad()
    def encode(self, x: Any) -> Tensor | dict[str, Tensor]:
        """The mean of q(z | x), `[N, *event]`; a dict for several latent variables.

        Of several layers it is mean field: the mean of q(v | parents), latent parents at their own means,
        so that z2 of q(z1 | x) q(z2 | z1) is E[z2 | E[z1 | x]], which is E[z2 | x] only where that is linear
        in z1. Of codes it is the most probable ones; of an exact q, the mean of each variable's posterior.
        """
        parts = [self._inferred(batch)[0] for batch in self._batches(x)]
        return _one_or_all({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    @torch.no_grad()
    def decode(self, z: Any, **inputs: Any) -> Tensor | dict[str, Tensor]:
        """The mean of p(x | z) in the data's units, `[N, *event]`. z: a tensor, a dict for several.

        Latent variables that z leaves out stand at their means given their parents (mean field).
        """
        if not isinstance(z, Mapping):
            latents = self.latent or tuple(n for n in self.p.inputs if self.q is not None and n in self.q)
            if len(latents) != 1:
                raise ValueError(f"pass a dict with the latent variables {', '.join(latents)}")
            z = {latents[0]: z}
        given = {name: in_model_units(self, name, value) for name, value in {**z, **inputs}.items()}
        if len({len(value) for value in given.values()}) > 1:
            raise ValueError(f"as many of each are needed, got { ({n: len(v) for n, v in given.items()}) }")
        return self._decoded(given, len(next(iter(given.values()))))

    @torch.no_grad()
    def reconstruct(self, x: Any) -> Tensor | dict[str, Tensor]:
        """decode(encode(x)): the mean of p(x | z) at the mean of q(z | x), in the data's units.

        The mean is `encode`'s, mean field where there are several layers.
        """
        parts = []
        for batch in self._batches(x):
            latent, _ = self._inferred(batch)
            known = {*self.observed, *latent}
            given = {n: value for n, value in batch.items() if n.removesuffix(MASK) not in known}
            parts.append(
                _as_dict(self._decoded({**given, **latent}, len(next(iter(batch.values())))), self.observed)
            )
        return _one_or_all({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def log_evidence(self, x: Any, samples: int = 1000, seed: int = 0) -> Tensor:
        """log p(x) of each row, `[N]` nats in the data's units: exact where possible, else L_`samples`."""
        from .evidence import log_evidence

        return log_evidence(self, x, None, samples, seed=seed).values

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
        if isinstance(self.q, Exact):
            exact = self.q.distributions(values)
            return {name: self.p[name].mean(of) for name, of in exact.items()}, exact
        filled, means, distributions = dict(values), {}, {}
        for name in self.q.variables:
            factor, observed = self.q[name], filled.get(name + MASK)
            if name in filled and (observed is None or observed.ndim > 1):
                continue
            parents = self.q.parents(name, filled)
            if factor.has_density:
                distributions[name] = factor.distribution(*parents)
                value = _finite(name, factor.mean(distributions[name]))
            else:
                value = factor.value(*parents)  # type: ignore[operator]
            if observed is not None:
                seen = observed.reshape(-1, *(1,) * len(factor.event))
                value = torch.where(seen, filled[name], value)
                del filled[name + MASK]
            filled[name] = value
            if name in self.p or name in self.p.inputs:
                means[name] = value
        return means, distributions

    def _decoded(self, given: Mapping[str, Tensor], count: int) -> Tensor | dict[str, Tensor]:
        filled = dict(given)
        for name in self.p.variables:
            if name in filled:
                continue
            factor, parents = self.p[name], self.p.parents(name, filled)
            if factor.has_density:
                mean = _finite(name, factor.mean(factor.distribution(*parents)))
                filled[name] = mean if factor.given else mean.expand(count, *factor.event)
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


def _finite(name: str, mean: Tensor) -> Tensor:
    if mean.is_floating_point() and not bool(torch.isfinite(mean).all()):
        raise ValueError(f"the mean of {name!r} is not finite: its family has none, or the fit diverged")
    return mean


def _one_or_all(values: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
    return next(iter(values.values())) if len(values) == 1 else dict(values)


def _as_dict(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return dict(values) if isinstance(values, Mapping) else {names[0]: values}


def _check_pair(p: Joint, q: Inference) -> None:
    """Raise ValueError where q names what p does not, or gives it another shape; share their codings."""
    if isinstance(q, Exact):
        if q.p is not p:
            raise ValueError("q is the exact posterior of another p: write Model(p, Exact(p))")
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
