"""log_evidence: how probable are these data under this model, and how sure is the answer?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..exact import Exact
from ..joint import MASK, names_of
from ..noise import Noise
from .estimate import Estimate, concatenate
from .importance import elbo_by_groups, importance

if TYPE_CHECKING:
    from ..model import Model

METHODS = {"exact": 1, "elbo": 100, "importance": 1000}
CHUNK = 2**22  # entries of the widest layer, times samples, that live at a time
FEW = 3.0  # below this effective sample size an importance estimate rests on a handful of draws


def log_evidence(
    model: Model,
    x: Any,
    method: str | None = None,
    samples: int | None = None,
    *,
    units: str = "data",
    seed: int = 0,
    rows_per_batch: int | None = None,
) -> Estimate:
    """log p(x) of each row, or a bound on it, with its errors.

    method   "exact": by enumeration and linear-Gaussian algebra (see Exact), the default where q is Exact or
             nothing is latent; "importance": L_K with K = `samples` (default 1,000), the default elsewhere;
             "elbo": the ELBO by `samples` draws (default 100). The last two are lower bounds; with an exact q
             they are the evidence itself.
    units    "data": the log-Jacobian of preprocessing is added, over observed cells; "model": left out
    seed     of the noise; the same seed gives the same numbers

    Returns an Estimate. Raises ValueError for an unknown method, samples below 1, or rows the model does not
    fit, for "importance" where q is deterministic, and NotExactError for "exact" where there is no closed
    form.
    """
    exact = model.q is None or model.q.exact
    if method is None:
        method = "exact" if exact else "importance"
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown: use {' or '.join(map(repr, METHODS))}")
    if units not in ("data", "model"):
        raise ValueError(f"units must be 'data' or 'model', got {units!r}")
    samples = METHODS[method] if samples is None else samples
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    rows, p, q = model.rows(x), model.p, model.q
    if method != "elbo":
        model.require_density()
    posterior = Exact(p, model.latent) if method == "exact" and not exact else q if exact else None
    noise = Noise(seed, model.device, model.dtype)
    live = max(1, CHUNK // model.widest)
    step = rows_per_batch or max(1, min(len(rows), live // samples, 1000))
    values: list[Tensor] = []
    errors: list[Tensor] = []
    effective: list[Tensor] = []
    terms: dict[str, list[Tensor]] = {}
    direction, scored = "exact", set[str]()
    with torch.no_grad():
        for start in range(0, len(rows), step):
            batch = model.batch(rows, slice(start, start + step))
            weighed = {name: batch[name] for name in names_of(batch) if name in p}
            scored |= {name for name, value in weighed.items() if not p[name].measures(value)}
            parts: dict[str, Tensor] = {}
            if q is None or not latents_of(model, batch):
                value = p.log_prob(batch)
                error = torch.zeros_like(value)
            elif isinstance(posterior, Exact):
                value = posterior.log_evidence(batch)
                error = torch.zeros_like(value)
            elif method == "elbo":
                value, error, parts, direction = elbo_by_groups(p, q, batch, noise, samples)
            else:
                value, error, size = importance(p, q, batch, noise, samples, live)
                effective.append(size)
                direction = "lower"
            if units == "data" and model.schema is not None and not scored and weighed:
                masks = {name + MASK: batch[name + MASK] for name in weighed if name + MASK in batch}
                value = value + model.schema.log_jacobian({**weighed, **masks})
            values.append(value)
            errors.append(error)
            for name, part in parts.items():
                terms.setdefault(name, []).append(part)
    sizes = concatenate(effective) if effective else None
    caution = _caution(scored, sizes, samples)
    if direction == "none":
        caution = "Reconstructions and no evidence: q computes a variable, and nothing bounds log p(x)"
    return Estimate(
        values=concatenate(values),
        mc_errors=concatenate(errors),
        direction="none" if scored else direction,  # type: ignore[arg-type]
        method={"exact": "log p(x)", "none": "log p(x | z(x))"}.get(direction, method),
        samples=samples,
        units="model" if model.schema is None or scored else units,
        terms={name: float(concatenate(parts).double().mean()) for name, parts in terms.items()},
        dimensions=sum(math.prod(p[name].event) for name in weighed),
        effective=sizes,
        caution=caution,
    )


def _caution(scored: set[str], effective: Tensor | None, samples: int) -> str:
    if scored:
        names = ", ".join(map(repr, sorted(scored)))
        return (
            f"The likelihood of {names} is no density of such values (a Bernoulli's of grey values is a "
            f"cross-entropy): no evidence; binarise the data, or use a Normal likelihood"
        )
    if effective is not None and samples >= 10 and float(effective.median()) < FEW:
        return (
            f"The effective sample size is {float(effective.median()):.1f} of {samples:,} (median): the "
            f"bound is loose and its Monte Carlo error too small; take more samples, or train q longer"
        )
    return ""


def latents_of(model: Model, values: Any) -> list[str]:
    """The variables of p that q fills in at these values."""
    names = () if model.q is None else model.q.variables
    return [name for name in names if name not in values or name + ".observed" in values]
