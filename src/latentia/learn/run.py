"""Run: what a fit returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..model import Model


@dataclass
class Run:
    """A finished fit.

    history     the records, as in metrics.jsonl: bounds in nats per example
    follows     which number early stopping follows
    best_step, best_value   where and how large it was at its best; the model holds the weights of that step
    stopped     "steps" or "patience"
    skipped     how many steps were left out because their gradient was not finite
    executor    "eager" or "compiled"
    """

    model: Model
    folder: Path | None
    objective: str
    method: str
    follows: str
    executor: str
    steps: int = 0
    best_step: int = 0
    best_value: float | None = None
    stopped: str = ""
    skipped: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        best = (
            ""
            if self.best_value is None
            else f", best {self.best_value:.3f} nats at step {self.best_step:,} ({self.follows})"
        )
        skipped = f", {self.skipped:,} steps skipped" if self.skipped else ""
        ran = f"{self.steps:,} steps in {self.seconds:.1f} s"
        return f"{self.method} of {self.objective}: {ran}, {self.executor}{best}{skipped}"
