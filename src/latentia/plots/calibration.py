"""Whether the posterior is calibrated: histograms of ranks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _canvas as canvas
from ._display import Display, DoesNotApply

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..diagnostics import Calibration
    from ..diagnostics._rows import Unit
    from ..model import Model

MOST = 12  # histograms in a picture
SHARE = 0.99  # of the bars of a right posterior, inside the envelope


class CalibrationDisplay(Display):
    """Ranks of the truth among draws from q(z | x), a histogram for each unit: flat if q is the posterior.

    The band holds 99 percent of the bars of a right posterior, each by itself. A hump says that q is too
    wide, a valley that it is too narrow, a slope that it is too high or too low. With more than 12 histograms
    those with the smallest p-values are shown.

    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), section 4.
    """

    title = "Calibration"

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        count = len(calibration.units)
        worst = np.argsort(calibration.p_values, kind="stable")[:MOST]
        self.shown = sorted(worst.tolist()) if count > MOST else list(range(count))

    @classmethod
    def from_model(cls, model: Model, **options: Any) -> CalibrationDisplay:
        """`calibration(model, **options)`. Raises DoesNotApply where there is no posterior to calibrate."""
        from .. import diagnostics

        if not model.latent or any(not model.q[name].has_density for name in model.latent):  # type: ignore[index]
            raise DoesNotApply(f"{model.p.equation()} has no latent variable with a density q")
        return cls(diagnostics.calibration(model, **options))

    @property
    def columns(self) -> int:
        return min(4, max(1, math.ceil(math.sqrt(len(self.shown)))))

    @property
    def size(self) -> tuple[float, float]:
        rows = -(-len(self.shown) // self.columns)
        return max(5.0, 2.5 * self.columns + 0.5), 1.75 * rows + 0.9

    @property
    def caption(self) -> str:
        made, count = self.calibration, len(self.calibration.units)
        few = f" Shown are the {MOST} of {count} with the smallest p-values." if count > MOST else ""
        return (
            f"{made.verdict}. Each of {made.simulations:,} simulations draws z and x from p and ranks that z "
            f"among {made.draws} draws from q(z | x). The band holds {SHARE:.0%} of the bars of a right "
            f"posterior.{few}"
        )

    def draw(self, ax: Axes) -> None:
        made = self.calibration
        counts, p_values, failing = made.counts, made.p_values, made.failing
        low, high = made.envelope(SHARE)
        edges = made.edges / (made.draws + 1)
        heading = "Calibrated" if made.passed else "Not calibrated"
        parts = canvas.panels(ax, len(self.shown), self.columns, f"{heading}: ranks of the truth")
        for place, (unit, part) in enumerate(zip(self.shown, parts, strict=True)):
            colour = canvas.VERMILLION if unit in failing else canvas.BLUE
            part.bar(edges[:-1], counts[unit], np.diff(edges), align="edge", color=colour, alpha=0.85)
            part.stairs(high, edges, baseline=low, fill=True, color=canvas.GREY, alpha=0.3, lw=0)
            part.stairs(made.expected, edges, color=canvas.INK, lw=0.8, baseline=None)
            self._style(part, made.units[unit], float(p_values[unit]))
            part.set_xlim(0, 1)
            part.set_ylim(0, 1.05 * max(float(counts[unit].max()), float(high.max())))
            below = place + self.columns >= len(self.shown)
            first = place % self.columns == 0
            canvas.style(part, "rank / (L + 1)" if below else "", "simulations" if first else "")
            part.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])

    def _style(self, part: Axes, unit: Unit, p_value: float) -> None:
        from ..diagnostics.calibration import LIKELIHOOD

        observed = r"$\log\,p(x\,|\,z)$"
        name = observed if unit == LIKELIHOOD else canvas.unit_name(unit.variable, unit.entry)
        shown = "< 0.0001" if p_value < 1e-4 else f"= {p_value:.2g}"
        canvas.title(part, f"{name}   p {shown}", canvas.NORMAL)
