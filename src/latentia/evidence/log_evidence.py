"""log_evidence: how probable are these data under this model, and how sure is the answer?"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._compiling import Compile, pays
from .._memory import keep_freed_memory
from .._words import did_you_mean
from ..data import Table
from ..errors import DataError
from ..joint import MASK, RESERVED, names_given, names_of
from ..noise import Noise, mixed_seed
from .estimate import Estimate, concatenate
from .methods import (
    METHODS,
    PIECES,
    Work,
    default_method,
    enumerated_states,
    estimator_of,
    evaluations_of,
    known,
    live_entries,
    rows_of_a_batch,
    takes_weights,
)
from .pareto import threshold

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model

FEW = 3.0  # below this effective sample size an importance estimate rests on a handful of draws
MANY_ROWS = 0.05  # of the rows with a k-hat above its threshold: the whole estimate is doubted


def log_evidence(
    model: Model,
    x: Any,
    method: str | None = None,
    samples: int | None = None,
    *,
    units: str = "data",
    seed: int = 0,
    enumerate: str | Sequence[str] = (),
    rows_per_batch: int | None = None,
    compile: Compile = "auto",
    **options: Any,
) -> Estimate:
    """log p(x) of each row, or a bound on it, with its errors.

    method   "exact": by enumeration and linear-Gaussian algebra (see Exact), the default where q is Exact,
             nothing is latent, or all latents are discrete with at most 2^12 states together (it serves up
             to 2^20, in minutes for thousands of rows);
             "importance": L_K with K = `samples` (default 1,000) draws from q, the default elsewhere;
             "naive": K draws from the prior; "elbo": the ELBO by `samples` draws (default 100); "ais":
             annealed importance sampling with `samples` chains (default 16), whose options are those of
             Annealing (distributions=500, schedule="adaptive", leapfrogs=10) and start="prior" or "q". All
             but the first are lower bounds
    units    "data": the log-Jacobian of preprocessing is added, over observed cells; "model": left out
    seed     of the noise; the same seed gives the same numbers
    enumerate   discrete latents, by name, that "elbo", "importance" and "naive" sum over exactly instead of
             drawing them: a weight is then w = sum_k p(x, k, z_k) / q(z_k | k, x), and with every latent
             enumerated "importance" and "naive" are exact
    compile  of "importance", "naive" and "ais": "auto" compiles where that pays, as for minutes of work;
             where there is no compiler they run as they are

    Returns an Estimate, in which every row counts alike: a "weight" is for fitting. Raises ValueError for an
    unknown method or option, a variable that cannot be enumerated, samples below 1, rows that the model does
    not fit or that were read in another way (another scaling or binarisation), and a deterministic q, of
    which only the ELBO speaks; NotExactError for "exact" where there is no closed form.
    """
    method = default_method(model) if method is None else method
    if method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        raise ValueError(f"method {method!r} is unknown: use {', '.join(map(repr, METHODS))}{hint}")
    if units not in ("data", "model"):
        raise ValueError(f"units must be 'data' or 'model', got {units!r}")
    samples = METHODS[method] if samples is None else samples
    if not isinstance(samples, int):
        raise ValueError(f"samples must be a whole number, got {samples!r}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if method != "elbo":
        model.require_density()
    rows = model.rows(x)
    _require_same_units(model, rows)
    chosen = names_given(enumerate)
    states = enumerated_states(model, method, chosen)
    live = max(1, live_entries(model.device) // (model.widest * states))
    weighs = takes_weights(model, method, chosen)
    at_once = PIECES * live if weighs and not chosen else live
    step = rows_per_batch or min(len(rows), rows_of_a_batch(samples, at_once, weighs))
    evaluations = len(rows) * samples * evaluations_of(method, options) * states
    work = Work(step, live, at_once, pays(compile, model, evaluations * model.widest), chosen)
    estimator = estimator_of(model, method, samples, options, work)
    noise = Noise(mixed_seed(seed, "evidence"), model.device, model.dtype)  # not the noise of `sample`
    if model.device.type == "cpu":
        keep_freed_memory()
    found: dict[str, list[Tensor]] = {}
    terms: dict[str, list[Tensor]] = {}
    direction, scored = "exact", set[str]()
    for start in range(0, len(rows), step):
        batch = model.batch(rows, slice(start, start + step))
        weighed = {name: batch[name] for name in names_of(batch) if name in model.p}
        scored |= {name for name, value in weighed.items() if not model.p[name].measures(value)}
        with torch.no_grad():
            answer = known(model.p, batch) if not latents_of(model, batch) else estimator(batch, noise)
        value, direction = answer.value, answer.direction
        if units == "data" and model.schema is not None and not scored and weighed:
            masks = {name + MASK: batch[name + MASK] for name in weighed if name + MASK in batch}
            value = value + model.schema.log_jacobian({**weighed, **masks})
        parts = {"value": value, "error": answer.error, "bias": answer.bias}
        parts |= {"effective": answer.effective, "k_hat": answer.k_hat}
        for name, part in parts.items():
            if part is not None:
                found.setdefault(name, []).append(part)
        for name, part in answer.terms.items():
            terms.setdefault(name, []).append(part)
    of = _density_of(model, weighed)
    whole = {name: concatenate(parts) for name, parts in found.items()}
    caution = _caution(method, scored, whole, samples)
    if direction == "none":
        caution = "Reconstructions and no evidence: q computes a variable, and nothing bounds log p(x)"
    return Estimate(
        values=whole["value"],
        mc_errors=whole["error"],
        direction="none" if scored else direction,  # type: ignore[arg-type]
        method={"exact": of, "none": "log p(x | z(x))"}.get(direction, method),
        samples=samples,
        units="model" if model.schema is None or scored else units,
        terms={name: float(concatenate(parts).double().mean()) for name, parts in terms.items()},
        dimensions=sum(math.prod(model.p[name].event) for name in weighed),
        effective=whole.get("effective"),
        bias=whole.get("bias"),
        k_hat=whole.get("k_hat"),
        caution=caution,
        of=of,
    )


def _density_of(model: Model, weighed: Collection[str]) -> str:
    """What is measured where these variables are given, such as log p(x) or log p(x, y | c)."""
    names = [name for name in reversed(model.p.variables) if name in weighed] or ["x"]
    inferred = () if model.q is None else tuple(model.q)
    given = [name for name in model.p.inputs if name not in (*RESERVED, *inferred)]
    return f"log p({', '.join(names)}{' | ' if given else ''}{', '.join(given)})"


def _require_same_units(model: Model, rows: Rows) -> None:
    """Raise DataError for rows whose numbers mean something else than those that the model was fitted to."""
    own, other = model.schema, rows.schema
    if own is None or own == other:
        return
    remedy = "pass the data as they are, a table or an array, and the model reads them itself"
    for name in own.fields.keys() & other.fields.keys():
        mine, theirs = own.fields[name], other.fields[name]
        if mine.measure != theirs.measure:
            raise DataError(f"the model is of {mine.measure}, and these rows are {theirs.measure}: {remedy}")
        if isinstance(mine, Table) and isinstance(theirs, Table):
            for one, two in zip(mine.columns, theirs.columns, strict=True):
                if (one.shift, one.scale) != (two.shift, two.scale):
                    raise DataError(
                        f"column {one.name!r} of these rows was standardised in another way than that of the "
                        f"model: {remedy}"
                    )


ADVICE = {
    "importance": "take more samples, train q longer, or use method='ais'",
    "naive": "draws from the prior rarely meet the posterior; use method='importance' or method='ais'",
    "ais": "take more distributions or chains",
}


def _caution(method: str, scored: set[str], found: Mapping[str, Tensor], samples: int) -> str:
    """A sentence where the number is not to be trusted."""
    if scored:
        names = ", ".join(map(repr, sorted(scored)))
        return (
            f"The likelihood of {names} is no density of such values (a Bernoulli's of grey values is a "
            f"cross-entropy): no evidence; binarise the data, or use a Normal likelihood"
        )
    effective, k_hat, advice = found.get("effective"), found.get("k_hat"), ADVICE.get(method, "")
    if effective is not None and samples >= 10 and float(effective.median()) < FEW:
        return (
            f"The effective sample size is {float(effective.median()):.1f} of {samples:,} (median): the "
            f"bound is loose and its Monte Carlo error too small; {advice}"
        )
    if k_hat is not None and samples > 25:
        doubted = float((k_hat > threshold(samples)).double().mean())
        if doubted > MANY_ROWS:
            return (
                f"The Pareto k-hat is above {threshold(samples):.2f} in {doubted:.0%} of the rows: their "
                f"weights have so heavy a tail that the Monte Carlo error is too small; {advice}"
            )
    return ""


def latents_of(model: Model, values: Any) -> list[str]:
    """The variables of p that q fills in at these values."""
    q_names = () if model.q is None else model.q.variables
    names = [name for name in q_names if name in model.p or name in model.p.inputs]
    return [name for name in names if name not in values or name + ".observed" in values]
