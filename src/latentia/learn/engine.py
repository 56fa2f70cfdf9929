"""The engine: one functional training step, run eagerly or compiled, with its optimiser and its noise.

B examples of a batch, T terms of the objective.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._compiling import one_graph, reason
from ..errors import UsageError
from ..model import Model
from ..noise import GivenNoise, Noise, Request, Source, draw_noise, mixed_seed
from ..objectives.bound import Bound, Direction
from ..schedules import Schedule

if TYPE_CHECKING:
    from ..data import Rows

Objective = Callable[..., Bound]
Run = Callable[..., tuple[Tensor, tuple[Tensor | None, ...], Tensor]]
OPTIMISERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "sgd": (torch.optim.SGD, {"fused": True}),
}
LIVE = 2**22  # entries of the widest layer, times samples, that are evaluated at a time


@contextmanager
def _forked(seed: int, device: torch.device) -> Iterator[None]:
    """A forked global generator, for nets that draw from it themselves, such as dropout."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Step(nn.Module):
    """values, noise, changing numbers -> (loss, report): the small module that every executor runs.

    loss    minus the surrogate's weighted mean over the batch
    report  `[1 + T]`, the means of the bound's value and of its terms
    """

    def __init__(self, model: Model, objective: Objective, constants: Mapping[str, Any], bf16: bool) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.constants, self.bf16, self.device_type = dict(constants), bf16, model.device.type

    def bound(self, values: Mapping[str, Tensor], noise: Source, numbers: Mapping[str, Tensor]) -> Bound:
        with torch.autocast(self.device_type, dtype=torch.bfloat16) if self.bf16 else nullcontext():
            model = self.model
            return self.objective(model.p, model.q, values, noise, **self.constants, **numbers)

    def forward(
        self, values: Mapping[str, Tensor], noise: Source | dict[str, Tensor], numbers: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        bound = self.bound(values, GivenNoise(noise) if isinstance(noise, dict) else noise, numbers)
        weight = values.get("weight")
        told = torch.stack([v.detach() for v in (bound.value, *bound.terms.values())])
        return -_mean(bound.surrogate, weight), _mean(told, weight)


def _ascent_direction(
    step: Step,
    parameters: Sequence[nn.Parameter],
    clips: bool,
    values: Mapping[str, Tensor],
    noise: Source | dict[str, Tensor],
    numbers: Mapping[str, Tensor],
) -> tuple[Tensor, tuple[Tensor | None, ...], Tensor]:
    """The report of a step, the loss's gradient for each parameter, and a size of the gradient.

    The size is the norm where that clips; otherwise |sum|, which is finite where every entry is, and sooner
    there.
    """
    loss, report = step(values, noise, numbers)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    found = [gradient for gradient in gradients if gradient is not None]
    if clips:
        return report, gradients, torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))
    return report, gradients, torch.stack([gradient.sum() for gradient in found]).sum().abs()


