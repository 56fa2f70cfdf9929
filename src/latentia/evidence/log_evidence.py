"""log_evidence: how probable are these data under this model, and how sure is the answer?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..joint import names_of
from ..noise import Noise
from .estimate import Estimate, concatenate
from .importance import elbo_by_groups, importance

if TYPE_CHECKING:
    from ..model import Model

METHODS = {"elbo": 100, "importance": 1000}
CHUNK = 2**22  # entries of an observed event times samples that live at a time


def log_evidence(
    model: Model,
    x: Any,
    method: str = "importance",
    samples: int | None = None,
    *,
    units: str = "data",
    seed: int = 0,
    rows_per_batch: int | None = None,
) -> Estimate:
    """log p(x) of each row, or a bound on it, with its errors.

    method   "elbo": the ELBO by `samples` draws (default 100); "importance": L_K with K = `samples` (default
             1,000). Both are lower bounds; with nothing latent both are exact.
    units    "data": the log-Jacobian of preprocessing is added, over observed cells; "model": left out
    seed     of the noise; the same seed gives the same numbers

    Returns an Estimate. Raises ValueError for an unknown method, samples below 1, or rows the model does not
    fit, and for "importance" where q is deterministic.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown: use {' or '.join(map(repr, METHODS))}")
    if units not in ("data", "model"):
        raise ValueError(f"units must be 'data' or 'model', got {units!r}")
    samples = METHODS[method] if samples is None else samples
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    rows, p, q = model.rows(x), model.p, model.q
    noise = Noise(seed, model.device, model.dtype)
    size = max(math.prod(p[name].event) for name in p)
    live = max(1, CHUNK // size)
    step = rows_per_batch or max(1, min(len(rows), live // samples, 1000))
    values: list[Tensor] = []
    errors: list[Tensor] = []
    terms: dict[str, list[Tensor]] = {}
    parts: dict[str, Tensor] = {}
    direction = "exact"
    with torch.no_grad():
        for start in range(0, len(rows), step):
            batch = model.batch(rows, slice(start, start + step))
            if q is None or not latents_of(model, batch):
                value = p.log_prob(batch)
                error, parts = torch.zeros_like(value), {}
            elif method == "elbo":
                value, error, parts, direction = elbo_by_groups(p, q, batch, noise, samples)
            else:
                model.require_density()
                value, error = importance(p, q, batch, noise, samples, live)
                parts, direction = {}, "lower"
            if units == "data" and model.schema is not None:
                value = value + model.schema.log_jacobian(batch)
            values.append(value)
            errors.append(error)
            for name, part in parts.items():
                terms.setdefault(name, []).append(part)
    return Estimate(
        values=concatenate(values),
        mc_errors=concatenate(errors),
        direction=direction,  # type: ignore[arg-type]
        method=method if direction != "exact" else "log p(x)",
        samples=samples,
        units=units if model.schema is not None else "model",
        terms={name: float(concatenate(parts).double().mean()) for name, parts in terms.items()},
        dimensions=sum(math.prod(p[name].event) for name in names_of(batch) if name in p),
    )


def latents_of(model: Model, values: Any) -> list[str]:
    """The variables of p that q fills in at these values."""
    names = () if model.q is None else model.q.variables
    return [name for name in names if name not in values or name + ".observed" in values]
