"""Expectation-maximisation: E-steps by Exact, M-steps factor by factor.

K states of the enumerated latents, B rows of a chunk, N rows in all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import DivergedError, UsageError
from ..exact import Exact, Expectation, is_discrete
from ..joint import MASK, is_latent
from ..model import Model
from ..noise import Noise, mixed_seed
from .ascent import Progress, Record
from .steps import arguments_of, at_one_point, climb, refuse_moments, statistics_of

if TYPE_CHECKING:
    from ..data import Rows

ESTEPS = ("exact", "hard", "sampled")


@dataclass
class EMProgress(Progress):
    """Where a run of EM stands. `step` counts the iterations of all starts.

    start      which of the starts runs
    iteration  of that start
    value      its objective at the last iteration, per example
    verdict    why the best start so far ended, "converged" or "steps"
    change     what the last iteration but one gained
    """

    start: int = 0
    iteration: int = 0
    value: float | None = None
    change: float = math.inf
    verdict: str = ""


@dataclass
class EM:
    """A model, its training rows and how the two steps are done; what a checkpoint holds.

    estep   "exact": posterior expectations, so the evidence never decreases; "hard": the most probable state
            and the mean of Gaussian latents, so log p(x, z) never does; "sampled": one draw from the
            posterior, which promises nothing
    priors  by variable: `maximize` then gives the MAP, and evidence plus log prior never decreases
    climbs  L-BFGS iterations of an M-step without closed form
    starts  how many starts there will be
    mass    how many rows each state holds at the best start's end, `[*lead]`
    """

    model: Model
    rows: Rows | Mapping[str, Tensor]
    exact: Exact
    estep: str
    priors: Mapping[str, object]
    chunk: int
    seed: int
    climbs: int
    starts: int = 1

    def __post_init__(self) -> None:
        p = self.model.p
        learnt = {
            name: p[name]
            for name in p
            if p[name].is_bayesian or any(w.requires_grad for w in p[name].parameters())
        }
        self.closed = {name: factor for name, factor in learnt.items() if factor.has_closed_form}
        self.open = {name: factor for name, factor in learnt.items() if not factor.has_closed_form}
        self.mass = torch.zeros((), dtype=torch.float64)
        several = self.starts > 1
        self.initial = {n: t.clone() for n, t in self.model.state_dict().items()} if several else {}

    @property
    def step_module(self) -> Model:
        return self.model

    @property
    def size(self) -> int:
        """How many rows an iteration speaks for."""
        return round(float(self.rows["weight"].sum())) if isinstance(self.rows, Mapping) else len(self.rows)

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The rows' tensors, whole."""
        return self.rows if isinstance(self.rows, Mapping) else self.rows.tensors

    @property
    def states(self) -> dict[str, Tensor]:
        """The values of each discrete variable that is latent in the rows, or in some of them."""
        latent = [name for name in self.exact if is_latent(name, self.held)]
        return self.model.p.states(name for name in latent if is_discrete(self.model.p[name]))

    @torch.no_grad()
    def check(self) -> None:
        """Raise what an iteration would, before anything is written.

        NotExactError where the posterior has no closed form, UsageError where an M-step has none, TypeError
        and ValueError for priors that do not fit.
        """
        values = {name: value[:2] for name, value in next(self.chunks(self.rows)).items()}
        found = self.expect(values)
        for name in (*self.closed, *self.open):
            if not self.model.p[name].has_density:
                raise UsageError(
                    f"{name!r} is computed by a net, and EM has no M-step for that: give the net to what "
                    f"depends on {name!r}, or train by method='ascent'"
                )
        for name, factor in self.closed.items():
            statistics_of(name, factor, found, self.exact)
        for name, factor in self.open.items():
            refuse_moments(factor, arguments_of(name, factor, found, self.exact))
        self.of_parameters()

    def chunks(self, rows: Rows | Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Values in model units, some rows at a time."""
        size = len(next(iter(rows.values()))) if isinstance(rows, Mapping) else len(rows)
        for start in range(0, size, self.chunk):
            place = slice(start, start + self.chunk)
            if isinstance(rows, Mapping):
                yield {name: value[place] for name, value in rows.items()}
            else:
                yield self.model.batch(rows, place)

    @torch.no_grad()
    def iterate(self, step: int, weights: Tensor | None = None) -> float:
        """One E-step and one M-step. Returns the objective before the M-step, in nats per example.

        weights: of all rows `[*lead, N]`, in place of the E-step's own.
        """
        sums: dict[str, dict[str, Tensor]] = {name: {} for name in self.closed}
        kept: list[Expectation] = []
        objective, count, place = 0.0, 0.0, 0
        noise = Noise(mixed_seed(self.seed, "em", step), self.model.device, self.model.dtype)
        for values in self.chunks(self.rows):
            found = self.expect(values, noise)
            size = len(found.log_evidence)
            if weights is not None:
                found = found._replace(weight=_first(found, weights[..., place : place + size], values))
            place += size
            weight = values.get("weight", torch.ones_like(found.log_evidence)).double()
            objective += float((found.log_evidence.double() * weight).sum())
            count += float(weight.sum())
            found = found._replace(weight=found.weight * weight.to(found.weight))
            for name, factor in self.closed.items():
                _add(sums[name], statistics_of(name, factor, found, self.exact))
            if self.open:
                kept.append(found)
        of_parameters = self.of_parameters()
        for name, factor in self.closed.items():
            factor.maximize(sums[name], self.priors.get(name))
        if self.open:
            climb(self.open, kept, self.exact, self.priors, self.climbs)
        return (objective + of_parameters) / count

    def expect(self, values: Mapping[str, Tensor], noise: Noise | None = None) -> Expectation:
        """The E-step of one chunk; its `log_evidence` is the objective that the E-step climbs.

        Without noise nothing can be drawn, and a sampled E-step is an exact one.
        """
        found = self.exact.expect(values, expected=True)
        if self.estep == "hard":
            return at_one_point(found, None)
        return found if self.estep == "exact" or noise is None else at_one_point(found, noise)

    def of_parameters(self) -> float:
        """What parameters add to the objective, in nats: their log prior, less KL(q || p) of a posterior."""
        p = self.model.p
        log_prior = sum(float(p[name].log_prior(prior)) for name, prior in self.priors.items())
        return log_prior - sum(float(p[name].parameter_kl()) for name in p)

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> float:
        """The mean log-evidence of other rows, in nats per example."""
        objective = count = 0.0
        for values in self.chunks(rows):
            value = self.exact.log_evidence(values).double()
            weight = values.get("weight", torch.ones_like(value)).double()
            objective += float((value * weight).sum())
            count += float(weight.sum())
        return objective / count

    @torch.no_grad()
    def reached(self) -> tuple[float, Tensor]:
        """The objective at the parameters at hand, in nats per example, and the rows of each state.

        Starts are compared by it. With sampled E-steps it is log p(x), by an exact E-step: log p(x, z) at one
        draw of z would compare the draws as much as the starts.
        """
        objective, count, mass = self.of_parameters(), 0.0, torch.zeros((), dtype=torch.float64)
        for values in self.chunks(self.rows):
            found = self.expect(values)
            weight = values.get("weight", torch.ones_like(found.log_evidence)).double()
            objective += float((found.log_evidence.double() * weight).sum())
            count += float(weight.sum())
            mass = mass + (found.weight.double() * weight).sum(-1).cpu()
        return objective / count, mass

    def troubles(self) -> list[str]:
        """What a user should know of the estimate: empty components, variances at their floor."""
        found = [sentence for name, factor in self.closed.items() for sentence in factor.troubles(name)]
        names = list(self.states) if self.mass.ndim else []
        for place, name in enumerate(names):
            others = [d for d in range(self.mass.ndim) if d != place]
            shares = self.mass.sum(others) if others else self.mass
            empty = (shares < 1).nonzero().flatten().tolist()
            if empty and not self.model.p[name].is_bayesian:
                shown = ", ".join(map(str, empty[:5])) + (" ..." if len(empty) > 5 else "")
                found.append(
                    f"{name!r}: component {shown} holds less than one row: use fewer components, or other "
                    f"starts (starts=, seed=)"
                )
        return found

    def restart(self) -> None:
        """The weights as they were before the first start: one start leaves nothing to the next."""
        self.model.load_state_dict(self.initial)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, at hand and at first, and the mass of the states, by name."""
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return weights | {f"initial.{name}": t for name, t in self.initial.items()} | {"mass": self.mass}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` gave."""
        weights, self.initial = (
            {name.removeprefix(kind): t for name, t in tensors.items() if name.startswith(kind)}
            for kind in ("model.", "initial.")
        )
        self.model.load_state_dict(weights)
        self.mass = tensors["mass"]


def maximise(
    em: EM,
    valid: Rows | None,
    first_weights: Callable[[EM, int], Tensor | None],
    steps: int,
    tol: float,
    progress: EMProgress,
) -> Iterator[list[Record]]:
    """Run EM from each start to convergence, yielding after every iteration its records, which say of which
    start they are, counted from 1.

    first_weights  gives a start's first posterior weights `[*lead, N]`, and sets what they do not; None
                   begins with the parameters as they are
    tol            converged when the objective per example changes by at most `tol` times its size, or 1

    Raises DivergedError where the objective is not finite, or a covariance cannot be factorised.
    """
    clock, before = time.perf_counter(), progress.seconds
    while not progress.stopped:
        if progress.iteration == 0:
            if progress.start > 0:
                em.restart()
            with _algebra(progress):
                weights = first_weights(em, progress.start)
                if weights is not None:
                    em.iterate(progress.step, weights)
        while True:
            began, start = time.perf_counter(), progress.start + 1
            with _algebra(progress):
                value = _finite(em.iterate(progress.step), progress)
            progress.step += 1
            progress.iteration += 1
            progress.change = math.inf if progress.value is None else value - progress.value
            progress.value = value
            converged = abs(progress.change) <= tol * max(1.0, abs(value))
            now = time.perf_counter()
            progress.seconds = before + now - clock
            last = converged or progress.iteration >= steps
            if last:
                _settle(em, progress, "converged" if converged else "steps")
            at: Record = {"step": progress.step, "epoch": progress.step, "start": start}
            at |= {"seconds": progress.seconds, "terms": {}}
            speed = em.size / max(1e-9, now - began)
            records = [at | {"split": "train", "bound": value, "examples_per_second": speed}]
            if last and valid is not None:
                records.append(at | {"split": "valid", "bound": em.evaluate(valid)})
            yield records
            if last:
                break


def _settle(em: EM, progress: EMProgress, why: str) -> None:
    """End a start: note whether it is the best so far, and make the next one ready."""
    with _algebra(progress):
        value, mass = em.reached()
    if _finite(value, progress) > (-math.inf if progress.best_value is None else progress.best_value):
        progress.best_value, progress.best_step, em.mass = value, progress.step, mass
        progress.verdict = why
    if progress.start + 1 >= em.starts:
        progress.stopped = why
        return
    progress.start, progress.iteration, progress.value = progress.start + 1, 0, None


def _finite(value: float, progress: EMProgress) -> float:
    if not math.isfinite(value):
        raise DivergedError(
            f"the objective of EM is not finite at iteration {progress.iteration + 1:,}: look for extreme "
            f"values in the data, or raise the floor of the variances"
        )
    return value


@contextmanager
def _algebra(progress: EMProgress) -> Iterator[None]:
    try:
        yield
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise DivergedError(
            f"a covariance cannot be factorised at iteration {progress.iteration + 1:,} of EM: look for "
            f"extreme values in the data, raise the floor of the variances, or compute in float64"
        ) from error


def _first(found: Expectation, weights: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """A start's weights of some rows; where a latent is observed in some rows, those rows alone."""
    seen = [values[name + MASK] for name in found.posterior.states if name + MASK in values]
    if not seen:
        return weights.to(found.weight)
    return found.weight * torch.stack(seen).any(0)


def _add(sums: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    for name, tensor in more.items():
        sums[name] = sums[name] + tensor if name in sums else tensor
