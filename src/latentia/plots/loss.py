"""The learning curve: the bound and its terms over the steps of a run, or the evidence over those of EM."""

from __future__ import annotations

import itertools
import tomllib
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
FLAT = 1e-3  # of EM's objective, the least range of its axis: smaller changes are rounding
JOINT = "log p(x, z)"  # at one point of the posterior: of hard and sampled E-steps


class LossDisplay(Display):
    """The bound and its terms, of training batches and of the validation rows, over steps; or EM's objective
    over iterations.

    train, valid  {"step": [T], "bound": [T], and each term by name: [T]}, nats per example in model units;
                  of EM also "start": [T], which start an iteration belongs to; valid may be None
    best_step     the step whose weights the run kept; marked
    em            what EM climbs, "log p(x)" or "log p(x, z)", of all training rows; None for gradient ascent
    """

    title = "Learning curve"

    def __init__(
        self,
        train: Curves,
        valid: Curves | None = None,
        *,
        best_step: int | None = None,
        em: str | None = None,
    ) -> None:
        self.train = {name: np.asarray(curve, dtype=np.float64) for name, curve in train.items()}
        self.valid = {name: np.asarray(curve, dtype=np.float64) for name, curve in (valid or {}).items()}
        self.best_step, self.em = best_step, em

    @classmethod
    def from_run(cls, run: Run | str | Path, em: str | None = None) -> LossDisplay:
        """The curves of a run, or of a run folder's metrics.jsonl; DoesNotApply where it holds none.

        em: what EM climbs, where that is neither log p(x) nor log p(x, z).
        """
        if isinstance(run, str | Path):
            from ..learn import read_metrics

            found = em_objective(Path(run))
            return cls.from_history(read_metrics(Path(run)), found if found is None else em or found)
        if run.method == "em" and em is not None:
            return cls.from_history(run.history, em)
        return cls.from_history(run.history, run.objective if run.method == "em" else None)

    @classmethod
    def from_history(cls, history: Sequence[Mapping[str, Any]], em: str | None = None) -> LossDisplay:
        """The curves of records as in metrics.jsonl; the best step has the largest validation bound, or, of
        EM, the largest objective.
        """
        train, valid = (_curves(history, split) for split in ("train", "valid"))
        if not train and not valid:
            raise DoesNotApply("the run has told of no step yet: there is no learning curve")
        best = None
        if em is not None and train:
            return cls(train, valid or None, best_step=int(train["step"][np.argmax(train["bound"])]), em=em)
        if valid and np.isfinite(valid["bound"]).any():
            best = int(valid["step"][np.nanargmax(valid["bound"])])
        return cls(train, valid or None, best_step=best)

    @property
    def names(self) -> list[str]:
        """The bound and the terms that are drawn."""
        known = dict.fromkeys([*self.train, *self.valid])
        return [name for name in known if name not in ("step", "start")][:MOST]

    @property
    def size(self) -> tuple[float, float]:
        count = len(self.names)
        if self.em is not None:
            return 6.0, 3.6
        return max(4.8, 3.5 * min(3, count) + 0.3), 2.9 * -(-count // 3) + 0.3

    @property
    def caption(self) -> str:
        if self.em is not None:
            return self._em_caption()
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
        if self.em is not None:
            self._draw_em(ax)
            return
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

    def _em_caption(self) -> str:
        text = (
            f"Over the iterations of EM, each an E-step and an M-step over all rows: {self.em} of the "
            "training rows, in nats per example of the data as the model sees them (after preprocessing)."
        )
        if len(self._starts()) > 1:
            text += " Where a line ends, another start begins; the best is kept."
        if self.valid and self.em == "log p(x)":
            text += " Validation: log p(x) of the validation rows after the last iteration."
        return text

    def _starts(self) -> list[slice]:
        """The iterations of each start."""
        count = len(self.train["bound"])
        ends = np.flatnonzero(np.diff(self.train.get("start", np.zeros(count)))) + 1
        edges = [0, *ends.tolist(), count]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]

    def _is_far(self) -> bool:
        """Whether the validation rows' evidence would flatten the curve of the training rows'."""
        bound, last = self.train["bound"], float(self.valid["bound"][-1])
        room = float(np.ptp(bound))
        return not bound.min() - room <= last <= bound.max() + room

    def _draw_em(self, ax: Axes) -> None:
        steps, bound = self.train["step"], self.train["bound"]
        starts = self._starts()
        for i, place in enumerate(starts):
            marker = "o" if len(steps[place]) < 30 else None
            name = "training" if i == 0 else None
            ax.plot(steps[place], bound[place], marker=marker, ms=3, lw=1.3, color=canvas.BLUE, label=name)
        if self.valid and self.em == "log p(x)":
            last, outside = float(self.valid["bound"][-1]), self._is_far()
            label = f"validation {last:,.2f}{', outside the frame' if outside else ''}"
            ax.plot(
                steps[:1],
                [np.nan if outside else last],
                color=canvas.VERMILLION,
                lw=1.2,
                ls="--",
                label=label,
            )
            if not outside:
                ax.axhline(last, color=canvas.VERMILLION, lw=1.2, ls="--")
        if len(starts) > 1 and self.best_step is not None:
            best = float(bound.max())
            label = f"best {best:,.2f}, iteration {self.best_step:,}"
            ax.plot([self.best_step], [best], "o", ms=6, mfc="white", mec=canvas.BLUE, label=label)
        low, high = ax.get_ylim()
        middle, least = (low + high) / 2, FLAT * max(1.0, abs(low))
        if high - low < least:
            ax.set_ylim(middle - least / 2, middle + least / 2)
        canvas.title(ax, "Expectation-maximisation")
        canvas.style(ax, "iteration", f"{self.em}, nats per example", maths=False)
        ax.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        ax.locator_params(axis="x", integer=True)
        canvas.legend(ax)

    def _curves(self, name: str) -> list[tuple[Floats, Floats]]:
        return [(curves["step"], curves[name]) for curves in (self.train, self.valid) if name in curves]


def em_objective(folder: Path) -> str | None:
    """What EM climbed in a run folder, by its config.toml; None for a run of another method."""
    path = folder / "config.toml"
    config = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    options = {**config.get("fit", {}), **config.get("em", {})}
    if options.get("method") != "em":
        return None
    return "log p(x)" if options.get("estep", "exact") == "exact" else JOINT


def _curves(history: Sequence[Mapping[str, Any]], split: str) -> dict[str, Floats]:
    records = [record for record in history if record["split"] == split]
    if not records:
        return {}
    terms = dict.fromkeys(name for record in records for name in record["terms"])
    nan = float("nan")
    curves = {name: [r[name] for r in records] for name in ("step", "bound", "start") if name in records[0]}
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
