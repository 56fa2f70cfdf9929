"""The learning curve: the bound and its terms over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._values import Floats, Limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..learn import Run

Curves = Mapping[str, ArrayLike]
MEANING = {
    "bound": "bound",
    "reconstruction": r"reconstruction, $\mathrm{E}_q\,[\log\,p(x\mid z)]$",
    "kl": r"$\mathrm{KL}\,(q(z\mid x)\,\Vert\,p(z))$",
}
MOST = 6  # panels


class LossDisplay(Display):
    """The bound and its terms, of training batches and of the validation rows, over steps.

    train, valid  {"step": [T], "bound": [T], and each term by name: [T]}, nats per example in model units;
                  valid may be None
    best_step     the step whose weights the run kept; marked
    """

    title = "Learning curve"

    def __init__(self, train: Curves, valid: Curves | None = None, *, best_step: int | None = None) -> None:
        self.train = {name: np.asarray(curve, dtype=np.float64) for name, curve in train.items()}
        self.valid = {name: np.asarray(curve, dtype=np.float64) for name, curve in (valid or {}).items()}
        self.best_step = best_step

    @classmethod
    def from_run(cls, run: Run | str | Path) -> LossDisplay:
        """The curves of a run, or of a run folder's metrics.jsonl; DoesNotApply where it holds none."""
        if isinstance(run, str | Path):
            from ..learn import read_metrics

            return cls.from_history(read_metrics(Path(run)))
        return cls.from_history(run.history)

    @classmethod
    def from_history(cls, history: Sequence[Mapping[str, Any]]) -> LossDisplay:
        """The curves of records as in metrics.jsonl; the best step has the largest validation bound."""
        train, valid = (_curves(history, split) for split in ("train", "valid"))
        if not train and not valid:
            raise DoesNotApply("the run has told of no step yet: there is no learning curve")
        best = None
        if valid and np.isfinite(valid["bound"]).any():
            best = int(valid["step"][np.nanargmax(valid["bound"])])
        return cls(train, valid or None, best_step=best)

    @property
    def names(self) -> list[str]:
        """The bound and the terms that are drawn."""
        known = dict.fromkeys([*self.train, *self.valid])
        return [name for name in known if name != "step"][:MOST]

    @property
    def size(self) -> tuple[float, float]:
        count = len(self.names)
        return max(4.8, 3.5 * min(3, count) + 0.3), 2.9 * -(-count // 3) + 0.3

    @property
    def caption(self) -> str:
        text = (
            "The bound and its terms over gradient steps, in nats per example of the data as the model sees "
        )
        text += "them (after preprocessing). A larger bound is better."
        if self.valid:
            text += (
                " Validation values use the same noise at every step, training values are means of batches."
            )
        if self.best_step is not None:
            text += f" The dotted line marks step {self.best_step:,}, the best on the validation rows."
        if any(_limits(self._curves(name)) is not None for name in self.names):
            text += " The first steps may lie outside the frame."
        return text

    def draw(self, ax: Axes) -> None:
        names = self.names
        parts = canvas.panels(ax, len(names), min(3, len(names)))
        for part, name in zip(parts, names, strict=True):
            self._panel(part, name)
        canvas.legend(parts[0])

    def _panel(self, ax: Axes, name: str) -> None:
        kept = self.best_step is not None
        for label, curves, colour in (
            ("training", self.train, canvas.BLUE),
            ("validation", self.valid, canvas.VERMILLION),
        ):
            if name in curves:
                marker = "o" if len(curves["step"]) < 3 else None
                ax.plot(curves["step"], curves[name], marker=marker, ms=3, lw=1.3, color=colour, label=label)
        if kept:
            ax.axvline(float(self.best_step or 0), color=canvas.GREY, lw=1, ls=":", zorder=0)
        if kept and name == "bound" and self.valid:
            best = float(np.nanmax(self.valid["bound"]))
            label = f"best {best:,.2f}, step {self.best_step:,}"
            x = float(self.best_step or 0)
            ax.plot([x], [best], "o", ms=6, mfc="white", mec=canvas.VERMILLION, label=label)
        limits = _limits(self._curves(name))
        if limits is not None:
            ax.set_ylim(*limits)
        canvas.title(ax, MEANING.get(name, name.replace("$", r"\$")), canvas.NORMAL)
        better = " (larger is better)" if name == "bound" else ""
        canvas.style(ax, "step", f"nats per example{better}")
        ax.locator_params(axis="x", nbins=5)
        ax.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")

    def _curves(self, name: str) -> list[tuple[Floats, Floats]]:
        return [(curves["step"], curves[name]) for curves in (self.train, self.valid) if name in curves]


def _curves(history: Sequence[Mapping[str, Any]], split: str) -> dict[str, Floats]:
    records = [record for record in history if record["split"] == split]
    if not records:
        return {}
    terms = dict.fromkeys(name for record in records for name in record["terms"])
    nan = float("nan")
    curves = {"step": [r["step"] for r in records], "bound": [r["bound"] for r in records]}
    curves |= {name: [r["terms"].get(name, nan) for r in records] for name in terms}
    return {name: np.asarray(curve, dtype=np.float64) for name, curve in curves.items()}


def _limits(curves: list[tuple[Floats, Floats]]) -> Limits | None:
    """Limits that leave out the first tenth of the run where its values would flatten all others."""
    last = max(float(steps.max(initial=0)) for steps, _ in curves)
    whole = np.concatenate([values[np.isfinite(values)] for _, values in curves])
    late = np.concatenate([values[np.isfinite(values) & (steps > 0.1 * last)] for steps, values in curves])
    if len(late) < 4 or np.ptp(whole) < 2 * np.ptp(late) or np.ptp(late) == 0:
        return None
    margin = 0.08 * float(np.ptp(late))
    return float(late.min()) - margin, float(late.max()) + margin
