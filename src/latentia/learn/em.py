"""Expectation-maximisation: E-steps by Exact, M-steps factor by factor.

K states of the enumerated latents, B rows of a chunk, N rows in all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import DivergedError
from ..exact import Exact, Expectation, is_discrete
from ..joint import MASK
from ..model import Model
from ..noise import Noise
from .ascent import Progress, Record
from .engine import mixed_seed
from .steps import at_one_point, climb, statistics_of

if TYPE_CHECKING:
    from ..data import Rows

ESTEPS = ("exact", "hard", "sampled")


@dataclass
class EMProgress(Progress):
    """Where a run of EM stands. `step` counts the iterations of all starts.

    start      which of the starts runs
    iteration  of that start
    value      its objective at the last iteration, per example
    """

    start: int = 0
    iteration: int = 0
    value: float | None = None
    change: float = math.inf


@dataclass
class EM:
    """A model, its training rows and how the two steps are done; what a checkpoint holds.

    estep   "exact": posterior expectations, so the evidence never decreases; "hard": the most probable state
            and the mean of Gaussian latents, so log p(x, z) never does; "sampled": one draw from the
            posterior, which promises nothing
    priors  by variable: `maximize` then gives the MAP, and evidence plus log prior never decreases
    climbs  L-BFGS iterations of an M-step without closed form
    """

    model: Model
    rows: Rows | Mapping[str, Tensor]
    exact: Exact
    estep: str
    priors: Mapping[str, object]
    chunk: int
    seed: int
    climbs: int

    def __post_init__(self) -> None:
        p = self.model.p
        learnt = {name: p[name] for name in p if any(w.requires_grad for w in p[name].parameters())}
        self.closed = {name: factor for name, factor in learnt.items() if factor.has_closed_form}
        self.mass = torch.zeros(())  # rows of each state, [*lead]
        self.open = {name: factor for name, factor in learnt.items() if not factor.has_closed_form}

    @property
    def step_module(self) -> Model:
        return self.model

    @property
    def size(self) -> int:
        """How many rows an iteration goes through."""
        return len(next(iter(self.rows.values()))) if isinstance(self.rows, Mapping) else len(self.rows)

    @property
    def states(self) -> dict[str, Tensor]:
        """The values of each discrete latent."""
        return self.model.p.states(name for name in self.exact if is_discrete(self.model.p[name]))

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
        mass: Tensor | float = 0.0
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
            mass = mass + found.weight.double().sum(-1)
            for name, factor in self.closed.items():
                _add(sums[name], statistics_of(name, factor, found, self.exact))
            if self.open:
                kept.append(found)
        penalty = sum(float(self.model.p[name].log_prior(prior)) for name, prior in self.priors.items())
        for name, factor in self.closed.items():
            factor.maximize(sums[name], self.priors.get(name))
        self.mass = torch.as_tensor(mass)
        if self.open:
            climb(self.open, kept, self.exact, self.priors, self.climbs)
        return (objective + penalty) / count

    def expect(self, values: Mapping[str, Tensor], noise: Noise) -> Expectation:
        """The E-step of one chunk; its `log_evidence` is the objective that the E-step climbs."""
        found = self.exact.expect(values)
        if self.estep == "exact":
            return found
        return at_one_point(found, noise if self.estep == "sampled" else None)

    @torch.no_grad()
    def evaluate(self, rows: Rows | Mapping[str, Tensor]) -> float:
        """The mean log-evidence of rows, in nats per example."""
        objective = count = 0.0
        for values in self.chunks(rows):
            value = self.exact.log_evidence(values).double()
            weight = values.get("weight", torch.ones_like(value)).double()
            objective += float((value * weight).sum())
            count += float(weight.sum())
        return objective / count

    def troubles(self) -> list[str]:
        """What a user should know of the estimate: empty components, variances at their floor."""
        found = [sentence for name, factor in self.closed.items() for sentence in factor.troubles(name)]
        names = list(self.states) if self.mass.ndim else []
        for place, name in enumerate(names):
            others = [d for d in range(self.mass.ndim) if d != place]
            shares = self.mass.sum(others) if others else self.mass
            empty = (shares < 1).nonzero().flatten().tolist()
            if empty:
                shown = ", ".join(map(str, empty[:5])) + (" ..." if len(empty) > 5 else "")
                found.append(
                    f"{name!r}: component {shown} holds less than one row: use fewer components, or other "
                    f"starts (starts=, seed=)"
                )
        return found

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by name."""
        return dict(self.model.state_dict())

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` gave."""
        self.model.load_state_dict(dict(tensors))


def maximise(
    em: EM,
    valid: Rows | None,
    first_weights: Callable[[EM, int], Tensor | None],
    starts: int,
    steps: int,
    tol: float,
    progress: EMProgress,
) -> Iterator[list[Record]]:
    """Run EM from each start to convergence, yielding after every iteration.

    first_weights  gives a start's first posterior weights `[*lead, N]`, and sets what they do not; None
                   begins with the parameters as they are
    tol            converged when the objective per example changes by at most `tol` times its size, or 1

    Raises DivergedError where the objective is not finite.
    """
    clock, before = time.perf_counter(), progress.seconds
    while not progress.stopped:
        if progress.iteration == 0:
            weights = first_weights(em, progress.start)
            if weights is not None:
                em.iterate(progress.step, weights)
        while True:
            began = time.perf_counter()
            value = em.iterate(progress.step)
            if not math.isfinite(value):
                raise DivergedError(
                    f"the objective of EM is not finite at iteration {progress.iteration + 1:,}: look for "
                    f"extreme values in the data, or raise the floor of the variances"
                )
            progress.step += 1
            progress.iteration += 1
            progress.change = math.inf if progress.value is None else value - progress.value
            progress.value = value
            converged = abs(progress.change) <= tol * max(1.0, abs(value))
            now = time.perf_counter()
            progress.seconds = before + now - clock
            last = converged or progress.iteration >= steps
            if last:
                _settle(em, progress, starts, "converged" if converged else "steps")
            at = {"step": progress.step, "epoch": progress.step, "seconds": progress.seconds, "terms": {}}
            speed = em.size / max(1e-9, now - began)
            records = [at | {"split": "train", "bound": value, "examples_per_second": speed}]
            if progress.stopped and valid is not None:
                records.append(at | {"split": "valid", "bound": em.evaluate(valid)})
            yield records
            if last:
                break


def _settle(em: EM, progress: EMProgress, starts: int, why: str) -> None:
    """End a start: note whether it is the best so far, and make the next one ready."""
    value = em.evaluate(em.rows) if starts > 1 else float(progress.value or 0.0)
    if progress.best_value is None or value > progress.best_value:
        progress.best_value, progress.best_step = value, progress.step
    if progress.start + 1 >= starts:
        progress.stopped = why
        return
    progress.start, progress.iteration, progress.value = progress.start + 1, 0, None


def _first(found: Expectation, weights: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """A start's weights of some rows; where a latent is observed in some rows, those rows alone."""
    seen = [values[name + MASK] for name in found.posterior.states if name + MASK in values]
    if not seen:
        return weights.to(found.weight)
    return found.weight * torch.stack(seen).any(0)


def _add(sums: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    for name, tensor in more.items():
        sums[name] = sums[name] + tensor if name in sums else tensor
