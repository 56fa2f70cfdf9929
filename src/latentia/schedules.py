"""Numbers that change during a run: functions of the step, for learning rates and objectives' keywords."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class linear_warmup:
    """From 0 to `end` linearly over the first `steps` steps: `fit(..., beta=linear_warmup(1000))`."""

    steps: int
    end: float = 1.0

    def __call__(self, step: int) -> float:
        return self.end * min(1.0, (step + 1) / max(1, self.steps))


@dataclass(frozen=True)
class exponential_decay:
    """From `start` to `end` in equal ratios over the first `steps` steps, and `end` from then on:
    `fit(..., temperature=exponential_decay(1.0, 0.3, 10_000))`.

    Raises ValueError unless both are positive.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise ValueError(
                f"an exponential decay goes from one positive number to another, got {self.start} and "
                f"{self.end}"
            )

    def __call__(self, step: int) -> float:
        share = min(1.0, step / max(1, self.steps))
        return self.start * math.exp(share * math.log(self.end / self.start))


def learning_rate(name: str | Mapping[int, float] | Schedule, steps: int) -> Schedule:
    """The factor on the learning rate at each step.

    name: "constant"; "cosine", cos^2 from 1 to 0 over the run; "linear", from 1 to 0; {step: factor},
    piecewise constant; or any function of the step. Raises ValueError for another name.
    """
    if callable(name):
        return name
    if isinstance(name, Mapping):
        drops = sorted((int(step), float(factor)) for step, factor in name.items())
        return lambda step: next((factor for start, factor in reversed(drops) if step >= start), 1.0)
    shapes: dict[str, Schedule] = {
        "constant": lambda step: 1.0,
        "cosine": lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps)))),
        "linear": lambda step: max(0.0, 1 - step / max(1, steps)),
    }
    if name not in shapes:
        raise ValueError(
            f"learning-rate schedule {name!r} is unknown: use {', '.join(shapes)}, or {{step: factor}}"
        )
    return shapes[name]