def _mean(per_example: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over the batch, the last dimension."""
    return per_example.mean(-1) if weight is None else (per_example * weight).sum(-1) / weight.sum()


@dataclass
class Engine:
    """A model with the objective, optimiser, executor and random numbers of its training.

    changing  objective keywords that are functions of the step; they reach the step as 0-d tensors
    clip      largest norm of the gradient; None leaves it
    alternate variational EM: q is updated at even steps, p at odd ones
    """

    step_module: Step
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    changing: Mapping[str, Schedule]
    clip: float | None
    alternate: bool
    seed: int
    executor: str = "eager"

    def __post_init__(self) -> None:
        model = self.model
        self.device, self.dtype = model.device, model.dtype
        self.generator = torch.Generator(self.device)
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.rates = [float(group["lr"]) for group in self.optimiser.param_groups]
        dropouts = nn.modules.dropout._DropoutNd
        self.draws_inside = any(isinstance(module, dropouts) for module in self.step_module.modules())
        self.skips_by_itself = bool(self.optimiser.defaults.get("fused")) and self.device.type != "cpu"
        self.requests: dict[str, Request] = {}
        self.term_names: tuple[str, ...] = ()
        self.direction: Direction = "none"
        inference = {id(p) for p in model.q.parameters()} if model.q is not None else set()
        generative = {id(p) for p in model.p.parameters()} - inference
        of_p = [p for p in self.parameters if id(p) in generative]
        of_q = [p for p in self.parameters if id(p) not in generative]  # and what the objective learns for q
        self.groups = [of_q, of_p] if self.alternate else [self.parameters]
        self.runs = self._eager_runs()

    @property
    def model(self) -> Model:
        return self.step_module.model

    def numbers(self, step: int) -> dict[str, Tensor]:
        """The objective's changing keywords at a step."""
        return {
            name: torch.tensor(f(step), device=self.device, dtype=self.dtype)
            for name, f in self.changing.items()
        }

    def probe(self, values: Mapping[str, Tensor]) -> bool:
        """Run the objective once without learning, to find its terms, direction and noise.

        Returns whether it can be compiled.
        """
        noise = Noise(0, self.device, self.dtype)
        with self._undone(), _forked(0, self.device):
            bound = self.step_module.bound(values, noise, self.numbers(0))
        batch = len(next(iter(values.values())))
        if bound.value.shape != (batch,) or bound.surrogate.shape != (batch,):
            raise UsageError(
                f"the objective must return a value and a surrogate of shape [{batch}], one number per "
                f"example; got {tuple(bound.value.shape)} and {tuple(bound.surrogate.shape)}"
            )
        self.term_names, self.direction = tuple(bound.terms), bound.direction
        self.requests = dict(noise.requests)
        return noise.replayable and not self.draws_inside

    def compile(self, values: Mapping[str, Tensor]) -> str | None:
        """Switch to the compiled executor; where that fails stay eager and return the reason in one line.

        Forward and backward pass are one graph where torch can trace both, and otherwise two.
        """
        validate = Distribution._validate_args
        why = None
        try:
            with warnings.catch_warnings(), self._undone():
                warnings.simplefilter("ignore")  # torch's own, about its own modules
                self.runs = [torch.compile(run, dynamic=False) for run in self.runs]
                with one_graph():
                    for run in self.runs:
                        run(values, self._given_noise(), self.numbers(0))
            self.executor = "compiled"
        except Exception as failure:
            self.runs = self._eager_runs()
            why = reason(failure)
        finally:
            Distribution.set_default_validate_args(validate)
        return why

    def _eager_runs(self) -> list[Run]:
        clips = self.clip is not None
        return [partial(_ascent_direction, self.step_module, group, clips) for group in self.groups]

    def _given_noise(self) -> dict[str, Tensor]:
        return {
            key: draw_noise(request, self.generator, self.dtype) for key, request in self.requests.items()
        }

    def advance(self, rows: Rows, index: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """One step of gradient ascent on the rows at `index`.

        Returns the report `[1 + T]` and whether the step was skipped: one whose gradient is not finite leaves
        parameters and optimiser as they were.
        """
        self.generator.manual_seed(mixed_seed(self.seed, "step", step))
        values = self.model.batch(rows, index, self.generator, self.parameters[0])
        noise: Any = self._given_noise() if self.executor == "compiled" else self._live_noise()
        turn = step % len(self.groups)
        with self._drawing_inside(step):
            report, gradients, size = self.runs[turn](values, noise, self.numbers(step))
        for parameter, gradient in zip(self.groups[turn], gradients, strict=True):
            parameter.grad = gradient
        return report, self._update(step, size)

    def _drawing_inside(self, step: int) -> AbstractContextManager[None]:
        if not self.draws_inside:
            return nullcontext()
        return _forked(mixed_seed(self.seed, "inside", step), self.device)

    def rate(self, step: int) -> float:
        """The learning rate at a step, of the first group of parameters."""
        return self.rates[0] * self.schedule(step)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Nets such as dropout and batch normalisation as they are when nothing is learnt."""
        self.step_module.eval()
        try:
            yield
        finally:
            self.step_module.train()

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """A trial: what a step of learning keeps beside the weights, such as running means, is put back."""
        buffers = [buffer.clone() for buffer in self.step_module.buffers()]
        try:
            yield
        finally:
            for buffer, before in zip(self.step_module.buffers(), buffers, strict=True):
                buffer.copy_(before)

    def _live_noise(self) -> Noise:
        return Noise(dtype=self.dtype, generator=self.generator)

    def _update(self, step: int, size: Tensor) -> Tensor:
        finite = size < math.inf  # which NaN is not
        if self.clip is not None:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            torch._foreach_mul_(gradients, (self.clip / (size + 1e-6)).clamp(max=1.0))
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.schedule(step)
        if self.skips_by_itself:  # a GPU need not be waited for
            self.optimiser.found_inf = (~finite).to(torch.float32)  # type: ignore[attr-defined]
            self.optimiser.step()
        elif finite:
            self.optimiser.step()
        for parameter in self.parameters:
            parameter.grad = None
        return ~finite

    @torch.no_grad()
    def evaluate(self, rows: Rows, step: int) -> dict[str, float]:
        """The objective's mean value and terms over all rows, in nats per example.

        The noise is the same at every call.
        """
        model = self.model
        noise = Noise(mixed_seed(self.seed, "valid"), self.device, self.dtype)
        samples = self.step_module.constants.get("samples", 1)
        chunk = max(1, min(1000, LIVE // (model.widest * max(1, int(samples)))))
        sums = torch.zeros(1 + len(self.term_names), dtype=torch.float64)
        count = 0.0
        with self._evaluating():
            for start in range(0, len(rows), chunk):
                values = model.batch(rows, slice(start, start + chunk))
                bound = self.step_module.bound(values, noise, self.numbers(step))
                told = torch.stack([bound.value, *bound.terms.values()]).double()
                weight = values.get("weight", torch.ones_like(bound.value)).double()
                sums += (told * weight).sum(-1).cpu()
                count += float(weight.sum())
        return self.named(sums / count)

    def named(self, report: Tensor) -> dict[str, float]:
        """A report `[1 + T]` as numbers by name; the first is "bound"."""
        return dict(zip(("bound", *self.term_names), report.tolist(), strict=True))

    def culprits(self) -> list[str]:
        """The parameters that hold a number that is not finite."""
        return [name for name, p in self.model.named_parameters() if not bool(torch.isfinite(p).all())]

    def tensors(self) -> dict[str, Tensor]:
        """What a step changes, by name: weights (the objective's too) and the optimiser's state."""
        state = {f"model.{name}": tensor for name, tensor in self.step_module.state_dict().items()}
        for place, slots in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{place}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        return state

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` gave."""
        weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self.step_module.load_state_dict(weights)
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, place, slot = name.split(".", 2)
                slots.setdefault(int(place), {})[slot] = tensor
        groups: Any = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": slots, "param_groups": groups})


def build_engine(
    model: Model,
    objective: Objective,
    keywords: Mapping[str, Any],
    *,
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    lr: float,
    schedule: Schedule,
    clip: float | None,
    alternate: bool,
    bf16: bool,
    seed: int,
) -> Engine:
    """An engine for a model. Raises UsageError for an unknown optimiser or a model with nothing to learn."""
    changing = {name: value for name, value in keywords.items() if callable(value)}
    constants = {name: value for name, value in keywords.items() if not callable(value)}
    step = Step(model, objective, constants, bf16).to(model.device)
    step.train()
    parameters = [p for p in step.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("this model has no parameters to learn")
    if callable(optimizer):
        made = optimizer(parameters)
    elif optimizer in OPTIMISERS:
        make, extra = OPTIMISERS[optimizer]
        made = make(parameters, lr=lr, **extra)
    else:
        raise UsageError(
            f"optimizer {optimizer!r} is unknown: use {', '.join(OPTIMISERS)}, or a function of the "
            f"parameters"
        )
    return Engine(step, made, schedule, changing, clip, alternate, seed)


def batches(count: int, batch: int, seed: int, start: int, device: torch.device) -> Iterator[Tensor]:
    """Endless row indices `[B]` from step `start` on.

    Each epoch is a new order, its last partial batch dropped.
    The order depends on (seed, epoch) alone, so a run can go on from any step.
    """
    per_epoch = count // batch
    step = start
    while True:
        epoch = step // per_epoch
        order = torch.randperm(
            count, generator=torch.Generator().manual_seed(mixed_seed(seed, "order", epoch))
        ).to(device)
        for place in range(step % per_epoch, per_epoch):
            yield order[place * batch : (place + 1) * batch]
            step += 1
