"""Models side by side: the evidence of the same test rows, with paired errors of the differences."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._values import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..comparison import Comparison

MARKS = {
    "exact": ("o", canvas.BLUE, "exact"),
    "lower": (">", canvas.VERMILLION, "lower bound"),
    "upper": ("<", canvas.PURPLE, "upper bound"),
    "estimate": ("D", canvas.GREEN, "estimate"),
}
FAR = 4.0  # times the distance of the middle model from the best: farther ones lie outside the frame
ROW = 0.34  # inches


class ComparisonDisplay(Display):
    """The evidence of each model, the best on top.

    names       [M]
    means       `[M]`, nats per row
    errors      `[M]`, standard errors over the rows
    differences `[M]`, paired standard errors of the difference to the best; NaN for it
    directions  [M], of "exact", "lower", "upper", "estimate"
    seeds       [M], the means at each seed, `[S]`
    left_out    names of models without a place in the order
    """

    title = "Comparison"

    def __init__(
        self,
        names: Sequence[str],
        means: ArrayLike,
        errors: ArrayLike,
        differences: ArrayLike,
        directions: Sequence[str],
        *,
        seeds: Sequence[ArrayLike] = (),
        left_out: Sequence[str] = (),
        units: str = "",
        count: int | None = None,
    ) -> None:
        self.names, self.directions, self.left_out = list(names), list(directions), list(left_out)
        self.means, self.errors, self.differences = (
            np.asarray(values, dtype=np.float64) for values in (means, errors, differences)
        )
        self.seeds: list[Floats] = [np.asarray(values, dtype=np.float64) for values in seeds]
        self.units, self.count = units, count
        sizes = {len(part) for part in (self.names, self.means, self.errors, self.differences, directions)}
        if len(sizes) > 1 or (self.seeds and len(self.seeds) != len(self.names)):
            raise ValueError("names, means, errors, differences, directions and seeds must be as many")

    @classmethod
    def from_comparison(cls, comparison: Comparison) -> ComparisonDisplay:
        """The ranked models of a comparison; DoesNotApply where there is none with a finite number."""
        ranked = [row for row in comparison.ranked if math.isfinite(row.mean)]
        if not ranked:
            raise DoesNotApply("no model of this comparison has a place in an order")
        behind = [comparison.behind(row) for row in ranked]
        shown = {row.name for row in ranked}
        return cls(
            [row.name for row in ranked],
            [row.mean for row in ranked],
            [row.se for row in ranked],
            [math.nan if one is None else one.se for one in behind],
            [row.direction for row in ranked],
            seeds=[[estimate.mean for estimate in row.estimates] for row in ranked],
            left_out=[row.name for row in comparison.rows if row.name not in shown],
            units=comparison.units,
            count=comparison.count,
        )

    @property
    def size(self) -> tuple[float, float]:
        longest = max(len(line) for name in self.names for line in _label(name).split("\n"))
        return 5.2 + 0.065 * longest, 1.5 + ROW * len(self.names)

    @property
    def caption(self) -> str:
        rows = "the same test rows" if self.count is None else f"the same {self.count:,} test rows"
        text = f"Mean log p(x) of {rows}, in nats per row; a larger number is better."
        if self.units:
            text += f" Units: {self.units}."
        if np.isfinite(self.errors).any():
            text += " Thick pale bars: ± one standard error over rows."
        if np.isfinite(self.differences).any():
            text += " Thin dark bars: ± one paired standard error of the difference to the best."
        if any(len(seeds) > 1 for seeds in self.seeds):
            text += " Grey dots: single seeds."
        if "lower" in self.directions:
            text += " A model with a lower bound may be better than it."
        if self._outside().any():
            text += " Models at the left edge lie outside the frame, at the number beside them."
        if self.left_out:
            text += f" Without a place: {', '.join(self.left_out)}."
        return text

    def draw(self, ax: Axes) -> None:
        places, outside = np.arange(len(self.names)), self._outside()
        low, high = self._limits()
        for kind, (marker, colour, label) in MARKS.items():
            here = np.array([direction == kind for direction in self.directions]) & ~outside
            if not here.any():
                continue
            x, y = self.means[here], places[here]
            ax.errorbar(x, y, xerr=_drawn(self.errors[here]), fmt="none", ecolor=canvas.PALE, elinewidth=7)
            ax.errorbar(
                x, y, xerr=_drawn(self.differences[here]), fmt="none", ecolor=canvas.INK, elinewidth=1.6
            )
            ax.plot(x, y, marker, ms=6.5, color=colour, mec="white", mew=0.8, label=label, zorder=5)
        for place, seeds in zip(places, self.seeds, strict=False):
            if len(seeds) > 1 and not outside[place]:
                inside = seeds[seeds > low]
                ax.plot(inside, np.full(len(inside), place + 0.24), ".", ms=4, color=canvas.GREY, zorder=4)
        for place in places[outside]:
            colour = MARKS[self.directions[place]][1]
            text = f"◂ {self.means[place]:,.4g}"
            ax.text(low, place, text, va="center", ha="left", fontsize=canvas.SMALL, color=colour)
        ax.axvline(self.means[0], color=canvas.GREY, lw=0.8, ls=":", zorder=0)
        ax.set_xlim(low, high)
        ax.set_ylim(len(self.names) - 0.4, -0.6)
        canvas.title(ax, "Held-out evidence")
        canvas.style(ax, "log p(x), nats per row (larger is better)", maths=False)
        ax.set_yticks(places, [_label(name) for name in self.names])
        ax.tick_params(axis="y", length=0, labelcolor=canvas.INK)
        ax.spines["left"].set_visible(False)
        if len(set(self.directions)) > 1 or self.directions[0] != "exact":
            legend = ax.legend(
                fontsize=canvas.SMALL,
                labelcolor=canvas.INK,
                frameon=False,
                loc="lower right",
                bbox_to_anchor=(1.0, 1.0),
                ncols=4,
                borderaxespad=0.2,
                handletextpad=0.2,
                columnspacing=1.2,
            )
            legend.set_zorder(6)

    def _outside(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Which models are so far behind that the others would be drawn on top of each other."""
        behind = self.means.max() - self.means
        middle = float(np.median(behind[behind > 0])) if (behind > 0).any() else 0.0
        outside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = behind > FAR * middle + 1e-12
        return outside

    def _limits(self) -> tuple[float, float]:
        """Of the axis: all bars of the models inside."""
        inside = ~self._outside()
        errors = np.fmax(np.nan_to_num(self.errors), np.nan_to_num(self.differences))[inside]
        low, high = float((self.means[inside] - errors).min()), float((self.means[inside] + errors).max())
        margin = 0.05 * (high - low) or 0.5
        room = 0.12 * (high - low) if not inside.all() else 0.0
        return low - margin - room, high + margin


def _label(name: str) -> str:
    """A model's name, its options on a line of their own."""
    head, *options = re.split(r":(?=[^:]*=)", name)
    return "\n".join([head, ", ".join(options)]) if options else name


def _drawn(errors: Floats) -> Floats:
    """Errors as bars take them: none where they are not known."""
    return np.nan_to_num(errors)
