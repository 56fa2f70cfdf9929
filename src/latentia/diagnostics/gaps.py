"""Where the distance between log p(x) and the ELBO comes from: the family of q, or the encoder.

N rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._words import did_you_mean
from ..evidence import Estimate, log_evidence
from ..exact import NotExactError
from ..factor import NotEnumerableError
from ..factors.covariances import Covariance, Diagonal
from ..model import Model
from ._measured import Measured
from ._rows import latents_of

if TYPE_CHECKING:
    from ..data import Rows

METHODS = ("exact", "ais", "importance")
GROUPS = 10  # of draws, whose spread is the Monte Carlo error
BELOW_ZERO = 4.0  # standard errors by which a gap must be negative to be remarked on


@dataclass(frozen=True)
class Gaps:
    """log p(x) = L(q) + amortisation gap + approximation gap, each for every row, in nats.

    evidence       log p(x), or a bound or estimate of it
    best           L(q*), the ELBO of the best q found in the family for each row by itself
    amortised      L(q), the ELBO of the model's own q(z | x)
    approximation  log p(x) - L(q*): what the family costs
    amortisation   L(q*) - L(q): what it costs that one encoder serves all rows; the same draws on both sides
    family         of q*
    """

    evidence: Estimate
    best: Measured
    amortised: Measured
    approximation: Measured
    amortisation: Measured
    family: Covariance

    @property
    def total(self) -> Measured:
        """log p(x) - L(q), the sum of the two gaps."""
        errors = (self.evidence.mc_errors.square() + self.amortised.mc_errors.square()).sqrt()
        return Measured(self.evidence.values - self.amortised.values, errors)

    @property
    def direction(self) -> str:
        """A sentence on what the gaps bound."""
        search = (
            "q* is what the optimiser found, so the amortisation gap is at least what is shown, and the "
            "approximation gap at most"
        )
        if self.evidence.direction == "exact":
            return search
        bound = {"lower": "a lower bound", "upper": "an upper bound"}.get(self.evidence.direction)
        if bound is None:
            return f"log p(x) is an estimate and no bound; {search}"
        way = "larger" if self.evidence.direction == "lower" else "smaller"
        return (
            f"log p(x) by {self.evidence.name} is {bound}, so the approximation gap may be {way} than shown. "
            f"q* is what the optimiser found: a better one would move its part of the approximation gap to "
            f"the amortisation gap"
        )

    @property
    def caution(self) -> str:
        """A sentence where a gap is negative beyond its error, or the evidence in doubt; else empty."""
        if _below_zero(self.amortisation):
            return (
                f"The amortised q is better than the best {self.family} that was found: take more steps, or "
                f"a richer family, such as family=Full()"
            )
        if _below_zero(self.approximation):
            return (
                f"The evidence by {self.evidence.name} is below the ELBO of the best q: it is too loose to "
                f"measure the approximation gap; take more samples or another method"
            )
        return self.evidence.caution

    def __repr__(self) -> str:
        method = "exact" if self.evidence.direction == "exact" else self.evidence.name
        evidence = Measured(self.evidence.values, self.evidence.mc_errors.nan_to_num())
        lines = [
            f"{self.evidence.side:<25} {evidence}, {method}",
            f"{'best q, ' + str(self.family):<25} {self.best}",
            f"{'amortised q':<25} {self.amortised}",
            f"{'approximation gap':<25} {self.approximation}",
            f"{'amortisation gap':<25} {self.amortisation}",
        ]
        units = f"Nats per example, {self.evidence.units} units, N = {len(self.best.values)}"
        return "\n".join([*lines, *(f"{text}." for text in (units, self.direction, self.caution) if text)])


def inference_gaps(
    model: Model,
    x: Any,
    *,
    evidence: str | Estimate | None = None,
    family: Covariance = Diagonal(),  # noqa: B008 (frozen)
    samples: int = 200,
    steps: int = 2000,
    lr: float = 0.05,
    seed: int = 0,
) -> Gaps:
    """The approximation and the amortisation gap of q(z | x), per example and on average, in nats.

        log p(x) - L(q) = [log p(x) - L(q*)] + [L(q*) - L(q)],   q* = argmax L over the family, for each x

    evidence   log p(x): "exact" (where possible, the default), "ais" (the default elsewhere) or "importance",
               with the defaults of `log_evidence`; or an Estimate of these rows that is already there
    family     of q*: Diagonal(), Full() or LowRank(r); a flow is not offered
    samples    draws per row with which both ELBOs are measured: fresh ones for q*, not those it was fitted
               with
    steps, lr  of Adam, which fits q* to all rows at once, from the model's own q on (see `fit_posteriors`)

    It takes as long as 8 x `steps` passes of the decoder over the rows, and the evidence beside: a hundred
    rows say much. Both gaps are non-negative up to their errors; `Gaps.direction` says what they bound. With
    several latent variables q* factorises over them: where the model's q does not, it may be better than q*,
    and the amortisation gap negative.

    Raises ValueError where q is the exact posterior or no density, for samples below 2, an unknown method, an
    Estimate of other rows or units, and latents that are neither discrete nor flat and continuous.

    Cremer, Li & Duvenaud (2018), "Inference suboptimality in variational autoencoders", section 3.
    """
    from ..posteriors import fit_posteriors

    if samples < 2:
        raise ValueError(f"samples must be at least 2, to tell the Monte Carlo error, got {samples}")
    rows = model.rows(x)
    latents_of(model, model.batch(rows, slice(0, 1)))
    if model.q is not None and model.q.exact:
        raise ValueError(
            "q is the exact posterior: both gaps are zero. Gaps are of an inference model, q = Joint(...)"
        )
    known = evidence if isinstance(evidence, Estimate) else _evidence(model, rows, evidence, seed)
    _check_same(model, rows, known)
    numbered = replace(rows, tensors={**rows.tensors, "row": torch.arange(len(rows), device=rows.device)})
    best = fit_posteriors(model, rows, family, start=model.q, steps=steps, lr=lr, seed=seed)
    one = _elbos(best, numbered, samples, known.units, seed + 1)
    other = _elbos(model, rows, samples, known.units, seed + 1)
    found, amortised, gap = _measured(one), _measured(other), _measured(one - other)
    unknown = known.mc_errors.isnan()
    errors = (torch.where(unknown, 0.0, known.mc_errors).square() + found.mc_errors.square()).sqrt()
    return Gaps(
        evidence=known,
        best=found,
        amortised=amortised,
        approximation=Measured(known.values.double() - found.values, errors),
        amortisation=gap,
        family=family,
    )


def _evidence(model: Model, rows: Rows, method: str | None, seed: int) -> Estimate:
    if method is not None and method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        raise ValueError(f"evidence {method!r} is unknown: use {', '.join(map(repr, METHODS))}{hint}")
    if method is not None:
        return log_evidence(model, rows, method, seed=seed)
    try:
        return log_evidence(model, rows, "exact")
    except (NotExactError, NotEnumerableError):
        return log_evidence(model, rows, "ais", seed=seed)


def _check_same(model: Model, rows: Rows, known: Estimate) -> None:
    if len(known.values) != len(rows):
        raise ValueError(f"the evidence is of {len(known.values)} rows, and there are {len(rows)} here")
    if known.direction == "none":
        raise ValueError(f"there is no evidence to compare with. {known.caution}")
    expected = "data" if model.schema is not None else "model"
    if known.units not in ("data", "model") or (known.units == "data" and model.schema is None):
        raise ValueError(f"the evidence is in {known.units} units, and {expected} units are needed")


def _elbos(model: Model, rows: Rows, samples: int, units: str, seed: int) -> Tensor:
    """The ELBO of each row by groups of draws, `[G, N]` float64: the same noise for the same seed."""
    count = min(GROUPS, samples)
    size = math.ceil(samples / count)
    found = [
        log_evidence(model, rows, "elbo", size, units=units, seed=seed + 7919 * group).values.double()
        for group in range(count)
    ]
    return torch.stack(found)


def _measured(groups: Tensor) -> Measured:
    return Measured(groups.mean(0), groups.std(0) / math.sqrt(len(groups)))


def _below_zero(gap: Measured) -> bool:
    return gap.mean < -BELOW_ZERO * max(gap.mc_error, 1e-9) - 1e-6
